"""The segmented convolution, the spatial convolution it is made of, and its towers."""

from spectrum.layers.arguments import ACTIVATIONS, ORDERS, Activation, Order, Pair, whole
from spectrum.layers.moving import composed, keep_layout, put_on_dial, resegmented
from spectrum.layers.normalize import Chain, normalize
from spectrum.layers.plans import PLANS, Plan, plan_of, using_plan
from spectrum.layers.segmented import SegmentedConv, dialled_channels
from spectrum.layers.spatial import UnevenConv2d, spatial_conv
from spectrum.layers.towers import Towers

__all__ = [
    "ACTIVATIONS",
    "ORDERS",
    "PLANS",
    "Activation",
    "Chain",
    "Order",
    "Pair",
    "Plan",
    "SegmentedConv",
    "Towers",
    "UnevenConv2d",
    "composed",
    "dialled_channels",
    "keep_layout",
    "normalize",
    "plan_of",
    "put_on_dial",
    "resegmented",
    "spatial_conv",
    "using_plan",
    "whole",
]
