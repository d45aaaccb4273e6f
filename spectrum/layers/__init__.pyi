from .arguments import ACTIVATIONS, ORDERS, Activation, Order, Pair, check_int
from .batch_norm import BatchNorm2d, BatchNormReLU
from .resegment import from_conv2d, fuse_pointwise, resegment_layer
from .segmented import SegmentedConv, segmented_channels
from .shared import SharedConv
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
    "match_memory_format",
    "resegment_layer",
    "segmented_channels",
    "spatial_conv",
]
