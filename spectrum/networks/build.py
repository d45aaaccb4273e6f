"""Builds the network that a configuration describes."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn

from spectrum.errors import FieldError
from spectrum.layers import Activation, Order
from spectrum.networks.code import call_user_code
from spectrum.networks.config import NAMED_NETWORKS, NetworkConfig, is_user_code
from spectrum.networks.convert import convert
from spectrum.networks.convnext import convnext
from spectrum.networks.efficientnet import efficientnet_b0, efficientnetv2_s
from spectrum.networks.inception import inception_v2, inception_v3
from spectrum.networks.mobilenetv2 import mobilenetv2
from spectrum.networks.regnet import regnet
from spectrum.networks.resnet import resnet
from spectrum.networks.shufflenet import shufflenet
from spectrum.networks.vgg import vgg
from spectrum.networks.xception import xception
from spectrum.segments import Setting

_FUNCTIONS: dict[str, Callable[..., nn.Module]] = {
    function.__name__: function
    for function in (
        *(xception, inception_v2, inception_v3, vgg, resnet, shufflenet),
        *(mobilenetv2, efficientnet_b0, efficientnetv2_s, regnet, convnext),
    )
}


def build(
    network: NetworkConfig | str,
    segments: Setting | None = None,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    width: float | None = None,
    order: Order | None = None,
    activation: Activation | None = None,
) -> nn.Module:
    """Build a network with random weights from torch's generator.

    ``build("tiny", "C/4", num_classes=10)`` is short for
    ``build(NetworkConfig(name="tiny", segments="C/4", num_classes=10))``.

    Args:
        network: a configuration, or the name of one: a name in ``NETWORKS``, or
            ``package.module:callable``.
        segments: this and the others are fields of ``NetworkConfig``, for a network that is given
            by its name. None is the field's default.
        num_classes: number of classes.
        in_channels: channels of the images.
        width: multiplier on the channel counts.
        order: order of the spatial and the pointwise convolution.
        activation: activation between the two.

    Raises:
        FieldError: a field is out of its bounds or is given beside a configuration, the segments
            don't fit the layers, or a user's callable doesn't exist, fails or returns no module.
    """
    fields = {
        "segments": segments,
        "num_classes": num_classes,
        "in_channels": in_channels,
        "width": width,
        "order": order,
        "activation": activation,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    if isinstance(network, NetworkConfig):
        for name, value in given.items():
            raise FieldError(name, value, "must not be given beside a NetworkConfig, which has it")
        return _build(network)
    try:
        return _build(NetworkConfig.checked({"name": network, **given}))
    except FieldError as error:
        raise error.renamed("network" if error.field == "name" else error.field) from None


def _build(config: NetworkConfig) -> nn.Module:
    if is_user_code(config.name):
        module = call_user_code(
            config.name,
            num_classes=config.num_classes,
            in_channels=config.in_channels,
            width=config.width,
        )
        return convert(
            module,
            config.segments,
            config.order,
            pointwise_segments=config.pointwise_segments,
            shuffle=config.shuffle,
        )
    named = NAMED_NETWORKS[config.name]
    fields = {field: getattr(config, field) for field in named.fields}
    return _FUNCTIONS[named.function](**named.arguments, **fields)


def build_on_meta(config: NetworkConfig) -> nn.Module:
    """Build the network on the meta device, without memory for its weights.

    Layers with fewer channels than segments give no warning.
    """
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build(config)
