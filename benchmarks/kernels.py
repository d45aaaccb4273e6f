"""Time the compiled kernels against each other, the depthwise one against torch, and compiling.

What `spectrum/kernels/convolution.py` chooses by follows from these tables.

    python benchmarks/kernels.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from spectrum.costs import time_interleaved
from spectrum.kernels.convolution import Call, run_backward, run_forward
from spectrum.kernels.depthwise import depthwise_forward
from spectrum.kernels.geometry import Geometry
from spectrum.machine import keep_freed_memory

SAME = Geometry((1, 1), (1, 1), (1, 1))  # stride, padding and dilation of a 3x3 kernel
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)
IMAGES = ((64, 8, 128), (512, 14, 16), (728, 19, 1), (64, 32, 16), (96, 56, 8), (32, 112, 2))
DEPTHWISE = ((728, 19, 1), (64, 8, 128), (96, 56, 8), (728, 19, 8), (728, 37, 8), (128, 147, 8))
SECONDS = 0.5  # for each pair
COMPILING = """
import time
import torch
from spectrum import SegmentedConv
from spectrum.layers.acceleration import compile_kernels
layer = SegmentedConv(64, 64, segments="{segments}")
start = time.perf_counter()
compile_kernels(layer, torch.float32, channels_last=True)
print(time.perf_counter() - start)
"""


def draw_images(channels: int, size: int, batch: int, dtype: torch.dtype) -> Tensor:
    """Images in channels_last."""
    images = torch.randn(batch, channels, size, size).to(dtype)
    return images.contiguous(memory_format=torch.channels_last)


def ratio(first: Callable[[], object], second: Callable[[], object]) -> float:
    """The median time of the first divided by that of the second."""
    times = time_interleaved({"first": first, "second": second}, seconds=SECONDS)
    return times["first"].median / times["second"].median


def lanes_against_planes(width: int, shape: tuple[int, int, int]) -> tuple[float, float]:
    """The time of planes divided by that of lanes: of a forward pass, and of a backward pass."""
    channels, size, batch = shape
    channels = channels // width * width
    x = draw_images(channels, size, batch, torch.float32)
    weight, gradient = torch.randn(channels, width, 3, 3), torch.randn_like(x)
    lanes, planes = (
        Call(SAME, x.dtype, True, (size, size), (kernel,))  # type: ignore[arg-type]
        for kernel in ("lanes", "planes")
    )
    return (
        ratio(lambda: run_forward(planes, x, [weight]), lambda: run_forward(lanes, x, [weight])),
        ratio(
            lambda: run_backward(planes, x, [weight], gradient),
            lambda: run_backward(lanes, x, [weight], gradient),
        ),
    )


def depthwise_against_torch(shape: tuple[int, int, int], dtype: torch.dtype) -> float:
    """The time of torch's depthwise forward pass divided by that of the kernel."""
    x = draw_images(*shape, dtype)
    weight = torch.randn(shape[0], 1, 3, 3).to(dtype)
    with torch.inference_mode():
        return ratio(
            lambda: F.conv2d(x, weight, padding=1, groups=shape[0]),
            lambda: depthwise_forward(x, weight, torch.empty_like(x)),
        )


def seconds_to_compile(segments: str) -> float:
    """How long compiling the kernels of a layer takes with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [sys.executable, "-c", COMPILING.format(segments=segments)],
            env=os.environ | {"XDG_CACHE_HOME": folder},
            capture_output=True,
            text=True,
            check=True,
        )
    return float(result.stdout)


def main() -> None:
    """Print the tables."""
    keep_freed_memory()  # as in a run
    print("planes' time / lanes', 3x3, float32, channels_last: forward, backward")
    names = [f"{channels}x{size}x{size}" for channels, size, _ in IMAGES]
    print("width" + "".join(f"{name:>13}" for name in names))
    for width in WIDTHS:
        pairs = [lanes_against_planes(width, shape) for shape in IMAGES]
        cells = (f"{forward:8.2f} {backward:4.2f}" for forward, backward in pairs)
        print(f"{width:5}" + "".join(cells), flush=True)
    print("\ntorch's time / the kernel's, depthwise 3x3, forward")
    print("images               MB float32 bfloat16")
    for shape in DEPTHWISE:
        channels, size, batch = shape
        ratios = [depthwise_against_torch(shape, d) for d in (torch.float32, torch.bfloat16)]
        name, millions = f"{batch}x{channels}x{size}x{size}", batch * channels * size**2 / 1e6
        print(f"{name:16} {4 * millions:6.1f} {ratios[0]:7.2f} {ratios[1]:8.2f}", flush=True)
    print("\nseconds to compile, float32, nothing cached")
    for segments in ("C", "C/2", "C/4"):
        print(f"{segments:4} {seconds_to_compile(segments):4.1f}", flush=True)


if __name__ == "__main__":
    main()
