"""Whole networks side by side: images a second and memory, in training and in inference."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
from torch import nn

from spectrum.bench.subjects import NetworkBench, Subject, build_subject
from spectrum.costs.batch_size import find_batch_size
from spectrum.costs.grid import telling_network
from spectrum.costs.memory import is_out_of_memory
from spectrum.costs.timing import Timing, ratio, time_interleaved
from spectrum.costs.workload import make_workload
from spectrum.layers.plans import using_plan
from spectrum.training.seeding import seeded

__all__ = ["NetworkTimes", "bench_networks"]


class NetworkTimes(NamedTuple):
    """What was measured.

    Attributes:
        rows: a row a network and mode.
        notes: what a user should know of the networks, such as layers that saturate.
    """

    rows: pd.DataFrame
    notes: tuple[str, ...]


def bench_networks(subjects: Sequence[Subject], bench: NetworkBench) -> NetworkTimes:
    """Time networks in rounds, each a step a round, so that a slow spell meets all alike.

    What a step is, and what counts as memory, is what ``measure_costs`` says.

    Args:
        subjects: the networks, the first of them the one that the others are compared with.
        bench: how.

    Returns:
        Rows, mode by mode, of ``network, segments, width, precision, layout, plan, params, macs,
        mode, batch``; ``images_per_second`` and ``latency_ms`` (of a batch), each with its 95%
        interval; ``peak_memory`` (bytes); ``ratio``, the images a second over those of the first
        network in the same mode, with its interval; and ``rounds``. ``width`` is missing for a
        model as it is, ``macs`` where an operator's aren't known.

    Raises:
        ValueError: a network can't be built, counted or matched, doesn't take the images, or has
            no room in memory.
    """
    notes: dict[str, None] = {}
    facts: list[dict[str, Any]] = []
    with seeded(0):
        steps = []
        for subject in subjects:
            with telling_network(subject.name):
                for fact, step in _steps(subject, bench, notes):
                    facts.append(fact)
                    steps.append(step)
        calls = {str(i): step for i, step in enumerate(steps)}
        timed = time_interleaved(calls, seconds=bench.seconds, device=bench.device)
    rows = [
        fact | _measured(fact, timed[str(i)], facts[i % len(bench.modes)], timed, bench)
        for i, fact in enumerate(facts)
    ]
    rows.sort(key=lambda row: bench.modes.index(row["mode"]))
    return NetworkTimes(pd.DataFrame(rows).astype({"macs": "Int64"}), tuple(notes))


def _steps(
    subject: Subject, bench: NetworkBench, notes: dict[str, None]
) -> Iterator[tuple[dict[str, Any], Callable[[], object]]]:
    """What is known of a network, and its step, in every mode; what it warns of is noted."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        built = build_subject(subject, bench)
    notes |= dict.fromkeys(f"{subject.name}: {warning.message}" for warning in said)
    batch = bench.batch or _largest_batch(subject, built.network, bench)
    for mode in bench.modes:
        step, peak = _step(subject, built.network, mode, batch, bench)
        fact = {
            "network": subject.name,
            "segments": subject.segments,
            "width": built.width,
            "precision": subject.precision,
            "layout": subject.layout,
            "plan": subject.plan,
            "params": built.params,
            "macs": built.macs,
            "mode": mode,
            "batch": batch,
            "peak_memory": peak,
        }
        yield fact, step


def _measured(
    fact: dict[str, Any],
    timing: Timing,
    first: dict[str, Any],
    timed: dict[str, Timing],
    bench: NetworkBench,
) -> dict[str, Any]:
    """The figures of one network in one mode, beside those of the first."""
    low, high = timing.interval
    batch = fact["batch"]
    of_first = timed[str(bench.modes.index(fact["mode"]))]
    beside, more = ratio(of_first, timing), batch / first["batch"]
    return {
        "images_per_second": batch / timing.median,
        "images_per_second_low": batch / high,
        "images_per_second_high": batch / low,
        "latency_ms": 1000 * timing.median,
        "latency_ms_low": 1000 * low,
        "latency_ms_high": 1000 * high,
        "ratio": more * beside.median,
        "ratio_low": more * beside.interval[0],
        "ratio_high": more * beside.interval[1],
        "rounds": len(timing.samples),
    }


def _largest_batch(subject: Subject, network: nn.Module, bench: NetworkBench) -> int:
    return find_batch_size(
        network,
        bench.input_shape,
        bench.device,
        subject.precision,
        training="training" in bench.modes,
        channels_last=subject.layout == "channels_last",
    )


def _step(
    subject: Subject, network: nn.Module, mode: str, batch: int, bench: NetworkBench
) -> tuple[Callable[[], object], int]:
    """A step of a network, and the most memory that it holds."""
    try:
        with using_plan(subject.plan):
            work = make_workload(
                network,
                bench.input_shape,
                batch,
                bench.device,
                subject.precision,
                training=mode == "training",
                channels_last=subject.layout == "channels_last",
            )
            peak = work.peak_memory()
    except Exception as error:
        if is_out_of_memory(error):
            raise ValueError(
                f"batch (={batch}) must be smaller for {subject.name}, memory runs out"
            ) from error
        raise

    def step() -> None:
        with using_plan(subject.plan):
            work.call()

    return step, peak
