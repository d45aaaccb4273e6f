from .arguments import ACTIVATIONS, ORDERS, Activation, Order, Pair, check_int
from .batch_norm import BatchNorm2d, BatchNormReLU
from .resegment import (
    from_conv2d,
    fuse_pointwise,
    pointwise_weight,
    resegment_layer,
    resegment_pointwise,
)
from .segmented import SegmentedConv, segmented_channels
from .shared import SharedConv
from .shuffle import interleave, separate
from .spatial import UnevenConv2d, match_memory_format, spatial_conv
from .towers import Towers

__all__ = [
    "ACTIVATIONS",
    "ORDERS",
    "Activation",
    "BatchNorm2d",
    "BatchNormReLU",
    "Order",
    "Pair",
    "SegmentedConv",
    "SharedConv",
    "Towers",
    "UnevenConv2d",
    "check_int",
    "from_conv2d",
    "fuse_pointwise",
    "interleave",
    "match_memory_format",
    "pointwise_weight",
    "resegment_layer",
    "resegment_pointwise",
    "segmented_channels",
    "separate",
    "spatial_conv",
]
