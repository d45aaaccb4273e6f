"""Choosing the plan by which a segmented spatial convolution is executed.

torch's grouped convolution is slow for many numbers of segments. A plan is another way to compute
the same function. It changes no count, no weight and no result, except for rounding.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, get_num_threads, is_grad_enabled, nn
from torch._C import _get_tracing_state
from torch._C._functorch import peek_interpreter_stack
from torch.compiler import is_compiling

from spectrum.errors import FieldError
from spectrum.kernels.availability import has_given_up
from spectrum.kernels.convolution import kernel_of
from spectrum.kernels.eligibility import (
    TYPES,
    autocast_type,
    can_run_kernels,
    channels_last,
    is_plain_call,
    type_and_layout,
)
from spectrum.kernels.geometry import geometry_of, output_size
from spectrum.kernels.plan_costs import MOST_MEASURED, Shape, cpu_kind, speedups
from spectrum.kernels.stored_plans import (
    PLANS,
    TRAINING,
    Plan,
    describe_call,
    store_plan,
    stored_plans,
)

LEAST_SPEEDUP = 1.2
"""By how much a plan must be expected to be faster than ``native`` to be taken."""
MERGED_WIDTHS: dict[Plan, int] = {"merged8": 8, "merged": 16, "merged32": 32, "merged64": 64}
"""The most channels of a block of merged segments, by plan."""
_MERGED_TYPES = {*TYPES, torch.float16}

_MOST_DECISIONS = 10_000  # that are remembered
_decisions: dict[tuple[object, ...], Decision | None] = {}
_requested: ContextVar[Plan | Literal["auto"]] = ContextVar("plan", default="auto")
_kept: ContextVar[dict[str, Plan] | None] = ContextVar("kept", default=None)


@contextmanager
def using_plan(plan: Plan | Literal["auto"]) -> Iterator[None]:
    """Execute every layer by one plan where that is possible, and natively elsewhere.

    Args:
        plan: one of ``PLANS``, or ``"auto"`` to let ``plan_of`` choose.

    Raises:
        FieldError: ``plan`` is none of these.
    """
    if plan not in (*PLANS, "auto"):
        raise FieldError("plan", plan, f"must be one of auto, {', '.join(PLANS)}")
    token = _requested.set(plan)
    try:
        yield
    finally:
        _requested.reset(token)


@contextmanager
def keep_plans(earlier: Mapping[str, Plan]) -> Iterator[dict[str, Plan]]:
    """Keep to the plans of a mapping, which notes each further plan that is chosen.

    A training that is resumed with the mapping of its beginning runs by the same plans, whatever
    has been tuned since.

    Args:
        earlier: plans that were noted before.

    Yields:
        The mapping, by a description of each kind of call; within another such block, that block's.
    """
    outer = _kept.get()
    kept = {} if outer is None else outer
    kept.update(earlier)
    token = _kept.set(kept)
    _decisions.clear()
    try:
        yield kept
    finally:
        _kept.reset(token)
        _decisions.clear()


def name_plans(plans: Mapping[str, Plan]) -> str:
    """How many kinds of layers were trained by each plan, such as ``"kernel 2, native 5"``.

    Args:
        plans: what ``keep_plans`` has noted. One segment, which is always ``native``, isn't noted.
    """
    counts = Counter(plan for call, plan in plans.items() if call.startswith(TRAINING))
    return ", ".join(f"{plan} {counts[plan]}" for plan in sorted(counts)) or "native"


def plan_of(conv: nn.Conv2d, x: Tensor) -> Plan:
    """The plan by which a convolution is executed.

    It is the plan of ``using_plan`` where one is set, else one that a training keeps to
    (``keep_plans``), else the plan that was tuned on this device, else the one that is expected to
    be the fastest (``spectrum.kernels.plan_costs``). It is ``native`` where no other plan is
    expected to be faster by a fifth, where the plan isn't possible, and without a tuned plan on a
    GPU and on a CPU of a kind that wasn't measured.

    Args:
        conv: a grouped convolution, as ``SegmentedConv.spatial`` is.
        x: its input, (N, C, H, W).
    """
    return plan_of_all((conv,), x)


def plan_of_all(convs: Sequence[nn.Conv2d], x: Tensor) -> Plan:
    """The plan by which convolutions side by side are executed.

    It is that of the one with the most channels. Where there are several, only a kernel computes
    them together, and it must compute each of them.

    Args:
        convs: each takes the next channels of ``x``.
        x: as for ``plan_of``.
    """
    decision = decide(convs, x)
    return "native" if decision is None else decision.plan


@dataclass(slots=True)
class Decision:
    """What was decided for calls of a kind: a plan other than the native one.

    Attributes:
        plan: the plan.
        prepared: carries it out; ``execute.py`` fills it in at the first such call.
    """

    plan: Plan
    prepared: Callable[[Sequence[nn.Conv2d], Tensor], Tensor] | None = None


def decide(convs: Sequence[nn.Conv2d], x: Tensor) -> Decision | None:
    """The decision for a call; None where torch's own convolution is to run.

    It is made once for calls of a kind and then looked up, because small layers take no longer
    than making it does.

    Args:
        convs: as for ``plan_of_all``.
        x: as for ``plan_of_all``.
    """
    conv = convs[0]
    if (
        (conv.groups == 1 and len(convs) == 1)
        or type(x) is not Tensor
        or not (x.is_cpu or x.is_cuda)
        or x.layout != torch.strided
        or is_compiling()
        or _get_tracing_state() is not None  # while tracing, sizes are tensors
        or peek_interpreter_stack() is not None  # vmap doesn't know how its tensors lie in memory
    ):
        return None
    key = (
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        conv.padding_mode,
        tuple([(conv.in_channels, conv.out_channels, conv.groups) for conv in convs[1:]]),
        x.shape,
        x.stride(),
        x.device,
        autocast_type(x),
        is_grad_enabled(),
        get_num_threads(),
        has_given_up(),
        _requested.get(),
    )
    try:
        decision = _decisions[key]
    except KeyError:
        if len(_decisions) >= _MOST_DECISIONS:
            _decisions.clear()
        plan = _choose_for_all(convs, x)
        decision = _decisions[key] = None if plan == "native" else Decision(plan)
    if decision is None or not all([_is_eligible(conv, x) for conv in convs]):
        return None
    return decision


def _choose_for_all(convs: Sequence[nn.Conv2d], x: Tensor) -> Plan:
    plan = _choose(max(convs, key=lambda conv: conv.in_channels), x)
    if len(convs) == 1:
        return plan
    return plan if plan == "kernel" and all(_has_kernel(conv, x) for conv in convs) else "native"


def _choose(conv: nn.Conv2d, x: Tensor) -> Plan:
    if (
        conv.groups == 1
        or x.dim() != 4
        or 0 in x.shape
        or autocast_type(x) not in _MERGED_TYPES
        or channels_last(x) is None
    ):
        return "native"
    requested, kept = _requested.get(), _kept.get()
    if requested != "auto":
        return requested if _is_possible(requested, conv, x) else "native"
    call = describe_call(conv, x)
    earlier = [(kept or {}).get(call), stored_plans().get(call)]
    wanted = chain((plan for plan in earlier if plan is not None), _fastest_plans(conv, x))
    plan: Plan = next((plan for plan in wanted if _is_possible(plan, conv, x)), "native")
    if kept is not None:
        kept[call] = plan
    return plan


def _fastest_plans(conv: nn.Conv2d, x: Tensor) -> list[Plan]:
    """The plans that are expected to be faster than ``native``, the fastest first."""
    kind, shape = cpu_kind() if x.is_cpu else None, _measured_shape(conv, x)
    if kind is None or shape is None:
        return []
    mode = TRAINING if torch.is_grad_enabled() else "inference"
    expected = speedups((kind, *type_and_layout(x), mode), shape)
    faster = [plan for plan in expected if expected[plan] >= LEAST_SPEEDUP]
    return sorted(faster, key=lambda plan: -expected[plan])


def _measured_shape(conv: nn.Conv2d, x: Tensor) -> Shape | None:
    """The shape of a layer and its input; None where no layer of its kind was measured."""
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    width = conv.in_channels // conv.groups
    if (
        conv.in_channels != conv.out_channels
        or conv.kernel_size != (kernel, kernel)
        or kernel not in (3, 5, 7)
        or conv.stride != (stride, stride)
        or stride > 2
        or conv.padding != (kernel // 2, kernel // 2)
        or conv.dilation != (1, 1)
        or width > MOST_MEASURED
    ):
        return None
    batch, channels, height, columns = x.shape
    size, threads = math.sqrt(height * columns), torch.get_num_threads()
    return Shape(channels, size, batch, kernel, stride, threads, width)


def merge_factor(conv: nn.Conv2d, plan: Plan = "merged") -> int:
    """How many neighbouring segments a merged plan joins to a block.

    It is the largest divisor of the number of segments whose block has no more channels than the
    plan's ``MERGED_WIDTHS``.
    """
    most = max(1, MERGED_WIDTHS[plan] // (conv.in_channels // conv.groups))
    return max(n for n in range(1, most + 1) if conv.groups % n == 0)


def _is_eligible(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether the types and the way of the call allow any plan but the native one."""
    dtype, is_autocast = conv.weight.dtype, torch.is_autocast_enabled(x.device.type)
    types_fit = {dtype, x.dtype} <= _MERGED_TYPES if is_autocast else dtype == x.dtype
    return types_fit and is_plain_call(conv, nn.Conv2d, x)


