"""Time each plan of the spatial convolution; the table in spectrum.kernels.plans follows this.

python benchmarks/plans.py [CHANNELS SIZE BATCH THREADS]
"""

from __future__ import annotations

import sys

import torch

from spectrum import SegmentedConv
from spectrum.kernels import PLANS
from spectrum.kernels.tune import time_plans

SHAPES = ((728, 19, 8, 2), (128, 16, 32, 1), (64, 8, 64, 1), (128, 4, 64, 1))
WIDTHS = (1, 2, 4, 7, 8, 13, 14, 16, 26, 28, 32, 52, 64, 91)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
SECONDS = 0.5  # for all plans of a layer


def main() -> None:
    """Print milliseconds per plan, one line per width, type and layout; the fastest is marked."""
    given = tuple(int(text) for text in sys.argv[1:])
    for channels, size, batch, threads in (given,) if given else SHAPES:  # type: ignore[misc]
        torch.set_num_threads(threads)
        print(f"\n{channels} channels, {size}x{size}, batch {batch}, threads {threads}")
        heads = "".join(f"{plan:>9}" for plan in PLANS)
        print(f"type      layout         width{heads}")
        for dtype in (torch.float32, torch.bfloat16):
            for layout, memory_format in LAYOUTS.items():
                for width in (w for w in WIDTHS if channels % w == 0 and w < channels):
                    conv = SegmentedConv(
                        channels, channels, segments=channels // width, order="spatial_only"
                    ).spatial
                    conv.to(dtype).to(memory_format=memory_format)  # type: ignore[call-overload]
                    x = torch.randn(batch, channels, size, size).to(dtype)
                    x = x.contiguous(memory_format=memory_format)
                    times = time_plans(conv, x, seconds=SECONDS)  # type: ignore[arg-type]
                    least = min(times.values())
                    cells = "".join(
                        f"{1000 * times[plan]:8.2f}{'*' if times[plan] == least else ' '}"
                        if plan in times
                        else " " * 9
                        for plan in PLANS
                    )
                    name = str(dtype).removeprefix("torch.")
                    print(f"{name:10}{layout:15}{width:5}{cells}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
