"""How much faster than torch's convolution a plan is expected to be, by kind of CPU and shape.

The logarithm of that ratio is a linear function of the terms below. Its coefficients are in
plan_costs.csv. ``python benchmarks/fit_plans.py`` fits them to times that were measured on layers
of random shapes, which are in ``benchmarks/plan_times.csv``.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from math import exp, log2
from pathlib import Path
from typing import NamedTuple

import torch

from spectrum.kernels.stored_plans import Plan

COEFFICIENTS = "plan_costs.csv"
MOST_MEASURED = 91
"""The most channels of a segment that were measured."""
INTEL = "Intel AVX512"
"""The kind of CPU on which the passes of normalisations and 1x1 convolutions are faster."""
_KINDS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}  # by the vendor that a CPU names


class Shape(NamedTuple):
    """What the times of a layer depend on.

    Attributes:
        channels: of the layer's input.
        size: height and width of its input; of an oblong image, the root of their product.
        batch: images.
        kernel: height and width of its kernel.
        stride: 1 or 2.
        threads: that compute it.
        channels_per_segment: the width of a segment.
    """

    channels: int
    size: float
    batch: int
    kernel: int
    stride: int
    threads: int
    channels_per_segment: int


def terms(shape: Shape) -> dict[str, float]:
    """The terms of the linear function, by name. Those of other widths of a segment are left out.

    Sizes beyond those that were measured count as the nearest measured one.
    """
    width = shape.channels_per_segment
    values = shape.channels * shape.size**2 * shape.batch / shape.threads
    work = min(max(log2(values), 12), 24) / 10
    size = min(max(log2(shape.size), 2), 7) / 4
    kernel = log2(shape.kernel) - 1.5
    of_width = {
        "constant": 1.0,
        "work": work,
        "size": size,
        "kernel": kernel,
        "channels_16": float(shape.channels % 16 == 0),  # the library's blocks have 16 channels
        "strided": float(shape.stride > 1),
    }
    others = {
        "work_squared": 2 * work**2,
        "size_squared": size**2,
        "width": log2(width) / 3,
        "width_8": float(width % 8 == 0),
        "batch": min(log2(shape.batch), 7) / 4,
        "threads": min(log2(shape.threads), 1),
    }
    if width == 1 and shape.kernel == 3 and shape.stride == 1:  # has a kernel of its own
        others |= {"depthwise 3x3": 1.0, "depthwise 3x3 work": work}
    group = width_group(width)
    return {f"{group} {name}": value for name, value in of_width.items()} | others


def width_group(width: int) -> str:
    """The widths of a segment that share terms."""
    if width <= 4 or width == 8:
        return str(width)
    if width % 16 == 0:
        return "16n"
    return "5-7" if width < 8 else "9-15" if width < 16 else "17+"


def speedups(call: tuple[str, ...], shape: Shape) -> dict[Plan, float]:
    """By how much plans are expected to be faster than ``native``.

    Args:
        call: the kind of CPU (``cpu_kind``), the type, the layout, and training or inference.
        shape: the shape of the layer and its input.

    Returns:
        The time of ``native`` divided by the plan's, by plan; empty where nothing was measured.
    """
    by_plan = _coefficients().get(call, {})
    values = terms(shape)
    return {
        plan: exp(sum(of_term.get(name, 0.0) * value for name, value in values.items()))
        for plan, of_term in by_plan.items()
    }


def is_measured(cpu: str | None) -> bool:
    """Whether plans were measured on a kind of CPU."""
    return any(call[0] == cpu for call in _coefficients())


@cache
def cpu_kind() -> str | None:
    """The kind of CPU, such as ``"AMD AVX512"``; None where its maker isn't known."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    makers = (line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id"))
    maker = _KINDS.get(next(makers, ""))
    return None if maker is None else f"{maker} {torch.backends.cpu.get_cpu_capability()}"


@cache
def _coefficients() -> dict[tuple[str, ...], dict[Plan, dict[str, float]]]:
    """The coefficients by call, plan and term."""
    found: dict[tuple[str, ...], dict[Plan, dict[str, float]]] = {}
    text = files("spectrum.kernels").joinpath(COEFFICIENTS).read_text()
    for row in csv.DictReader(text.splitlines()):
        call = (row["cpu"], row["precision"], row["layout"], row["mode"])
        of_plan = found.setdefault(call, {}).setdefault(row["plan"], {})  # type: ignore[arg-type]
        of_plan[row["term"]] = float(row["coefficient"])
    return found
