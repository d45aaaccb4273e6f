"""A layer along the dial: its time beside the library's own grouped convolution."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
import torch
from torch import Tensor, nn

from spectrum.bench.arguments import PlanName, Precision
from spectrum.bench.roofline import Ceilings, allowed_seconds, ceilings, layer_passes, probes
from spectrum.costs.inputs import one_line
from spectrum.costs.memory import is_out_of_memory
from spectrum.costs.timing import Timing, ratio, time_interleaved
from spectrum.layers import SegmentedConv, UnevenConv2d
from spectrum.layers.plans import plan_of, using_plan
from spectrum.layers.tune import tune
from spectrum.segments import Segments
from spectrum.training.seeding import seeded

__all__ = ["LayerBench", "LayerTimes", "bench_layer", "default_points"]

_PROBING = 0.1  # the share of the time that each measurement of the ceilings gets
_LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
_KINDS = ("ours", "native")
_Key: TypeAlias = tuple[str, int, str]
"""One of ``_KINDS``, the number of the point, the layout."""
_Call: TypeAlias = Callable[[], object]


@dataclass(frozen=True)
class LayerBench:
    """What to time.

    Attributes:
        channels: of the input and the output.
        size: height and width.
        batch: images.
        kernel: height and width of the kernel.
        segments: points of the dial.
        precision: of the input, the weight and all that is computed.
        plan: by which ours is executed.
        device: where.
        training: forward and backward, with the gradients of the input and of the weight; or
            forward alone.
        seconds: how long to measure, all together.
        tune: whether each point's fastest plan on this machine is found first, and kept.
    """

    channels: int
    size: int
    batch: int
    kernel: int
    segments: tuple[str, ...]
    precision: Precision
    plan: PlanName
    device: str
    training: bool
    seconds: float
    tune: bool = False


class LayerTimes(NamedTuple):
    """What was measured.

    Attributes:
        rows: a row a point; times in milliseconds, each with its 95% interval.
        ceilings: of the machine, in the same run.
    """

    rows: pd.DataFrame
    ceilings: Ceilings


def default_points(channels: int) -> list[str]:
    """The dial for a number of channels: its divisors and the powers of two, ``C`` the last."""
    powers = {2**i for i in range(channels.bit_length())}
    divisors = {n for n in range(1, channels + 1) if channels % n == 0}
    return [*map(str, sorted((powers | divisors) - {channels})), "C"]


def bench_layer(config: LayerBench) -> LayerTimes:
    """Time a spatial convolution at every point, ours and the library's, all in one run.

    All are timed in rounds, each once a round, so that a slow spell of the machine meets all
    alike. Ours is timed in two memory layouts and counts in the faster, as a network at that point
    would be run; so does the best of the library's. The library's is ``nn.Conv2d`` with ``groups``
    where all segments are alike; where they aren't, it has no such layer, and a grouped
    convolution for each run of equal segments takes its place.

    Args:
        config: what to time.

    Returns:
        The times, with ``layout`` (in which ours is faster), ``plan`` (how it is executed there),
        ``native`` (what it stands beside), ``ratio_default`` and ``ratio_best`` (how many times as
        long the library's takes in its default and in its better layout) and ``roofline`` (the
        least time that the ceilings allow over the time that ours takes).

    Raises:
        ValueError: segments that don't fit the channels, or a precision that the device can't
            compute in.
    """
    with _explaining(config), seeded(0):
        ours = [_ours(config, point) for point in config.segments]
        x = torch.randn(config.batch, config.channels, config.size, config.size)
        x = x.to(config.device, getattr(torch, config.precision))
        if config.tune:
            _tune(ours, x)
        calls = _calls(config, ours, x)
        timed, ceiling = _measure(config, calls, x)
    rows = []
    for i, (point, conv) in enumerate(zip(config.segments, ours, strict=True)):
        times = {(kind, layout): timed[kind, i, layout] for kind in _KINDS for layout in _LAYOUTS}
        rows.append(_row(config, point, conv, times, ceiling, x))
    return LayerTimes(pd.DataFrame(rows), ceiling)


@contextmanager
def _explaining(config: LayerBench) -> Iterator[None]:
    """Say what to do about memory that runs out, or a type that a device doesn't compute in."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise ValueError(f"batch (={config.batch}) must be smaller, memory runs out") from error
        if "not implemented for" not in str(error):
            raise
        raise ValueError(
            f"precision (={config.precision!r}) must be one that {config.device} convolves in: "
            f"{one_line(error)}"
        ) from error


def _calls(config: LayerBench, ours: Sequence[SegmentedConv], x: Tensor) -> dict[_Key, _Call]:
    """A step of every layer in every layout."""
    layers = {"ours": ours, "native": [_native(config, conv) for conv in ours]}
    plans: dict[str, PlanName] = {"ours": config.plan, "native": "native"}
    return {
        (kind, i, layout): _step(conv, x, layout, plans[kind], config.training)
        for kind in _KINDS
        for i, conv in enumerate(layers[kind])
        for layout in _LAYOUTS
    }


def _measure(
    config: LayerBench, calls: Mapping[_Key, _Call], x: Tensor
) -> tuple[dict[_Key, Timing], Ceilings]:
    """The times of the steps, and the ceilings before and after them."""
    probed = probes(config.device, x.dtype, x.numel() * x.element_size())

    def probe() -> dict[str, Timing]:
        # Apart from the layers, whose tensors the large buffers would push out of the caches.
        probing = {name: probe.call for name, probe in probed.items()}
        seconds = _PROBING * config.seconds
        return time_interleaved(probing, seconds=seconds, min_repeats=3, device=config.device)

    named = {f"{kind} {i} {layout}": (kind, i, layout) for kind, i, layout in calls}
    before = probe()
    timed = time_interleaved(
        {name: calls[key] for name, key in named.items()},
        seconds=(1 - 2 * _PROBING) * config.seconds,
        device=config.device,
    )
    ceiling = ceilings(probed, before, probe())
    return {key: timed[name] for name, key in named.items()}, ceiling


