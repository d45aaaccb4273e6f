"""Builds the network that a configuration describes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from spectrum.networks.code import call_user_code
from spectrum.networks.config import NetworkConfig, is_user_code
from spectrum.networks.convert import convert
from spectrum.networks.inception import inception_v2, inception_v3
from spectrum.networks.resnet import resnet
from spectrum.networks.vgg import vgg
from spectrum.networks.xception import PRESETS, xception

__all__ = ["build", "build_on_meta"]

_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    **{preset: partial(xception, preset=preset) for preset in PRESETS},
    "inception_v2": inception_v2,
    "inception_v3": inception_v3,
    "inception_v3_small": partial(inception_v3, preset="small"),
    "inception_v3_tiny": partial(inception_v3, preset="tiny"),
    "vgg16": partial(vgg, 16),
    "vgg19": partial(vgg, 19),
    "vgg16_bn": partial(vgg, 16, batch_norm=True),
    "vgg19_bn": partial(vgg, 19, batch_norm=True),
    "vgg_small": partial(vgg, 16, preset="small", batch_norm=True),
    "resnet50": partial(resnet, 50),
    "resnet101": partial(resnet, 101),
    "resnet152": partial(resnet, 152),
    "resnext50_32x4d": partial(resnet, 50, cardinality=32, width_per_group=4),
}


def build(config: NetworkConfig) -> nn.Module:
    """Build the network that ``config`` describes, with random weights from torch's generator.

    Raises:
        ValueError: the segments don't fit the layers, or a user's callable doesn't exist, fails or
            returns no module.
    """
    if is_user_code(config.name):
        module = call_user_code(
            config.name,
            num_classes=config.num_classes,
            in_channels=config.in_channels,
            width=config.width,
        )
        return convert(module, config.segments, config.order)
    fields = config.fields_of(config.name) - {"name"}
    return _BUILDERS[config.name](**{field: getattr(config, field) for field in fields})


def build_on_meta(config: NetworkConfig) -> nn.Module:
    """Build the network on the meta device, without memory for its weights.

    Layers with fewer channels than segments give no warning.
    """
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build(config)
