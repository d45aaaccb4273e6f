"""Measuring the plans of a layer on this machine."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from spectrum.layers.execute import convolve
from spectrum.layers.plans import PLANS, Plan, plan_of, using_plan
from spectrum.layers.tuned import keep_plan

__all__ = ["time_plans", "tune"]


def tune(conv: nn.Conv2d, x: Tensor, *, seconds: float = 1.0) -> Plan:
    """Keep the fastest plan of a layer for such inputs, on disk, where ``auto`` finds it.

    Args:
        conv: grouped, as ``SegmentedConv.spatial`` is.
        x: (N, C, H, W), of the type, the layout and the size that it will be given.
        seconds: for all the measurements.

    Returns:
        The plan.

    Raises:
        OSError: the user's cache folder can't be written.
    """
    times = time_plans(conv, x, seconds=seconds)
    fastest = min(times, key=lambda plan: times[plan])
    keep_plan(conv, x, fastest)
    return fastest


def time_plans(conv: nn.Conv2d, x: Tensor, *, seconds: float = 1.0) -> dict[Plan, float]:
    """How long the passes forward and backward take by each plan that this layer can have.

    Args:
        conv: as for ``tune``.
        x: likewise; nothing of it is changed.
        seconds: for all of them, in turns, at least three each.

    Returns:
        Seconds, the median of the turns.
    """
    own = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    weight = conv.weight

    def once(plan: Plan) -> float:
        start = time.perf_counter()
        with using_plan(plan):
            y = convolve(conv, own)
            y = conv(own) if y is None else y
        torch.autograd.grad(y, (own, weight), y.detach())
        return time.perf_counter() - start

    plans = [plan for plan in PLANS if plan == "native" or _has(plan, conv, own)]
    with torch.enable_grad():
        for plan in plans:
            once(plan)  # compiles what there is to compile
        times: dict[Plan, list[float]] = {plan: [] for plan in plans}
        end = time.perf_counter() + seconds
        while len(times["native"]) < 3 or time.perf_counter() < end:
            for plan in plans:
                times[plan].append(once(plan))
    return {plan: sorted(taken)[len(taken) // 2] for plan, taken in times.items()}


def _has(plan: Plan, conv: nn.Conv2d, x: Tensor) -> bool:
    with using_plan(plan):
        return plan_of(conv, x) == plan
