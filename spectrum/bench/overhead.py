"""What calling our layer costs beside torch's, where torch's operators run in both."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from spectrum.costs.timing import time_interleaved
from spectrum.kernels import using_plan
from spectrum.layers import SegmentedConv
from spectrum.training.seeding import seeded

_CALLS = 500  # that are timed together
_ROUNDS = 15
_CHANNELS, _SEGMENTS = 8, 4


def measure_overhead() -> float:
    """Measure by how many microseconds our layer's call is longer than ``nn.Conv2d``'s.

    The images are so small that the calls are most of the time. Both run torch's own convolution.

    Returns:
        The median of the differences in each round.
    """
    with seeded(0), torch.inference_mode(), using_plan("native"):
        ours = SegmentedConv(_CHANNELS, _CHANNELS, segments=_SEGMENTS, order="spatial_only")
        native = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, groups=_SEGMENTS, bias=False)
        x = torch.randn(1, _CHANNELS, 4, 4)

        def repeat(layer: nn.Module) -> Callable[[], None]:
            def call() -> None:
                for _ in range(_CALLS):
                    layer(x)

            return call

        calls = {"ours": repeat(ours), "native": repeat(native)}
        timed = time_interleaved(calls, seconds=0, min_repeats=_ROUNDS)
    pairs = zip(timed["ours"].samples, timed["native"].samples, strict=True)
    return 1e6 / _CALLS * median(ours - native for ours, native in pairs)
