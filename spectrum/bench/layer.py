"""A layer timed along the dial, compared with torch's own grouped convolution."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
import torch
from torch import Tensor, nn

from spectrum.bench.config import LayerBenchConfig, PlanName
from spectrum.bench.machine import name_batch_if_memory_runs_out
from spectrum.bench.roofline import Ceilings, make_probes, measured_ceilings, roofline_limits
from spectrum.bench.summary import interval_columns
from spectrum.costs.timing import Timing, ratio, time_interleaved
from spectrum.errors import FieldError
from spectrum.kernels.plans import plan_of_all, using_plan
from spectrum.kernels.tune import tune
from spectrum.layers import SegmentedConv
from spectrum.layers.spatial import plain_convs
from spectrum.segments import Segments
from spectrum.training.seeding import seeded
from spectrum.user_code import describe_error

_PROBE_SHARE = 0.1  # of the time, for each of the two measurements of the ceilings
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
"""The memory layouts in which layers are timed."""
_KINDS = ("ours", "native")
_Key: TypeAlias = tuple[str, int, str]
"""One of ``_KINDS``, the index of the point, and the layout."""
_Step: TypeAlias = Callable[[], object]


class LayerTimes(NamedTuple):
    """The measurements of a layer.

    Attributes:
        rows: one row per point; times are in milliseconds, each with its 95% interval.
        ceilings: the ceilings of the machine, measured in the same run.
    """

    rows: pd.DataFrame
    ceilings: Ceilings


def bench_layer(config: LayerBenchConfig) -> LayerTimes:
    """Time a spatial convolution at every point, as our layer and as the library's.

    All layers are timed in turns, so that a slow phase of the machine affects all of them alike.
    Each is timed in two memory layouts. Our layer's time is that in the faster one, since a network
    at that point would use it; it is compared with the library's default and with its better
    layout. The library's layer is ``nn.Conv2d`` with ``groups`` where the segments are equal. It
    has none for uneven segments; a grouped convolution for each run of equal segments takes its
    place.

    Args:
        config: what to time.

    Returns:
        The times, with these columns among others: ``layout`` (in which our layer is faster),
        ``plan`` (how it is executed there), ``native`` (what it is compared with),
        ``ratio_default`` and ``ratio_best`` (the library's time in its default and in its better
        layout, divided by ours) and ``roofline`` (the least time that the ceilings allow, divided
        by ours).

    Raises:
        FieldError: the segments don't fit the channels, or the device can't compute in the
            precision.
    """
    with prepared_layers(config) as (ours, x, steps):
        timed, ceiling = _measure(config, steps, x)
    rows = []
    for i, (point, conv) in enumerate(zip(config.points, ours, strict=True)):
        times = {(kind, layout): timed[kind, i, layout] for kind in _KINDS for layout in LAYOUTS}
        rows.append(_make_row(config, point, conv, times, ceiling, x))
    return LayerTimes(pd.DataFrame(rows), ceiling)


@contextmanager
def prepared_layers(
    config: LayerBenchConfig,
) -> Iterator[tuple[list[SegmentedConv], Tensor, dict[_Key, _Step]]]:
    """Make our layer at every point, tune it if asked for, and make the steps to time.

    Yields:
        Our layers, their input, and a step of every layer in every layout.

    Raises:
        FieldError: memory runs out, or the device can't compute in the precision; also where the
            body of the ``with`` block finds this.
    """
    with (
        name_batch_if_memory_runs_out(config.batch),
        _name_precision_if_unsupported(config),
        seeded(0),
    ):
        ours = [_make_layer(config, point) for point in config.points]
        x = torch.randn(config.batch, config.channels, config.size, config.size)
        x = x.to(config.device, getattr(torch, config.precision))
        if config.tune:
            _tune(ours, x)
        yield ours, x, _make_steps(config, ours, x)


@contextmanager
def _name_precision_if_unsupported(config: LayerBenchConfig) -> Iterator[None]:
    """Raise a FieldError that names the precision if the device can't convolve in it."""
    try:
        yield
    except RuntimeError as error:
        if "not implemented for" not in str(error):
            raise
        allowed = f"must be one that {config.device} convolves in: {describe_error(error)}"
        raise FieldError("precision", config.precision, allowed) from error


def _make_steps(
    config: LayerBenchConfig, ours: Sequence[SegmentedConv], x: Tensor
) -> dict[_Key, _Step]:
    """Make a step of every layer in every layout."""
    layers = {"ours": ours, "native": [_make_native_layer(config, conv) for conv in ours]}
    plans: dict[str, PlanName] = {"ours": config.plan, "native": "native"}
    return {
        (kind, i, layout): _step(conv, x, layout, plans[kind], config.forward_only)
        for kind in _KINDS
        for i, conv in enumerate(layers[kind])
        for layout in LAYOUTS
    }


def _measure(
    config: LayerBenchConfig, steps: Mapping[_Key, _Step], x: Tensor
) -> tuple[dict[_Key, Timing], Ceilings]:
    """Time the steps, and measure the ceilings before and after them."""
    probes = make_probes(config.device, x.dtype, x.numel() * x.element_size())

    def time_probes() -> dict[str, Timing]:
        # Not in turns with the layers: the large buffers would push their tensors out of caches.
        calls = {name: probe.call for name, probe in probes.items()}
        seconds = _PROBE_SHARE * config.seconds
        return time_interleaved(calls, seconds=seconds, min_repeats=3, device=config.device)

    before = time_probes()
    timed = time_interleaved(
        steps, seconds=(1 - 2 * _PROBE_SHARE) * config.seconds, device=config.device
    )
    return timed, measured_ceilings(probes, before, time_probes())


