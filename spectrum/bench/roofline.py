"""The roofline model: a machine's measured ceilings, and the least time that they allow.

A call can't be faster than its arithmetic at the peak rate of the machine, and not faster than its
traffic at the memory bandwidth. These two rates are the ceilings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F

from spectrum.costs.timing import Timing

_SIDES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
# Channels and side of images of dense 3x3 convolutions; a convolution may be faster than a product.
_CONVOLUTIONS = {"cpu": ((128, 28), (256, 14)), "cuda": ((256, 56), (512, 28))}
_BATCHES = {"cpu": 8, "cuda": 64}
_MEBIBYTE = 2**20
_LAYOUTS = (torch.contiguous_format, torch.channels_last)
_BUFFERS = (32 * _MEBIBYTE, 128 * _MEBIBYTE)


class Probe(NamedTuple):
    """A call that measures one ceiling: it only computes, or only moves data.

    Attributes:
        call: the call to time.
        flops: floating-point operations of a call; 0 if it moves data.
        bytes_moved: bytes read and written; 0 if it computes.
    """

    call: Callable[[], object]
    flops: int
    bytes_moved: int


class Limits(NamedTuple):
    """The least seconds of a convolution.

    Attributes:
        arithmetic: what its multiply-adds alone take.
        memory: what its reading and writing alone take.
    """

    arithmetic: float
    memory: float


class Ceilings(NamedTuple):
    """The highest rates of a machine.

    Attributes:
        flops: floating-point operations per second.
        bandwidth: bytes per second, read and written.
    """

    flops: float
    bandwidth: float


def make_probes(device: str, dtype: torch.dtype, smallest: int) -> dict[str, Probe]:
    """Make the calls that measure the ceilings, by name.

    Square matrices of several sizes are multiplied, and images are convolved in both memory
    layouts. Buffers of several sizes are copied and added.
    No buffer is smaller than the input of the layer that is compared: if the layer's tensors fit a
    cache, its ceiling is the bandwidth of that cache, and not of a faster one.

    Args:
        device: where the calls compute.
        dtype: of the matrices and buffers.
        smallest: bytes of the smallest buffer, those of a layer's input.
    """
    probes, kind = {}, torch.device(device).type
    for side in _SIDES[kind]:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        probes[f"multiply {side}"] = Probe(partial(torch.mm, a, b, out=out), 2 * side**3, 0)
    for (channels, side), layout in product(_CONVOLUTIONS[kind], _LAYOUTS):
        x = torch.randn(_BATCHES[kind], channels, side, side, device=device).to(dtype)
        weight = torch.randn(channels, channels, 3, 3, device=device).to(dtype)
        x, weight = (tensor.contiguous(memory_format=layout) for tensor in (x, weight))
        call = torch.no_grad()(partial(F.conv2d, x, weight, padding=1))
        flops = 2 * len(x) * channels**2 * (3 * side) ** 2  # padding counts, as in all counts
        probes[f"convolve {channels} {side} {layout}"] = Probe(call, flops, 0)
    element_size = torch.empty(0, dtype=dtype).element_size()
    sizes = {size for size in (smallest, *_BUFFERS) if size >= smallest}
    for size in sorted(max(size, _MEBIBYTE) // element_size for size in sizes):
        a, b, out = (torch.zeros(size, device=device, dtype=dtype) for _ in range(3))
        probes[f"copy {size}"] = Probe(partial(out.copy_, a), 0, 2 * size * element_size)
        probes[f"add {size}"] = Probe(partial(torch.add, a, b, out=out), 0, 3 * size * element_size)
    return probes


def measured_ceilings(probes: Mapping[str, Probe], *timings: Mapping[str, Timing]) -> Ceilings:
    """The highest rates of the probes, each by its median time.

    Args:
        probes: the probes of ``make_probes``.
        timings: their timings by name, one mapping for each time that they were measured.
    """
    times = [(probes[name], timing.median) for timed in timings for name, timing in timed.items()]
    return Ceilings(
        max(probe.flops / seconds for probe, seconds in times),
        max(probe.bytes_moved / seconds for probe, seconds in times),
    )


def roofline_limits(
    ceiling: Ceilings, passes: int, macs: int, elements: int, element_size: int
) -> Limits:
    """The least seconds of a convolution by its arithmetic alone, and by its memory alone.

    The longer of the two is the least time that the roofline allows, since all passes are alike:

    - Forward: the input and the weight are read, and the output is written.
    - The gradient with respect to the input: the output's gradient and the weight are read, and
      the input's gradient is written.
    - The gradient with respect to the weight: the output's gradient and the input are read, and
      the weight's gradient is written.

    So each pass moves three tensors of the same sizes. Each tensor counts once, as if a cache kept
    it during a pass, but not from one pass to the next. Each pass has as many multiply-adds as the
    forward pass.

    Args:
        ceiling: the ceilings of the machine.
        passes: three, or one for the forward pass alone.
        macs: multiply-adds of the forward pass.
        elements: elements of the input, the output and the weight together.
        element_size: bytes of an element.
    """
    moving = elements * element_size / ceiling.bandwidth
    return Limits(passes * 2 * macs / ceiling.flops, passes * moving)
