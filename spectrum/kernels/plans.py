"""Choosing the plan by which a segmented spatial convolution is executed.

torch's grouped convolution is slow for many numbers of segments. A plan is another way to compute
the same function. It changes no count, no weight and no result, except for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from spectrum.kernels.eligibility import TYPES, autocast_type, can_use_kernel, channels_last
from spectrum.kernels.tuned import tuned_plan

__all__ = ["PLANS", "Plan", "has_avx512", "merge_factor", "plan_of", "using_plan"]

Plan: TypeAlias = Literal["native", "merged", "relaid", "kernel"]
"""``native`` is torch's grouped convolution. ``merged`` is the same with neighbouring segments
joined to wider blocks, which are zero off the diagonal. ``relaid`` copies the input to
channels_last, runs torch's convolution and copies the output back. ``kernel`` runs a compiled
kernel (``spectrum.kernels.cpu``)."""

PLANS: tuple[Plan, ...] = get_args(Plan)


class _Rule(NamedTuple):
    """A row of the table: a plan, and the layers and images for which it is the fastest.

    Attributes:
        max_width: the most channels of a segment.
        min_positions: the fewest positions (height x width) of an image.
        plan: the plan, where it is possible.
    """

    max_width: int
    min_positions: int
    plan: Plan


_NO_LIMIT = 10**9
# By type and whether the layout is channels_last; the first rule that holds counts. The rules
# follow the times in benchmarks/plans.txt, which `python benchmarks/plans.py` measured on a CPU
# with AVX-512.
_TABLE: dict[tuple[torch.dtype, bool], tuple[_Rule, ...]] = {
    (torch.float32, True): (
        _Rule(3, 0, "kernel"),
        _Rule(4, 64, "kernel"),
    ),
    (torch.float32, False): (
        _Rule(1, 255, "kernel"),
        _Rule(1, 0, "native"),
        _Rule(4, 0, "kernel"),
        _Rule(8, 64, "kernel"),
        _Rule(28, 255, "kernel"),
        _Rule(_NO_LIMIT, 255, "relaid"),
    ),
    (torch.bfloat16, True): (
        _Rule(1, 64, "kernel"),
        _Rule(1, 0, "native"),
        _Rule(8, 0, "merged"),
        _Rule(4, 64, "kernel"),
    ),
    (torch.bfloat16, False): (
        _Rule(1, 64, "kernel"),
        _Rule(1, 0, "native"),
        _Rule(7, 0, "kernel"),
        _Rule(_NO_LIMIT, 0, "relaid"),
    ),
}

MERGED_WIDTH = 16
"""The most channels of a block of merged segments."""

_requested: ContextVar[Plan | Literal["auto"]] = ContextVar("plan", default="auto")


@contextmanager
def using_plan(plan: Plan | Literal["auto"]) -> Iterator[None]:
    """Execute every layer by one plan where that is possible, and natively elsewhere.

    Args:
        plan: one of ``PLANS``, or ``"auto"`` to let ``plan_of`` choose.

    Raises:
        ValueError: ``plan`` is none of these.
    """
    if plan not in (*PLANS, "auto"):
        raise ValueError(f"plan (={plan!r}) must be one of auto, {', '.join(PLANS)}")
    token = _requested.set(plan)
    try:
        yield
    finally:
        _requested.reset(token)


def plan_of(conv: nn.Conv2d, x: Tensor) -> Plan:
    """The plan by which a convolution is executed.

    It is the plan of ``using_plan`` where one is set, else the plan that was tuned on this
    machine, else that of the first rule of the table that holds. It is ``native`` where the plan
    isn't possible, and without a tuned plan on a CPU without AVX-512.

    Args:
        conv: a grouped convolution, as ``SegmentedConv.spatial`` is.
        x: its input, (N, C, H, W).
    """
    requested = _requested.get()
    if requested == "native" or not _is_eligible(conv, x):
        return "native"
    is_channels_last = channels_last(x)
    if is_channels_last is None:
        return "native"
    width = conv.in_channels // conv.groups
    if requested != "auto":
        return requested if _is_possible(requested, conv, width, is_channels_last) else "native"
    tuned = tuned_plan(conv, x)
    if tuned in PLANS and _is_possible(tuned, conv, width, is_channels_last):
        return tuned
    if not has_avx512():
        return "native"
    positions = x.shape[2] * x.shape[3]
    for rule in _TABLE[autocast_type(x), is_channels_last]:
        if (
            width <= rule.max_width
            and positions >= rule.min_positions
            and _is_possible(rule.plan, conv, width, is_channels_last)
        ):
            return rule.plan
    return "native"


def merge_factor(conv: nn.Conv2d) -> int:
    """How many neighbouring segments the merged plan joins to a block.

    It is the largest divisor of the number of segments whose block has at most ``MERGED_WIDTH``
    channels.
    """
    most = max(1, MERGED_WIDTH // (conv.in_channels // conv.groups))
    return max(n for n in range(1, most + 1) if conv.groups % n == 0)


def _is_eligible(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether the types and the way of the call allow any plan but the native one."""
    dtype = conv.weight.dtype
    types_fit = dtype in TYPES if torch.is_autocast_enabled("cpu") else dtype == x.dtype
    return types_fit and can_use_kernel(conv, nn.Conv2d, x)


def _is_possible(plan: Plan, conv: nn.Conv2d, width: int, is_channels_last: bool) -> bool:
    """Whether a plan computes this convolution, and does so in another way than ``native``.

    Args:
        plan: the plan.
        conv: the convolution.
        width: channels of a segment.
        is_channels_last: whether the images lie in channels_last.
    """
    if plan == "merged":
        return merge_factor(conv) > 1
    if plan == "relaid":
        return not is_channels_last
    return plan == "native" or _has_kernel(conv, width, is_channels_last)


def _has_kernel(conv: nn.Conv2d, width: int, is_channels_last: bool) -> bool:
    """Whether a kernel computes it: odd kernel size, stride 1, padding that keeps the size."""
    keeps_size = all(
        k % 2 == 1 and s == 1 and p == d * (k // 2)
        for k, s, p, d in zip(
            conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True
        )
    )
    has_kernel = (
        keeps_size and conv.padding_mode == "zeros" and conv.in_channels == conv.out_channels
    )
    if width == 1 and is_channels_last:  # the depthwise kernel supports 3x3 only
        has_kernel = has_kernel and conv.kernel_size == (3, 3) and conv.dilation == (1, 1)
    return has_kernel


@cache
def has_avx512() -> bool:
    """Whether the CPU has AVX-512; the table and the kernels were only measured on such a CPU."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"
