"""The default study beside a plain script that does the same work, in runs a minute."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from scipy import stats

from spectrum.bench.programs import Failed, time_program
from spectrum.report.statistics import Interval
from spectrum.study import StudyConfig, load_results
from spectrum.study.plan import make_plan

__all__ = ["StudyTimes", "bench_study", "compare_accuracy", "speedup"]

OURS, PLAIN = "spectrum.study", "plain script"
SEGMENTS = "1,4,32,C"
_COLUMNS = ["segments", "seed", "params", "test_top1"]


class StudyTimes(NamedTuple):
    """What was measured.

    Attributes:
        times: a row each time that a program was run: ``program, repeat, runs, seconds``,
            ``runs_a_minute`` and the mean ``test_top1``. Seconds are those of the whole process.
        runs: a row a run of each program, once: ``program, segments, seed, params, test_top1``.
    """

    times: pd.DataFrame
    runs: pd.DataFrame


def bench_study(
    script: Path,
    *,
    seeds: int,
    epochs: int,
    repeats: int,
    on_program: Callable[[str, int], None] | None = None,
) -> StudyTimes:
    """Run the default study on the CPU and the plain script, from nothing, by turns.

    Each is a process of its own, timed from its start to its end: imports, planning, and what each
    writes at its end (the study: its figures and its page) included. The one that begins changes
    from repeat to repeat. The script gets the widths that the study's plan solves.

    Args:
        script: takes ``--seeds``, ``--epochs``, ``--widths 1=0.37,C=1`` and ``--out FILE``, a CSV
            of ``segments, seed, params, test_top1``.
        seeds: runs a point.
        epochs: of a run.
        repeats: how often each is run.
        on_program: called before each, with its name and the number of the repeat.

    Raises:
        Failed: one of them ends with an error, or they trained networks of different sizes.
    """
    config = StudyConfig(segments=SEGMENTS, seeds=seeds, epochs=epochs, device="cpu")
    points = {point.network.segments: point for point in make_plan(config).points}
    widths = ",".join(f"{name}={point.network.width:g}" for name, point in points.items())
    times: list[dict[str, Any]] = []
    found: dict[str, pd.DataFrame] = {}
    for repeat in range(1, repeats + 1):
        for program in (OURS, PLAIN) if repeat % 2 else (PLAIN, OURS):
            if on_program:
                on_program(program, repeat)
            with tempfile.TemporaryDirectory() as folder:
                if program == OURS:
                    seconds, runs = _run_ours(Path(folder), seeds, epochs)
                else:
                    seconds, runs = _run_plain(script, Path(folder), seeds, epochs, widths)
            for segments, params in zip(runs["segments"], runs["params"], strict=True):
                if params != points[segments].params:
                    raise Failed(
                        f"{program} trained {params:,} parameters at {segments} segments, "
                        f"the plan has {points[segments].params:,}"
                    )
            found[program] = runs.assign(program=program)
            times.append(
                {
                    "program": program,
                    "repeat": repeat,
                    "runs": len(runs),
                    "seconds": seconds,
                    "runs_a_minute": 60 * len(runs) / seconds,
                    "test_top1": runs["test_top1"].mean(),
                }
            )
    both = pd.concat([found[OURS], found[PLAIN]], ignore_index=True)
    return StudyTimes(pd.DataFrame(times), both[["program", *_COLUMNS]])


def speedup(times: pd.DataFrame) -> float:
    """How many times as many runs a minute the study makes: the median over the repeats."""
    rates = times.pivot(index="repeat", columns="program", values="runs_a_minute")
    return float((rates[OURS] / rates[PLAIN]).median())


def compare_accuracy(runs: pd.DataFrame) -> Interval:
    """How much more accurate the study's runs are than the script's, with a 95% interval.

    The two draw different random numbers from the same seed, so their seeds aren't pairs: it is
    Welch's interval for two means, each of as many values as there are seeds, the mean over the
    points.

    Args:
        runs: as ``bench_study`` gives them.

    Returns:
        The difference; its bounds are NaN for a single seed.
    """
    means = runs.groupby(["program", "seed"])["test_top1"].mean()
    ours, plain = means[OURS].to_numpy(), means[PLAIN].to_numpy()
    difference = float(ours.mean() - plain.mean())
    if min(len(ours), len(plain)) < 2 or ours.std() + plain.std() == 0:
        return Interval(difference, math.nan, math.nan)
    low, high = stats.ttest_ind(ours, plain, equal_var=False).confidence_interval(0.95)
    return Interval(difference, float(low), float(high))


def _run_ours(folder: Path, seeds: int, epochs: int) -> tuple[float, pd.DataFrame]:
    seconds = time_program(
        *("-m", "spectrum.study", "--segments", SEGMENTS, "--name", "bench", "--device", "cpu"),
        *("--seeds", str(seeds), "--epochs", str(epochs)),
        *("--out", str(folder), "--runs", str(folder / "runs")),
    )
    return seconds, load_results(folder / "bench")[_COLUMNS]


def _run_plain(
    script: Path, folder: Path, seeds: int, epochs: int, widths: str
) -> tuple[float, pd.DataFrame]:
    rows = folder / "rows.csv"
    seconds = time_program(
        *(str(script), "--seeds", str(seeds), "--epochs", str(epochs)),
        *("--widths", widths, "--out", str(rows)),
    )
    return seconds, pd.read_csv(rows, dtype={"segments": str})[_COLUMNS]
