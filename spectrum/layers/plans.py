"""How a segmented spatial convolution is executed: the fastest of several equal ways.

The libraries' grouped convolution is slow at many points of the dial. A plan is another way to the
same function: it shows in no count, weight or result but by rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn

from spectrum.layers.plain import TYPES, autocast_type, channels_last, is_free
from spectrum.layers.tuned import kept_plan

__all__ = ["PLANS", "Plan", "is_measured", "merged_by", "plan_of", "using_plan"]

Plan: TypeAlias = Literal["native", "merged", "relaid", "kernel"]
"""``native`` is the library's grouped convolution; ``merged`` the same with neighbouring segments
joined to wider blocks, zero off the diagonal; ``relaid`` the same in channels_last, there and back;
``kernel`` one of our own (``spectrum.layers.kernels``)."""

PLANS: tuple[Plan, ...] = get_args(Plan)


class _Row(NamedTuple):
    """A line of the table: a plan where it can be, for these segments and images.

    Attributes:
        width: of a segment, in channels, at most.
        positions: of an image, at least.
        plan: the fastest measured.
    """

    width: int
    positions: int
    plan: Plan


_ANY = 10**9
# By type and whether the layout is channels_last; the first line that fits. From
# `python benchmarks/plans.py` on a CPU with AVX-512, whose times are in benchmarks/plans.txt.
_TABLE: dict[tuple[torch.dtype, bool], tuple[_Row, ...]] = {
    (torch.float32, True): (
        _Row(3, 0, "kernel"),
        _Row(4, 64, "kernel"),
    ),
    (torch.float32, False): (
        _Row(1, 255, "kernel"),
        _Row(1, 0, "native"),
        _Row(4, 0, "kernel"),
        _Row(8, 64, "kernel"),
        _Row(28, 255, "kernel"),
        _Row(_ANY, 255, "relaid"),
    ),
    (torch.bfloat16, True): (
        _Row(1, 64, "kernel"),
        _Row(1, 0, "native"),
        _Row(8, 0, "merged"),
        _Row(4, 64, "kernel"),
    ),
    (torch.bfloat16, False): (
        _Row(1, 64, "kernel"),
        _Row(1, 0, "native"),
        _Row(7, 0, "kernel"),
        _Row(_ANY, 0, "relaid"),
    ),
}

MERGED_WIDTH = 16
"""Channels of the blocks that segments are merged to, at most."""

_forced: ContextVar[Plan | Literal["auto"]] = ContextVar("plan", default="auto")


@contextmanager
def using_plan(plan: Plan | Literal["auto"]) -> Iterator[None]:
    """Execute every layer by one plan, where that can be; elsewhere natively.

    Args:
        plan: one of ``PLANS``, or ``"auto"`` for the fastest by the measured table.

    Raises:
        ValueError: another plan.
    """
    if plan not in (*PLANS, "auto"):
        raise ValueError(f"plan (={plan!r}) must be one of auto, {', '.join(PLANS)}")
    token = _forced.set(plan)
    try:
        yield
    finally:
        _forced.reset(token)


def plan_of(conv: nn.Conv2d, x: Tensor) -> Plan:
    """The plan by which a convolution is executed.

    Args:
        conv: grouped, as ``SegmentedConv.spatial`` is.
        x: (N, C, H, W), what it is given.
    """
    forced = _forced.get()
    if forced == "native" or not _fits(conv, x):
        return "native"
    layout = channels_last(x)
    if layout is None:
        return "native"
    width = conv.in_channels // conv.groups
    if forced != "auto":
        return forced if _can(forced, conv, width, layout) else "native"
    kept = kept_plan(conv, x)
    if kept in PLANS and _can(kept, conv, width, layout):
        return kept
    if not is_measured():
        return "native"
    positions = x.shape[2] * x.shape[3]
    for row in _TABLE[autocast_type(x), layout]:
        if (
            width <= row.width
            and positions >= row.positions
            and _can(row.plan, conv, width, layout)
        ):
            return row.plan
    return "native"


def merged_by(conv: nn.Conv2d) -> int:
    """How many neighbouring segments make a block: the most that divide them, up to its width."""
    most = max(1, MERGED_WIDTH // (conv.in_channels // conv.groups))
    return max(n for n in range(1, most + 1) if conv.groups % n == 0)


def _fits(conv: nn.Conv2d, x: Tensor) -> bool:
    kind = conv.weight.dtype
    same = kind in TYPES if torch.is_autocast_enabled("cpu") else kind == x.dtype
    return same and is_free(conv, nn.Conv2d, x)


def _can(plan: Plan, conv: nn.Conv2d, width: int, layout: bool) -> bool:
    """Whether a plan is another way for this convolution."""
    if plan == "merged":
        return merged_by(conv) > 1
    if plan == "relaid":
        return not layout
    return plan == "native" or _has_kernel(conv, width, layout)


def _has_kernel(conv: nn.Conv2d, width: int, layout: bool) -> bool:
    same = all(
        k % 2 == 1 and s == 1 and p == d * (k // 2)
        for k, s, p, d in zip(
            conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True
        )
    )
    simple = same and conv.padding_mode == "zeros" and conv.in_channels == conv.out_channels
    if width == 1 and layout:
        simple = simple and conv.kernel_size == (3, 3) and conv.dilation == (1, 1)
    return simple


@cache
def is_measured() -> bool:
    """Whether what was measured was so on a machine of this kind."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512"
