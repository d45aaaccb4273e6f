"""The configuration of a network: its name, its segments, its width and its options."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    model_validator,
)

from spectrum.errors import FieldError
from spectrum.layers.arguments import ACTIVATIONS, Activation, Order
from spectrum.networks.checks import MAX_WIDTH, Pooling
from spectrum.segments import format_setting
from spectrum.user_code import is_callable_name

__all__ = ["NETWORKS", "NetworkConfig", "is_user_code"]

_USER_CODE = ("segments", "num_classes", "in_channels", "width", "order")
_NO_BATCH_NORM = (*_USER_CODE, "activation", "dropout", "channel_multiple")
_BATCH_NORM = (*_NO_BATCH_NORM, "bn_eps", "bn_momentum")
_XCEPTION = (*_BATCH_NORM, "residual", "hidden", "repeats", "pooling")
_INCEPTION = (*_BATCH_NORM, "pooling", "aux_logits")
_XCEPTION_PRESETS = ("paper", "small", "tiny", "pointwise_stem", "no_stem")
# The fields of each network. ``spectrum.networks.build`` has the function that builds it.
_FIELDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_XCEPTION_PRESETS, _XCEPTION),
    "inception_v2": _INCEPTION,
    "inception_v3": _INCEPTION,
    "inception_v3_small": (*_BATCH_NORM, "pooling"),
    "inception_v3_tiny": (*_BATCH_NORM, "pooling"),
    "vgg16": _NO_BATCH_NORM,
    "vgg19": _NO_BATCH_NORM,
    "vgg16_bn": _BATCH_NORM,
    "vgg19_bn": _BATCH_NORM,
    "vgg_small": _BATCH_NORM,
    "resnet50": _BATCH_NORM,
    "resnet101": _BATCH_NORM,
    "resnet152": _BATCH_NORM,
    "resnext50_32x4d": _BATCH_NORM,
}
NETWORKS: tuple[str, ...] = tuple(_FIELDS)
_RESNETS = tuple(name for name in NETWORKS if name.startswith("res"))
_INCEPTIONS = tuple(name for name in NETWORKS if name.startswith("inception"))


def _check_name(name: Any) -> Any:
    if name not in NETWORKS and not (isinstance(name, str) and is_callable_name(name)):
        raise ValueError(f"must be one of {', '.join(NETWORKS)} or package.module:callable")
    return name


def _parse_activation(value: Any) -> Any:
    if value not in (None, *ACTIVATIONS, "none"):
        raise ValueError(f"must be one of none, {', '.join(ACTIVATIONS)}")
    return None if value == "none" else value


def _parse_order(value: Any) -> Any:
    return None if value == "own" else value


def is_user_code(name: str) -> bool:
    """Whether the name of a network is ``package.module:callable``, a user's own network."""
    return ":" in name


class NetworkConfig(BaseModel):
    """A network as a value: ``build`` makes the module, and ``model_copy`` makes a variation.

    ``name`` is a preset of ``xception``, another network in ``NETWORKS``, or
    ``package.module:callable``, a user's own network, which is passed to ``convert``. The other
    fields are arguments of the functions that build the networks, and are documented there. A
    field that the network doesn't have is refused. ``segments`` is stored as canonical text.
    ``order`` is None for the network's own order: ``"spatial_first"`` for ``xception``,
    ``"spatial_only"`` for ``resnet``, and for the others a plain convolution at one segment and
    ``"spatial_first"`` at more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, BeforeValidator(_check_name)] = "paper"
    segments: Annotated[str, BeforeValidator(format_setting)] = "C"
    num_classes: PositiveInt = 1000
    in_channels: PositiveInt = 3
    width: float = Field(default=1.0, gt=0, le=MAX_WIDTH)
    order: Annotated[Order | None, BeforeValidator(_parse_order)] = None
    activation: Annotated[Activation | None, BeforeValidator(_parse_activation)] = None
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
        """The fields that a network with this name has."""
        return {"name", *_FIELDS.get(name, _USER_CODE)}

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        fields = self.fields_of(self.name)
        for field, info in type(self).model_fields.items():
            value = getattr(self, field)
            if field not in fields and value != info.default:
                raise FieldError(
                    field, value, f"must not be given for {self.name}, which doesn't take it"
                )
        if self.order is None and self.name in _XCEPTION_PRESETS:
            object.__setattr__(self, "order", "spatial_first")
        if self.order is None and self.name in _RESNETS:
            object.__setattr__(self, "order", "spatial_only")
        if "bn_eps" not in self.model_fields_set and self.name in _INCEPTIONS:
            object.__setattr__(self, "bn_eps", 1e-3)
        return self
