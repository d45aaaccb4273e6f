"""The segmented convolution, the spatial convolution it is made of, and its towers."""

from spectrum.layers.arguments import ACTIVATIONS, ORDERS, Activation, Order, Pair, whole
from spectrum.layers.moving import composed, keep_layout, put_on_dial, resegmented
from spectrum.layers.segmented import SegmentedConv, dialled_channels
from spectrum.layers.spatial import UnevenConv2d, spatial_conv
from spectrum.layers.towers import Towers

__all__ = [
    "ACTIVATIONS",
    "ORDERS",
    "Activation",
    "Order",
    "Pair",
    "SegmentedConv",
    "Towers",
    "UnevenConv2d",
    "composed",
    "dialled_channels",
    "keep_layout",
    "put_on_dial",
    "resegmented",
    "spatial_conv",
    "whole",
]
