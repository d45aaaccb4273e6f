"""The configuration of a network: its name, its segments, its width and its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_validator

from spectrum.errors import FieldError
from spectrum.fields import Config
from spectrum.networks.convnext_sizes import CONVNEXT_SIZES, convnext_name
from spectrum.networks.options import Options
from spectrum.networks.regnet_sizes import REGNET_SIZES, STAGE_FIELDS, regnet_size
from spectrum.segments import format_setting
from spectrum.user_code import is_callable_name


@dataclass(frozen=True)
class NamedNetwork:
    """What the name of a network stands for.

    Attributes:
        function: the name of the function that builds it.
        fields: the fields of ``NetworkConfig`` that it has.
        arguments: the arguments of the function that follow from the name.
        defaults: its defaults of fields, where they aren't those of ``NetworkConfig``.
    """

    function: str
    fields: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


_USER_CODE = ("segments", "num_classes", "in_channels", "width", "order")
_POINTWISE = ("pointwise_segments", "shuffle")
_NO_BATCH_NORM = (*_USER_CODE, "activation", "dropout", "channel_multiple")
_BATCH_NORM = (*_NO_BATCH_NORM, "bn_eps", "bn_momentum")
_POOLING = (*_BATCH_NORM, "pooling")
_VGG = (*_NO_BATCH_NORM, *_POINTWISE)
_DIVIDED_1X1 = (*_BATCH_NORM, *_POINTWISE)
_INCEPTION = (*_POOLING, *_POINTWISE)
_AUXILIARY = (*_INCEPTION, "aux_logits")
_XCEPTION = (*_INCEPTION, "residual", "hidden", "repeats")
_REGNET = (*_BATCH_NORM, *STAGE_FIELDS)
_SPATIAL_FIRST = {"order": "spatial_first"}
_SPATIAL_ONLY = {"order": "spatial_only"}
_BN_EPS = {"bn_eps": 1e-3}
SHUFFLENET_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""The channels of a ShuffleNet's first stage by its groups (arXiv:1707.01083, table 1)."""
V2_SEGMENTS = "stage1=1+stage2=1+stage3=1+stage4=C+stage5=C+stage6=C"
"""The segments of the published EfficientNetV2-S (arXiv:2104.00298, table 4)."""
_MULTIPLE_OF_8 = {"channel_multiple": 8}
_RESNEXT50_32X4D = {"depth": 50, "cardinality": 32, "width_per_group": 4}
NAMED_NETWORKS: dict[str, NamedNetwork] = {
    **{
        preset: NamedNetwork("xception", _XCEPTION, {"preset": preset}, _SPATIAL_FIRST)
        for preset in ("paper", "small", "tiny", "pointwise_stem", "no_stem")
    },
    "inception_v2": NamedNetwork("inception_v2", _AUXILIARY, {}, _BN_EPS),
    "inception_v3": NamedNetwork("inception_v3", _AUXILIARY, {}, _BN_EPS),
    "inception_v3_small": NamedNetwork("inception_v3", _INCEPTION, {"preset": "small"}, _BN_EPS),
    "inception_v3_tiny": NamedNetwork("inception_v3", _INCEPTION, {"preset": "tiny"}, _BN_EPS),
    "vgg16": NamedNetwork("vgg", _VGG, {"depth": 16}),
    "vgg19": NamedNetwork("vgg", _VGG, {"depth": 19}),
    "vgg16_bn": NamedNetwork("vgg", _DIVIDED_1X1, {"depth": 16, "batch_norm": True}),
    "vgg19_bn": NamedNetwork("vgg", _DIVIDED_1X1, {"depth": 19, "batch_norm": True}),
    "vgg_small": NamedNetwork("vgg", _DIVIDED_1X1, {"preset": "small", "batch_norm": True}),
    "resnet50": NamedNetwork("resnet", _BATCH_NORM, {"depth": 50}, _SPATIAL_ONLY),
    "resnet101": NamedNetwork("resnet", _BATCH_NORM, {"depth": 101}, _SPATIAL_ONLY),
    "resnet152": NamedNetwork("resnet", _BATCH_NORM, {"depth": 152}, _SPATIAL_ONLY),
    "resnext50_32x4d": NamedNetwork("resnet", _BATCH_NORM, _RESNEXT50_32X4D, _SPATIAL_ONLY),
    **{
        f"shufflenet_g{groups}": NamedNetwork(
            "shufflenet",
            _DIVIDED_1X1,
            {"channels": channels},
            {**_SPATIAL_ONLY, "pointwise_segments": str(groups), "shuffle": groups > 1},
        )
        for groups, channels in SHUFFLENET_CHANNELS.items()
    },
    "shufflenet_tiny": NamedNetwork(
        "shufflenet",
        _DIVIDED_1X1,
        {"channels": 120, "preset": "tiny"},
        {**_SPATIAL_ONLY, "pointwise_segments": "3", "shuffle": True},
    ),
    **{
        f"regnet{name}": NamedNetwork(
            "regnet", _REGNET, {"size": name}, {**_SPATIAL_ONLY, "segments": size.segments}
        )
        for name, size in REGNET_SIZES.items()
    },
    **{
        convnext_name(size): NamedNetwork(
            "convnext", _NO_BATCH_NORM, {"size": size}, {**_SPATIAL_ONLY, "segments": "C"}
        )
        for size in CONVNEXT_SIZES
    },
    "mobilenetv2": NamedNetwork(
        "mobilenetv2", _BATCH_NORM, {}, {**_SPATIAL_ONLY, **_MULTIPLE_OF_8}
    ),
    "mobilenetv2_tiny": NamedNetwork("mobilenetv2", _BATCH_NORM, {"preset": "tiny"}, _SPATIAL_ONLY),
    "efficientnet_b0": NamedNetwork(
        "efficientnet_b0", _BATCH_NORM, {}, {**_SPATIAL_ONLY, **_MULTIPLE_OF_8}
    ),
    "efficientnetv2_s": NamedNetwork(
        "efficientnetv2_s", _BATCH_NORM, {}, {**_MULTIPLE_OF_8, "segments": V2_SEGMENTS}
    ),
    "efficientnetv2_tiny": NamedNetwork(
        "efficientnetv2_s", _BATCH_NORM, {"preset": "tiny"}, {"segments": V2_SEGMENTS}
    ),
}
NETWORKS: tuple[str, ...] = tuple(NAMED_NETWORKS)


