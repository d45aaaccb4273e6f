"""The configuration of a network: which one, where on the dial, how wide."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    model_validator,
)
from torch import nn

from spectrum.layers import ACTIVATIONS, Activation, Order
from spectrum.networks.checks import MAX_WIDTH
from spectrum.networks.code import call_code, is_code, is_code_name
from spectrum.networks.convert import convert
from spectrum.networks.inception import inception_v2, inception_v3
from spectrum.networks.resnet import resnet
from spectrum.networks.vgg import vgg
from spectrum.networks.xception import PRESETS, Pooling, xception
from spectrum.segments import format_setting

__all__ = ["NETWORKS", "NetworkConfig", "build"]

_CODE = ("segments", "num_classes", "in_channels", "width", "order")
_PLAIN = (*_CODE, "activation", "dropout", "channel_multiple")
_NORMED = (*_PLAIN, "bn_eps", "bn_momentum")
_XCEPTION = (*_NORMED, "residual", "hidden", "repeats", "pooling")
_INCEPTION = (*_NORMED, "pooling", "aux_logits")
# What builds each network, and the fields that it takes as arguments.
_BUILDERS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    **{preset: (partial(xception, preset=preset), _XCEPTION) for preset in PRESETS},
    "inception_v2": (inception_v2, _INCEPTION),
    "inception_v3": (inception_v3, _INCEPTION),
    "inception_v3_small": (partial(inception_v3, preset="small"), (*_NORMED, "pooling")),
    "inception_v3_tiny": (partial(inception_v3, preset="tiny"), (*_NORMED, "pooling")),
    "vgg16": (partial(vgg, 16), _PLAIN),
    "vgg19": (partial(vgg, 19), _PLAIN),
    "vgg16_bn": (partial(vgg, 16, batch_norm=True), _NORMED),
    "vgg19_bn": (partial(vgg, 19, batch_norm=True), _NORMED),
    "vgg_small": (partial(vgg, 16, preset="small", batch_norm=True), _NORMED),
    "resnet50": (partial(resnet, 50), _NORMED),
    "resnet101": (partial(resnet, 101), _NORMED),
    "resnet152": (partial(resnet, 152), _NORMED),
    "resnext50_32x4d": (partial(resnet, 50, cardinality=32, width_per_group=4), _NORMED),
}
NETWORKS: tuple[str, ...] = tuple(_BUILDERS)
_RESIDUAL = tuple(name for name in NETWORKS if name.startswith("res"))
_INCEPTIONS = tuple(name for name in NETWORKS if name.startswith("inception"))


def _known(name: Any) -> Any:
    if name not in NETWORKS and not (isinstance(name, str) and is_code_name(name)):
        raise ValueError(f"must be one of {', '.join(NETWORKS)} or package.module:callable")
    return name


def _activation(value: Any) -> Any:
    if value not in (*ACTIVATIONS, "none"):
        raise ValueError(f"must be one of none, {', '.join(filter(None, ACTIVATIONS))}")
    return None if value == "none" else value


def _order(value: Any) -> Any:
    return None if value == "own" else value


class NetworkConfig(BaseModel):
    """A network as a value: ``build`` makes the module, ``model_copy`` a variation.

    ``name`` is a preset of ``xception``, another network of ``NETWORKS``, or
    ``package.module:callable``, a user's own model, which ``convert`` puts on the dial. The other
    fields are the arguments of the functions that build them, which document them; a field that
    the network doesn't take is refused. ``segments`` is kept as canonical text. ``order`` is None
    for the network's own: ``"spatial_first"`` for ``xception``, ``"spatial_only"`` for ``resnet``,
    and for the others the plain convolution at one segment, ``"spatial_first"`` at more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, BeforeValidator(_known)] = "paper"
    segments: Annotated[str, BeforeValidator(format_setting)] = "C"
    num_classes: PositiveInt = 1000
    in_channels: PositiveInt = 3
    width: float = Field(default=1.0, gt=0, le=MAX_WIDTH)
    order: Annotated[Order | None, BeforeValidator(_order)] = None
    activation: Annotated[Activation | None, BeforeValidator(_activation)] = None
    residual: bool = True
    hidden: tuple[PositiveInt, ...] = ()
    dropout: float = Field(default=0.0, ge=0, lt=1)
    repeats: int | None = Field(default=None, ge=0, le=1000)
    channel_multiple: PositiveInt = 1
    pooling: Pooling = "symmetric"
    bn_eps: float = Field(default=1e-5, gt=0)
    bn_momentum: float = Field(default=0.1, gt=0, le=1)
    aux_logits: bool = False

    @staticmethod
    def fields_of(name: str) -> set[str]:
        """The fields that a network of this name takes."""
        _, taken = _BUILDERS.get(name, (None, _CODE))
        return {"name", *taken}

    @model_validator(mode="after")
    def _fits_the_network(self) -> Self:
        taken = self.fields_of(self.name)
        for field, about in type(self).model_fields.items():
            value = getattr(self, field)
            if field not in taken and value != about.default:
                raise ValueError(
                    f"{field} (={value!r}) must not be given for {self.name}, which doesn't take it"
                )
        if self.order is None and self.name in PRESETS:
            object.__setattr__(self, "order", "spatial_first")
        if self.order is None and self.name in _RESIDUAL:
            object.__setattr__(self, "order", "spatial_only")
        if "bn_eps" not in self.model_fields_set and self.name in _INCEPTIONS:
            object.__setattr__(self, "bn_eps", 1e-3)
        return self


def build(config: NetworkConfig) -> nn.Module:
    """The network that ``config`` describes, with fresh weights from torch's random state.

    Raises:
        ValueError: its segments don't fit its layers, or a user's callable isn't there, fails or
            returns no module.
    """
    if is_code(config.name):
        module = call_code(
            config.name,
            num_classes=config.num_classes,
            in_channels=config.in_channels,
            width=config.width,
        )
        return convert(module, config.segments, config.order)
    builder, taken = _BUILDERS[config.name]
    return builder(**{field: getattr(config, field) for field in taken})
