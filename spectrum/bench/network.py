"""Whole networks compared: images per second and memory, in training and in inference."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
from torch import nn

from spectrum.bench.cases import build_case
from spectrum.bench.config import NetworkBenchConfig, NetworkCase
from spectrum.bench.machine import name_batch_if_memory_runs_out
from spectrum.bench.summary import interval_columns
from spectrum.costs.batch_size import find_batch_size
from spectrum.costs.grid import add_name_to_errors
from spectrum.costs.timing import Timing, ratio, time_interleaved
from spectrum.costs.workload import make_workload
from spectrum.kernels.plans import using_plan
from spectrum.training.seeding import seeded


class NetworkTimes(NamedTuple):
    """The measurements of networks.

    Attributes:
        rows: one row per network and mode.
        notes: remarks for the user, such as layers that saturate.
    """

    rows: pd.DataFrame
    notes: tuple[str, ...]


def bench_networks(cases: Sequence[NetworkCase], bench: NetworkBenchConfig) -> NetworkTimes:
    """Time networks in turns, so that a slow phase of the machine affects all of them alike.

    ``measure_costs`` describes what a step is, and what counts as memory.

    Args:
        cases: the networks; the others are compared with the first.
        bench: how they are timed.

    Returns:
        One row per network and mode, ordered by mode: ``network, segments, width, precision,
        layout, plan, params, macs, mode, batch``; ``images_per_second`` and ``latency_ms`` (of a
        batch), each with its 95% interval; ``peak_memory`` (bytes); ``ratio``, the images per
        second divided by those of the first network in the same mode, with its interval; and
        ``rounds``. ``width`` is missing for an unconverted model, ``macs`` where the cost of an
        operator isn't known.

    Raises:
        FieldError: a network can't be built, counted or matched, can't process the images, or
            doesn't fit in memory.
    """
    notes: dict[str, None] = {}
    descriptions: list[dict[str, Any]] = []
    with seeded(0):
        steps: list[Callable[[], object]] = []
        for case in cases:
            with add_name_to_errors(case.name):
                for description, step in _steps(case, bench, notes):
                    descriptions.append(description)
                    steps.append(step)
        timed = time_interleaved(dict(enumerate(steps)), seconds=bench.seconds, device=bench.device)
    modes = len(bench.modes)
    rows = [
        description | _measured(description, timed[i], descriptions[i % modes], timed[i % modes])
        for i, description in enumerate(descriptions)
    ]
    rows.sort(key=lambda row: bench.modes.index(row["mode"]))
    return NetworkTimes(pd.DataFrame(rows).astype({"macs": "Int64"}), tuple(notes))


def _steps(
    case: NetworkCase, bench: NetworkBenchConfig, notes: dict[str, None]
) -> Iterator[tuple[dict[str, Any], Callable[[], object]]]:
    """A description of a network, and its step, in each mode; its warnings go to ``notes``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        built = build_case(case, bench)
    notes |= dict.fromkeys(f"{case.name}: {warning.message}" for warning in caught)
    batch = bench.batch
    if batch == "auto":
        batch = _largest_batch(case, built.network, bench)
    for mode in bench.modes:
        step, peak = _step(case, built.network, mode, batch, bench)
        description = {
            "network": case.name,
            "segments": case.segments,
            "width": built.width,
            "precision": case.precision,
            "layout": case.layout,
            "plan": case.plan,
            "params": built.params,
            "macs": built.macs,
            "mode": mode,
            "batch": batch,
            "peak_memory": peak,
        }
        yield description, step


def _measured(
    description: dict[str, Any], timing: Timing, first: dict[str, Any], first_timing: Timing
) -> dict[str, Any]:
    """The measurements of one network in one mode, and how it compares with the first."""
    low, high = timing.interval
    batch = description["batch"]
    time_ratio, batch_ratio = ratio(first_timing, timing), batch / first["batch"]
    ratio_low, ratio_high = time_ratio.interval
    return {
        **interval_columns("images_per_second", batch / timing.median, (batch / high, batch / low)),
        **interval_columns("latency_ms", 1000 * timing.median, (1000 * low, 1000 * high)),
        **interval_columns(
            "ratio",
            batch_ratio * time_ratio.median,
            (batch_ratio * ratio_low, batch_ratio * ratio_high),
        ),
        "rounds": len(timing.samples),
    }


def _largest_batch(case: NetworkCase, network: nn.Module, bench: NetworkBenchConfig) -> int:
    return find_batch_size(
        network,
        bench.shape,
        bench.device,
        case.precision,
        training="training" in bench.modes,
        channels_last=case.layout == "channels_last",
    )


def _step(
    case: NetworkCase, network: nn.Module, mode: str, batch: int, bench: NetworkBenchConfig
) -> tuple[Callable[[], object], int]:
    """A step of a network, and its peak memory."""
    with name_batch_if_memory_runs_out(batch), using_plan(case.plan):
        workload = make_workload(
            network,
            bench.shape,
            batch,
            bench.device,
            case.precision,
            training=mode == "training",
            channels_last=case.layout == "channels_last",
        )
        peak = workload.peak_memory()

    def step() -> None:
        with using_plan(case.plan):
            workload.run_step()

    return step, peak