def _is_possible(plan: Plan, conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether a plan computes this convolution, and does so in another way than ``native``."""
    if plan in MERGED_WIDTHS:
        return merge_factor(conv, plan) > 1
    if plan == "relaid":
        return not channels_last(x)
    return plan == "native" or _has_kernel(conv, x)


def _has_kernel(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether a compiled kernel computes it."""
    return (
        x.is_cpu
        and autocast_type(x) in TYPES
        and can_have_kernel(conv)
        and min(output_size(x, conv.weight, geometry_of(conv))) > 0
        and can_run_kernels()
        and kernel_of(conv.weight, geometry_of(conv), channels_last(x) is True, x.shape[3])
        is not None
    )


def can_have_kernel(conv: nn.Conv2d) -> bool:
    """Whether its channels and its padding are of the kind that kernels compute."""
    return (
        conv.in_channels == conv.out_channels
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )


def save_tuned_plan(conv: nn.Conv2d, x: Tensor, plan: Plan) -> None:
    """Store the plan of a layer on disk, for this process and later ones.

    It is that of training where gradients are enabled, else that of inference.

    Raises:
        OSError: the user's cache folder can't be written.
    """
    store_plan(describe_call(conv, x), plan)
    forget_plans()


def forget_plans() -> None:
    """Forget what was decided and read, so that stored plans are read again."""
    stored_plans.cache_clear()
    _decisions.clear()
