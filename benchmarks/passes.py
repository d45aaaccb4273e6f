"""Profile a training step of the paper's network, and time three of its operations against torch's.

The package's passes run here on every CPU, also where a network would take torch's.

    python benchmarks/passes.py
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum import xception
from spectrum.costs import time_interleaved
from spectrum.kernels import normalize, using_plan
from spectrum.kernels.plan_costs import INTEL
from spectrum.layers import BatchNormReLU, SegmentedConv
from spectrum.layers.acceleration import pointwise_conv
from spectrum.machine import keep_freed_memory

BATCH = 8
IMAGES = (
    (728, 19),
    (728, 37),
    (256, 74),
    (128, 147),
)  # channels and size, as in the network
SECONDS = 4.0


def main() -> None:
    """Print the shares of the step, then milliseconds of a forward and a backward pass."""
    keep_freed_memory()  # as in a run
    shares = step_shares()
    print("share of a training step of xception('C') in bfloat16, batch 8:")
    for name, share in shares.most_common(8):
        print(f"{share:6.0%}  {name}")
    for name in (normalize.__module__, "spectrum.kernels.execute"):
        sys.modules[name].cpu_kind = lambda: INTEL  # type: ignore[attr-defined]
    print("\nms, forward and backward, bfloat16   torch   ours   ratio")
    for channels, size in IMAGES:
        x = torch.randn(BATCH, channels, size, size).bfloat16()
        x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
        for name, calls in (
            ("depthwise", depthwise(x)),
            ("normalisation, ReLU", normalisation(x)),
            ("pointwise", pointwise(x)),
        ):
            times = time_interleaved(calls, seconds=SECONDS)
            native, ours = (1000 * times[key].median for key in ("torch", "ours"))
            shape = f"{channels}x{size}x{size}"
            print(
                f"{name:20} {shape:12} {native:9.2f} {ours:6.2f} {native / ours:6.2f}x", flush=True
            )


def step_shares() -> Counter[str]:
    """The share of each kind of operation in a step's time, by torch's profiler."""
    network = xception("C").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(BATCH, 3, 299, 299).contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(BATCH, dtype=torch.long)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    step()
    step()
    with torch.profiler.profile() as profile:
        step()
    events = profile.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    return Counter({event.key: event.self_cpu_time_total / total for event in events})


def depthwise(x: Tensor) -> dict[str, Callable[[], object]]:
    """A forward and a backward pass of a depthwise convolution."""
    conv = SegmentedConv(x.shape[1], x.shape[1], order="spatial_only").bfloat16()

    def ours() -> None:
        with using_plan("kernel"):
            conv(x).backward(x.detach())

    def native() -> None:
        with using_plan("native"):
            conv(x).backward(x.detach())

    return {"torch": native, "ours": ours}


def normalisation(x: Tensor) -> dict[str, Callable[[], object]]:
    """A forward and a backward pass of batch normalisation and a ReLU."""
    norm, relu = nn.BatchNorm2d(x.shape[1]), nn.ReLU()
    fused = BatchNormReLU(x.shape[1])
    return {
        "torch": lambda: relu(norm(x)).backward(x.detach()),
        "ours": lambda: fused(x).backward(x.detach()),
    }


def pointwise(x: Tensor) -> dict[str, Callable[[], object]]:
    """A forward and a backward pass of a 1x1 convolution."""
    conv = nn.Conv2d(x.shape[1], x.shape[1], 1, bias=False).bfloat16()
    return {
        "torch": lambda: conv(x).backward(x.detach()),
        "ours": lambda: pointwise_conv(conv, x).backward(x.detach()),
    }


if __name__ == "__main__":
    main()
