"""Measuring the plans of a layer on a device, and storing the fastest."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spectrum.kernels.execute import convolve
from spectrum.kernels.plans import plan_of, save_tuned_plan, using_plan
from spectrum.kernels.stored_plans import PLANS, Plan


def tune(conv: nn.Conv2d, x: Tensor, *, seconds: float = 1.0, forward_only: bool = False) -> Plan:
    """Find the fastest plan of a layer for such inputs on their device, and store it on disk.

    From then on ``plan_of`` takes it, in this process and in later ones, for that device alone.

    Args:
        conv: a grouped convolution, as ``SegmentedConv.spatial`` is.
        x: (N, C, H, W), an input of the type, layout and size to tune for.
        seconds: the time for all measurements.
        forward_only: tune for inference, which may have another plan than training.

    Returns:
        The plan.

    Raises:
        OSError: the user's cache folder can't be written.
    """
    times = time_plans(conv, x, seconds=seconds, forward_only=forward_only)
    fastest = min(times, key=lambda plan: times[plan])
    with torch.set_grad_enabled(not forward_only):
        save_tuned_plan(conv, x, fastest)
    return fastest


def time_plans(
    conv: nn.Conv2d,
    x: Tensor,
    *,
    seconds: float = 1.0,
    forward_only: bool = False,
    plans: Sequence[Plan] = PLANS,
) -> dict[Plan, float]:
    """How long a forward and a backward pass take, by each plan that is possible for a layer.

    Args:
        conv: as for ``tune``.
        x: as for ``tune``; it isn't changed.
        seconds: the time for all plans together. They are timed in turns, three times at least.
        forward_only: time the forward pass of inference alone.
        plans: those to time; ``native`` must be among them.

    Returns:
        The median seconds by plan.
    """
    images = x.detach().clone(memory_format=torch.preserve_format)
    images.requires_grad_(not forward_only)
    weight = conv.weight

    def now() -> float:
        if x.is_cuda:  # calls return before their work is done
            torch.cuda.synchronize(x.device)
        return time.perf_counter()

    def time_once(plan: Plan) -> float:
        start = now()
        with using_plan(plan):
            y = convolve([conv], images)
            y = conv(images) if y is None else y
        if not forward_only:
            torch.autograd.grad(y, (images, weight), y.detach())
        return now() - start

    with torch.set_grad_enabled(not forward_only):
        plans = [plan for plan in plans if _is_possible(plan, conv, images)]
        for plan in plans:
            time_once(plan)  # the first call may compile a kernel, or find that it can't
        plans = [plan for plan in plans if _is_possible(plan, conv, images)]
        times: dict[Plan, list[float]] = {plan: [] for plan in plans}
        end = time.perf_counter() + seconds
        while len(times["native"]) < 3 or time.perf_counter() < end:
            for plan in plans:
                times[plan].append(time_once(plan))
    return {plan: sorted(samples)[len(samples) // 2] for plan, samples in times.items()}


def _is_possible(plan: Plan, conv: nn.Conv2d, x: Tensor) -> bool:
    with using_plan(plan):
        return plan_of(conv, x) == plan
