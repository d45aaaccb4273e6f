"""The sizes of RegNets. No torch is imported, since defaults of configurations follow from them.

Radosavovic et al., Designing Network Design Spaces (arXiv:2003.13678), the figures of the top
RegNetX and RegNetY models, and the rule of sections 3.3 and 3.4 that gives such sizes. The number
in a name is about the network's MACs at 224 pixels, in units of 100 million.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TypeAlias

from spectrum.errors import CombinationError, FieldError

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
        whole_segments: whether ``with_stages`` rounds widths to multiples of 8, then of
            ``segment_width``, as the authors do. Otherwise it rounds them to whole numbers.
    """

    depths: Four
    widths: Four
    segment_width: int
    squeeze: bool = False
    stem_stride: int = 2
    strides: Four = (2, 2, 2, 2)
    whole_segments: bool = True

    @property
    def segments(self) -> str:
        """The published segments."""
        return f"C/{self.segment_width}"

    def with_stages(self, depth: int, w0: int, wa: float, wm: float) -> RegNetSize:
        """This size with the depths and widths of the paper's equations 2 to 4.

        Block j of ``depth`` should have ``w0 + wa * j`` channels. It gets ``w0 * wm**s``, with the
        whole number s that comes nearest, rounded to a multiple of 8. Blocks of equal width are a
        stage. The width of a stage is then rounded to a multiple of the segment width of this
        size, unless it is less. It doesn't depend on the segments that a network is built with, so
        a network has the same widths at every point of the dial.

        Raises:
            FieldError: ``w0`` isn't a multiple of 8.
            CombinationError: there aren't four stages.
        """
        multiple = 8 if self.whole_segments else 1
        if w0 % multiple:
            raise FieldError("w0", w0, f"must be a multiple of {multiple}")
        powers = [round(math.log((w0 + wa * j) / w0) / math.log(wm)) for j in range(depth)]
        stages = Counter(round(w0 * wm**power / multiple) * multiple for power in powers)
        if len(stages) != 4:
            given = f"w0 (={w0}), wa (={wa:g}) and wm (={wm:g})"
            allowed = f"must give four stages with {given}, not {len(stages)}"
            raise CombinationError("depth", depth, allowed)
        n1, n2, n3, n4 = stages.values()
        c1, c2, c3, c4 = map(self._round_to_segments, stages)
        return replace(self, depths=(n1, n2, n3, n4), widths=(c1, c2, c3, c4))

    def _round_to_segments(self, width: int) -> int:
        if not self.whole_segments or width < self.segment_width:
            return width
        return round(width / self.segment_width) * self.segment_width


def _small_images(*, squeeze: bool) -> RegNetSize:
    # Solved so that budgets are met closely at every number of segments: these channel counts round
    # at different widths.
    widths = (26, 43, 70, 111)
    strides = (1, 2, 2, 2)
    return RegNetSize((1, 1, 3, 1), widths, 8, squeeze, 1, strides, whole_segments=False)


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


STAGE_FIELDS = ("depth", "w0", "wa", "wm")
"""The options that together replace the depths and widths of a size."""


def regnet_size(
    name: str, depth: int | None, w0: int | None, wa: float | None, wm: float | None
) -> RegNetSize:
    """The size with a name, with stages of its own if all four parameters are given.

    Args:
        name: a key of ``REGNET_SIZES``.
        depth: the number of blocks. The parameters are those of ``RegNetSize.with_stages``.
        w0: the initial width.
        wa: the slope of the width.
        wm: the ratio of the widths of stages.

    Raises:
        FieldError: some of the four are None, but not all, or they can't be what they are.
    """
    size = REGNET_SIZES[name]
    if depth is not None and w0 is not None and wa is not None and wm is not None:
        return size.with_stages(depth, w0, wa, wm)
    given = dict(zip(STAGE_FIELDS, (depth, w0, wa, wm), strict=True))
    missing = ", ".join(field for field, value in given.items() if value is None)
    for field, value in given.items():
        if value is not None:
            raise FieldError(field, value, f"needs {missing} as well")
    return size