def _ours(config: LayerBench, point: str) -> SegmentedConv:
    conv = SegmentedConv(
        config.channels,
        config.channels,
        config.kernel,
        segments=Segments(point),
        order="spatial_only",
    )
    return conv.to(config.device, getattr(torch, config.precision))


def _tune(ours: Sequence[SegmentedConv], x: Tensor) -> None:
    """Find and keep the fastest plan of every layer with segments alike, in either layout."""
    for conv in ours:
        for layout in _LAYOUTS.values() if isinstance(conv.spatial, nn.Conv2d) else ():
            laid = copy.deepcopy(conv.spatial).to(memory_format=layout)  # type: ignore[call-overload]
            try:
                tune(laid, x.contiguous(memory_format=layout))
            except OSError as error:
                raise ValueError(f"tune must be able to write the user's cache: {error}") from error


def _native(config: LayerBench, ours: SegmentedConv) -> nn.Module:
    """What the library has for it; our plain grouped form where it has nothing."""
    if not isinstance(ours.spatial, nn.Conv2d):
        return copy.deepcopy(ours)
    conv = nn.Conv2d(
        config.channels,
        config.channels,
        config.kernel,
        padding=config.kernel // 2 if config.kernel % 2 else "same",
        groups=ours.segment_count,
        bias=False,
    )
    conv.load_state_dict(ours.spatial.state_dict())
    return conv.to(config.device, getattr(torch, config.precision))


def _step(conv: nn.Module, x: Tensor, layout: str, plan: PlanName, training: bool) -> _Call:
    """One step of a copy of a layer, all its tensors in a memory layout; it is taken once."""
    conv = copy.deepcopy(conv).to(memory_format=_LAYOUTS[layout])  # type: ignore[call-overload]
    x = x.contiguous(memory_format=_LAYOUTS[layout])

    images = x.detach().requires_grad_()
    wanted = (images, *conv.parameters())

    def forward() -> Tensor:
        with torch.inference_mode(), using_plan(plan):
            return conv(x)  # type: ignore[no-any-return]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an even kernel's padding costs a copy, as it should here
        gradient = torch.randn_like(forward())  # in the layout of the output

    def both() -> object:
        with using_plan(plan):
            return torch.autograd.grad(conv(images), wanted, gradient)

    if not training:
        return forward
    both()  # what is compiled at the first call takes none of the time to measure
    return both


def _row(
    config: LayerBench,
    point: str,
    conv: SegmentedConv,
    times: dict[tuple[str, str], Timing],
    ceiling: Ceilings,
    x: Tensor,
) -> dict[str, Any]:
    layout = min(_LAYOUTS, key=lambda name: times["ours", name].median)
    best_layout = min(_LAYOUTS, key=lambda name: times["native", name].median)
    own = times["ours", layout]
    sizes = conv.segments.sizes(config.channels)
    weights = config.kernel**2 * sum(size * size for size in sizes)
    macs = weights * config.size**2  # of one image
    passes = layer_passes(
        config.batch * macs,
        x.numel(),
        x.numel(),
        weights,
        x.element_size(),
        training=config.training,
    )
    allowed = allowed_seconds(passes, ceiling)
    return {
        "segments": point,
        "segment_count": len(sizes),
        "channels_a_segment": config.channels / len(sizes),
        "macs": macs,
        **_milliseconds("ms", own),
        "gflops": sum(p.flops for p in passes) / own.median / 1e9,
        "allowed_ms": 1000 * allowed,
        "roofline": allowed / own.median,
        "plan": _plan_of(config, conv, x, layout),
        "layout": layout,
        "native": "nn.Conv2d" if isinstance(conv.spatial, nn.Conv2d) else "grouped runs",
        **_milliseconds("default_ms", times["native", "contiguous"]),
        **_milliseconds("channels_last_ms", times["native", "channels_last"]),
        "best_layout": best_layout,
        **_ratio("ratio_default", times["native", "contiguous"], own),
        **_ratio("ratio_best", times["native", best_layout], own),
        "rounds": len(own.samples),
    }


def _milliseconds(name: str, timing: Timing) -> dict[str, float]:
    low, high = timing.interval
    times = {name: timing.median, f"{name}_low": low, f"{name}_high": high}
    return {column: 1000 * seconds for column, seconds in times.items()}


def _ratio(name: str, theirs: Timing, ours: Timing) -> dict[str, float]:
    found = ratio(theirs, ours)
    low, high = found.interval
    return {name: found.median, f"{name}_low": low, f"{name}_high": high}


def _plan_of(config: LayerBench, conv: SegmentedConv, x: Tensor, layout: str) -> str:
    """The plan that ours takes in a layout; uneven runs take one of ours together or none."""
    parts = conv.spatial.convs if isinstance(conv.spatial, UnevenConv2d) else [conv.spatial]
    x = x.contiguous(memory_format=_LAYOUTS[layout])
    with using_plan(config.plan):
        plans = {str(plan_of(part, x)) for part in parts}  # type: ignore[arg-type]
    return plans.pop() if plans == {"kernel"} or len(parts) == 1 else "native"
