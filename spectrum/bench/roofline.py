"""How fast a machine could be: its two ceilings, measured, and the time that they allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spectrum.costs.timing import Timing

__all__ = ["Ceilings", "Pass", "Probe", "allowed_seconds", "ceilings", "layer_passes", "probes"]

_SIDES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192)}
_MEBIBYTE = 2**20
_BUFFERS = (32 * _MEBIBYTE, 128 * _MEBIBYTE)


class Probe(NamedTuple):
    """A call that does nothing but compute, or nothing but move.

    Attributes:
        call: what to time.
        flops: floating-point operations of a call; 0 of one that moves.
        moved: bytes read and written; 0 of one that computes.
    """

    call: Callable[[], object]
    flops: int
    moved: int


class Ceilings(NamedTuple):
    """What a machine can do at the most.

    Attributes:
        flops: floating-point operations a second.
        bandwidth: bytes a second, read and written.
    """

    flops: float
    bandwidth: float


class Pass(NamedTuple):
    """One pass through a layer.

    Attributes:
        flops: floating-point operations, two a multiply-add.
        moved: bytes that it can't but read and write.
    """

    flops: int
    moved: int


def probes(device: str, dtype: torch.dtype, least: int) -> dict[str, Probe]:
    """The calls whose best rates are the ceilings.

    Square matrices are multiplied, of several sizes. Buffers are copied and added, of several
    sizes from ``least`` on: a layer whose tensors fit a cache has that cache's bandwidth for a
    ceiling, and not a nearer one's.

    Args:
        device: where.
        dtype: of the numbers.
        least: bytes of the smallest buffer, those of a layer's input.
    """
    found = {}
    for side in _SIDES[torch.device(device).type]:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        found[f"multiply {side}"] = Probe(_multiply(a, b, out), 2 * side**3, 0)
    width = torch.empty(0, dtype=dtype).element_size()
    sizes = {size for size in (least, *_BUFFERS) if size >= least}
    for size in sorted(max(size, _MEBIBYTE) // width for size in sizes):
        a, b, out = (torch.zeros(size, device=device, dtype=dtype) for _ in range(3))
        found[f"copy {size}"] = Probe(_copy(a, out), 0, 2 * size * width)
        found[f"add {size}"] = Probe(_add(a, b, out), 0, 3 * size * width)
    return found


def ceilings(probed: Mapping[str, Probe], *timings: Mapping[str, Timing]) -> Ceilings:
    """The best rates of the probes, each by its median time.

    Args:
        probed: as ``probes`` gives them.
        timings: theirs, by name, of each time that they were timed.
    """
    found = [(probed[name], timing.median) for timed in timings for name, timing in timed.items()]
    return Ceilings(
        max(probe.flops / seconds for probe, seconds in found),
        max(probe.moved / seconds for probe, seconds in found),
    )


def layer_passes(
    macs: int, inputs: int, outputs: int, weights: int, width: int, *, training: bool
) -> list[Pass]:
    """The passes through a convolution, with the bytes that each must move.

    Forward: the input and the weight are read, the output is written. The gradient of the input:
    the output's gradient and the weight are read, the input's gradient is written. That of the
    weight: the output's gradient and the input are read, the weight's gradient is written. Each
    tensor counts once, as if a pass kept in a cache what it needs again, and nothing stays there
    from one pass to the next. Each pass has the multiply-adds of the first.

    Args:
        macs: multiply-adds of the forward pass.
        inputs: numbers of the input.
        outputs: numbers of the output.
        weights: numbers of the weight.
        width: bytes of a number.
        training: all three passes, or the forward pass alone.
    """
    moved = width * (inputs + outputs + weights)
    return [Pass(2 * macs, moved)] * (3 if training else 1)


def allowed_seconds(passes: Sequence[Pass], ceiling: Ceilings) -> float:
    """The least time that the roofline allows: of each pass, the longer of computing and moving."""
    return sum(max(p.flops / ceiling.flops, p.moved / ceiling.bandwidth) for p in passes)


def _multiply(a: Tensor, b: Tensor, out: Tensor) -> Callable[[], object]:
    return lambda: torch.mm(a, b, out=out)


def _copy(a: Tensor, out: Tensor) -> Callable[[], object]:
    return lambda: out.copy_(a)


def _add(a: Tensor, b: Tensor, out: Tensor) -> Callable[[], object]:
    return lambda: torch.add(a, b, out=out)