def _make_layer(config: LayerBenchConfig, point: str) -> SegmentedConv:
    conv = SegmentedConv(
        config.channels,
        config.channels,
        config.kernel,
        segments=Segments(point),
        order="spatial_only",
        stride=config.stride,
    )
    return conv.to(config.device, getattr(torch, config.precision))


def _tune(ours: Sequence[SegmentedConv], x: Tensor) -> None:
    """Find and store the fastest plans of every layer with equal segments.

    Each layout has its plans for training and for inference.
    """
    even = [conv.spatial for conv in ours if isinstance(conv.spatial, nn.Conv2d)]
    for conv, layout, forward_only in product(even, LAYOUTS.values(), (False, True)):
        spatial = copy.deepcopy(conv).to(memory_format=layout)  # type: ignore[call-overload]
        images = x.contiguous(memory_format=layout)
        try:
            tune(spatial, images, forward_only=forward_only)
        except OSError as error:
            allowed = f"must be able to write the user's cache: {error}"
            raise FieldError("tune", True, allowed) from error


def _make_native_layer(config: LayerBenchConfig, ours: SegmentedConv) -> nn.Module:
    """The library's layer for the same segments; a copy of ours where the library has none."""
    if not isinstance(ours.spatial, nn.Conv2d):
        return copy.deepcopy(ours)
    conv = nn.Conv2d(
        config.channels,
        config.channels,
        config.kernel,
        stride=config.stride,
        padding=config.kernel // 2 if config.kernel % 2 else "same",
        groups=ours.segment_count,
        bias=False,
    )
    conv.load_state_dict(ours.spatial.state_dict())
    return conv.to(config.device, getattr(torch, config.precision))


def _step(conv: nn.Module, x: Tensor, layout: str, plan: PlanName, forward_only: bool) -> _Step:
    """Make a step of a copy of a layer, with all tensors in a memory layout, and take it once."""
    conv = copy.deepcopy(conv).to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]
    x = x.contiguous(memory_format=LAYOUTS[layout])
    images = x.detach().requires_grad_()
    differentiated = (images, *conv.parameters())

    def forward() -> Tensor:
        with torch.inference_mode(), using_plan(plan):
            return conv(x)  # type: ignore[no-any-return]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that padding an even kernel copies images
        gradient = torch.randn_like(forward())  # in the layout of the output

    def forward_backward() -> object:
        with using_plan(plan):
            return torch.autograd.grad(conv(images), differentiated, gradient)

    if forward_only:
        return forward
    forward_backward()  # the first call may compile a kernel
    return forward_backward


def _make_row(
    config: LayerBenchConfig,
    point: str,
    conv: SegmentedConv,
    times: dict[tuple[str, str], Timing],
    ceiling: Ceilings,
    x: Tensor,
) -> dict[str, Any]:
    layout = min(LAYOUTS, key=lambda name: times["ours", name].median)
    best_layout = min(LAYOUTS, key=lambda name: times["native", name].median)
    timing = times["ours", layout]
    sizes = conv.segments.sizes(config.channels)
    weights = config.kernel**2 * sum(size * size for size in sizes)
    outputs = math.ceil(config.size / config.stride) ** 2  # positions
    macs = weights * outputs  # for one image
    passes = 1 if config.forward_only else 3
    elements = x.numel() + config.batch * config.channels * outputs + weights
    limits = roofline_limits(ceiling, passes, config.batch * macs, elements, x.element_size())
    allowed = max(limits)
    native, best = times["native", "contiguous"], times["native", best_layout]
    return {
        "segments": point,
        "segment_count": len(sizes),
        "channels_per_segment": config.channels / len(sizes),
        "macs": macs,
        **_milliseconds("ms", timing),
        "gflops": passes * 2 * config.batch * macs / timing.median / 1e9,
        "arithmetic_ms": 1000 * limits.arithmetic,
        "memory_ms": 1000 * limits.memory,
        "allowed_ms": 1000 * allowed,
        "roofline": allowed / timing.median,
        "plan": name_plan(config, conv, x, layout),
        "layout": layout,
        "native": "nn.Conv2d" if isinstance(conv.spatial, nn.Conv2d) else "grouped runs",
        **_milliseconds("default_ms", native),
        **_milliseconds("channels_last_ms", times["native", "channels_last"]),
        "best_layout": best_layout,
        **interval_columns("ratio_default", *ratio(native, timing)),
        **interval_columns("ratio_best", *ratio(best, timing)),
        "rounds": len(timing.samples),
    }


def _milliseconds(name: str, timing: Timing) -> dict[str, float]:
    low, high = timing.interval
    return interval_columns(name, 1000 * timing.median, (1000 * low, 1000 * high))


def name_plan(config: LayerBenchConfig, conv: SegmentedConv, x: Tensor, layout: str) -> str:
    """The plan of our layer in a layout."""
    x = x.contiguous(memory_format=LAYOUTS[layout])
    with using_plan(config.plan):
        return plan_of_all(plain_convs(conv.spatial), x)
