"""The sizes of RegNets. No torch is imported, since defaults of configurations follow from them.

Radosavovic et al., Designing Network Design Spaces (arXiv:2003.13678), the figures of the top
RegNetX and RegNetY models. The number in a name is about the network's MACs at 224 pixels, in units
of 100 million.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Four: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class RegNetSize:
    """The size of a RegNet at width 1.

    Attributes:
        depths: blocks of each of the four stages.
        widths: channels of each stage.
        segment_width: channels of a segment, the paper's group width. A stage with fewer channels
            has one segment.
        squeeze: whether squeeze-and-excitation follows the spatial convolution, as in RegNetY.
        stem_stride: stride of the stem.
        strides: stride of each stage.
    """

    depths: Four
    widths: Four
    segment_width: int
    squeeze: bool = False
    stem_stride: int = 2
    strides: Four = (2, 2, 2, 2)

    @property
    def segments(self) -> str:
        """The published segments."""
        return f"C/{self.segment_width}"


def _small_images(*, squeeze: bool) -> RegNetSize:
    # Solved so that budgets are met closely at every number of segments: these channel counts round
    # at different widths.
    widths = (26, 43, 70, 111)
    return RegNetSize((1, 1, 3, 1), widths, 8, squeeze, stem_stride=1, strides=(1, 2, 2, 2))


REGNET_SIZES: dict[str, RegNetSize] = {
    "x_tiny": _small_images(squeeze=False),
    "x_002": RegNetSize((1, 1, 4, 7), (24, 56, 152, 368), 8),
    "x_004": RegNetSize((1, 2, 7, 12), (32, 64, 160, 384), 16),
    "x_006": RegNetSize((1, 3, 5, 7), (48, 96, 240, 528), 24),
    "x_008": RegNetSize((1, 3, 7, 5), (64, 128, 288, 672), 16),
    "x_016": RegNetSize((2, 4, 10, 2), (72, 168, 408, 912), 24),
    "x_032": RegNetSize((2, 6, 15, 2), (96, 192, 432, 1008), 48),
    "x_040": RegNetSize((2, 5, 14, 2), (80, 240, 560, 1360), 40),
    "x_064": RegNetSize((2, 4, 10, 1), (168, 392, 784, 1624), 56),
    "x_080": RegNetSize((2, 5, 15, 1), (80, 240, 720, 1920), 120),
    "x_120": RegNetSize((2, 5, 11, 1), (224, 448, 896, 2240), 112),
    "x_160": RegNetSize((2, 6, 13, 1), (256, 512, 896, 2048), 128),
    "x_320": RegNetSize((2, 7, 13, 1), (336, 672, 1344, 2520), 168),
    "y_tiny": _small_images(squeeze=True),
    "y_002": RegNetSize((1, 1, 4, 7), (24, 56, 152, 368), 8, squeeze=True),
    "y_004": RegNetSize((1, 3, 6, 6), (48, 104, 208, 440), 8, squeeze=True),
    "y_006": RegNetSize((1, 3, 7, 4), (48, 112, 256, 608), 16, squeeze=True),
    "y_008": RegNetSize((1, 3, 8, 2), (64, 128, 320, 768), 16, squeeze=True),
    "y_016": RegNetSize((2, 6, 17, 2), (48, 120, 336, 888), 24, squeeze=True),
    "y_032": RegNetSize((2, 5, 13, 1), (72, 216, 576, 1512), 24, squeeze=True),
    "y_040": RegNetSize((2, 6, 12, 2), (128, 192, 512, 1088), 64, squeeze=True),
    "y_064": RegNetSize((2, 7, 14, 2), (144, 288, 576, 1296), 72, squeeze=True),
    "y_080": RegNetSize((2, 4, 10, 1), (168, 448, 896, 2016), 56, squeeze=True),
    "y_120": RegNetSize((2, 5, 11, 1), (224, 448, 896, 2240), 112, squeeze=True),
    "y_160": RegNetSize((2, 4, 11, 1), (224, 448, 1232, 3024), 112, squeeze=True),
    "y_320": RegNetSize((2, 5, 12, 1), (232, 696, 1392, 3712), 232, squeeze=True),
}