def _check_name(name: Any) -> Any:
    if name not in NETWORKS and not (isinstance(name, str) and is_callable_name(name)):
        raise ValueError(f"must be one of {', '.join(NETWORKS)} or package.module:callable")
    return name


def is_user_code(name: str) -> bool:
    """Whether the name of a network is ``package.module:callable``, a user's own network."""
    return ":" in name


class _Point(Config):
    # A base of its own, because the fields of the last base come first.
    name: Annotated[str, BeforeValidator(_check_name)] = "paper"
    segments: Annotated[str, BeforeValidator(format_setting)] = "C"


class NetworkConfig(Options, _Point):
    """A network as a value: ``build`` makes the module, and ``model_copy`` makes a variation.

    ``name`` is a preset of ``xception``, another network in ``NETWORKS``, or
    ``package.module:callable``, a user's own network, which is passed to ``convert``. The other
    fields are arguments of the functions that build the networks, and are documented there. A
    field that the network doesn't have is refused. ``segments`` is stored as canonical text; its
    default is ``"C"``, and for ``regnet`` and ``efficientnetv2_s`` the published segments.
    ``order`` is None for the network's own order: ``"spatial_first"`` for ``xception``,
    ``"spatial_only"`` for ``resnet``, ``shufflenet``, ``mobilenetv2``, ``efficientnet_b0``,
    ``regnet`` and ``convnext``, that of ``efficientnetv2_s`` as described there, and for the others
    a plain convolution at one segment and ``"spatial_first"`` at more. ``pointwise_segments`` is
    stored as ``segments`` is. ``shuffle`` becomes False where ``pointwise_segments`` is one, since
    it then moves nothing.
    """

    @staticmethod
    def fields_of(name: str) -> set[str]:
        """The fields that a network with this name has."""
        named = NAMED_NETWORKS.get(name)
        return {"name", *(named.fields if named else (*_USER_CODE, *_POINTWISE))}

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        fields = self.fields_of(self.name)
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if name not in fields and value != info.default:
                raise FieldError(
                    name, value, f"must not be given for {self.name}, which doesn't take it"
                )
        named = NAMED_NETWORKS.get(self.name)
        for name, default in named.defaults.items() if named else ():
            if name not in self.model_fields_set or getattr(self, name) is None:
                object.__setattr__(self, name, default)
        if named is not None and named.function == "regnet":
            regnet_size(named.arguments["size"], self.depth, self.w0, self.wa, self.wm)
        if self.pointwise_segments == "1":
            object.__setattr__(self, "shuffle", False)
        return self
