"""The configuration of a network: which one, where on the dial, how wide."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt
from torch import nn

from spectrum.layers.segmented import ACTIVATIONS, Activation, Order
from spectrum.networks.checks import MAX_WIDTH
from spectrum.networks.xception import PRESETS, Pooling, xception
from spectrum.segments import format_setting

__all__ = ["NETWORKS", "NetworkConfig", "build"]

NETWORKS: tuple[str, ...] = tuple(PRESETS)


def _known(name: str) -> str:
    if name not in NETWORKS:
        raise ValueError(f"must be one of {', '.join(NETWORKS)}")
    return name


def _activation(value: Any) -> Any:
    if value not in (*ACTIVATIONS, "none"):
        raise ValueError(f"must be one of none, {', '.join(filter(None, ACTIVATIONS))}")
    return None if value == "none" else value


class NetworkConfig(BaseModel):
    """A network as a value: ``build`` makes the module, ``model_copy`` a variation.

    The fields are the arguments of ``xception``, which documents them, ``name`` for its preset.
    ``segments`` is kept as canonical text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, BeforeValidator(_known)] = "paper"
    segments: Annotated[str, BeforeValidator(format_setting)] = "C"
    num_classes: PositiveInt = 1000
    in_channels: PositiveInt = 3
    width: float = Field(default=1.0, gt=0, le=MAX_WIDTH)
    order: Order = "spatial_first"
    activation: Annotated[Activation | None, BeforeValidator(_activation)] = None
    residual: bool = True
    hidden: tuple[PositiveInt, ...] = ()
    dropout: float = Field(default=0.0, ge=0, lt=1)
    repeats: NonNegativeInt | None = None
    channel_multiple: PositiveInt = 1
    pooling: Pooling = "symmetric"
    bn_eps: float = Field(default=1e-5, gt=0)
    bn_momentum: float = Field(default=0.1, gt=0, le=1)


def build(config: NetworkConfig) -> nn.Module:
    """The network that ``config`` describes, with fresh weights from torch's random state.

    Raises:
        ValueError: its segments don't fit its layers.
    """
    return xception(
        config.segments,
        num_classes=config.num_classes,
        preset=config.name,
        in_channels=config.in_channels,
        width=config.width,
        order=config.order,
        activation=config.activation,
        residual=config.residual,
        hidden=config.hidden,
        dropout=config.dropout,
        repeats=config.repeats,
        channel_multiple=config.channel_multiple,
        pooling=config.pooling,
        bn_eps=config.bn_eps,
        bn_momentum=config.bn_momentum,
    )
