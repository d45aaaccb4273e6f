"""The segmented convolution and the spatial convolution it is made of."""

from spectrum.layers.checks import whole
from spectrum.layers.segmented import ACTIVATIONS, ORDERS, SegmentedConv, dialled_channels
from spectrum.layers.spatial import UnevenConv2d, spatial_conv

__all__ = [
    "ACTIVATIONS",
    "ORDERS",
    "SegmentedConv",
    "UnevenConv2d",
    "dialled_channels",
    "spatial_conv",
    "whole",
]
