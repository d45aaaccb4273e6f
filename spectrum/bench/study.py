"""The default study compared with a plain script that does the same work, in runs per minute."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from scipy import stats

from spectrum.analysis.folder import load_results, read_rows
from spectrum.analysis.statistics import Interval
from spectrum.bench.config import StudyBenchConfig
from spectrum.cli import CommandFailed
from spectrum.layers.acceleration import compile_kernels
from spectrum.networks import build
from spectrum.study import StudyConfig
from spectrum.study.plan import make_plan

OURS, PLAIN = "spectrum.study", "plain script"
SEGMENTS = "1,4,32,C"
_TYPES: dict[str, type] = {"segments": str, "seed": int, "params": int, "test_top1": float}


class StudyTimes(NamedTuple):
    """The measurements of both programs.

    Attributes:
        times: one row for each time that a program ran: ``program, repeat, runs, seconds``,
            ``runs_per_minute`` and the mean ``test_top1``. ``seconds`` is the time of the process.
        runs: one row per training run, from one repeat of each program: ``program, segments,
            seed, params, test_top1``.
    """

    times: pd.DataFrame
    runs: pd.DataFrame


def bench_study(bench: StudyBenchConfig, on_program: Callable[[str, int], None]) -> StudyTimes:
    """Run the default study and the plain script in turns on the CPU, each from scratch.

    Each is a process of its own that is timed from start to end. This includes imports, planning,
    and what each writes at its end, such as the figures and the page of the study. The order of
    the two changes with each repeat. The script gets the widths that the study's plan has solved.
    Kernels are compiled before, because a machine does so once.

    Args:
        bench: how often they run, and the script. It takes ``--seeds``, ``--epochs``, ``--widths
            1=0.37,C=1`` and ``--out FILE``, to which it writes a CSV of ``segments, seed, params,
            test_top1``.
        on_program: is called before each run of a program, with its name and the number of the
            repeat.

    Raises:
        CommandFailed: a program ends with an error, or trains networks of other sizes than the
            plan has.
        ValueError: the script doesn't write such a CSV.
    """
    config = StudyConfig(segments=SEGMENTS, seeds=bench.seeds, epochs=bench.epochs, device="cpu")
    points = {point.network.segments: point for point in make_plan(config).points}
    for point in points.values():
        compile_kernels(build(point.network), torch.float32, channels_last=True)
    widths = ",".join(f"{name}={point.network.width:g}" for name, point in points.items())
    times: list[dict[str, Any]] = []
    found: dict[str, pd.DataFrame] = {}
    for repeat in range(1, bench.repeats + 1):
        for program in (OURS, PLAIN) if repeat % 2 else (PLAIN, OURS):
            on_program(program, repeat)
            with tempfile.TemporaryDirectory() as folder:
                if program == OURS:
                    seconds, runs = _run_ours(bench, Path(folder))
                else:
                    seconds, runs = _run_plain(bench, Path(folder), widths)
            for segments, params in zip(runs["segments"], runs["params"], strict=True):
                expected = points[segments].params if segments in points else 0
                if params != expected:
                    raise CommandFailed(
                        f"{program} trained {params:,} parameters with segments {segments}, "
                        f"the plan has {expected:,}"
                    )
            found[program] = runs.assign(program=program)
            times.append(
                {
                    "program": program,
                    "repeat": repeat,
                    "runs": len(runs),
                    "seconds": seconds,
                    "runs_per_minute": 60 * len(runs) / seconds,
                    "test_top1": runs["test_top1"].mean(),
                }
            )
    both = pd.concat([found[OURS], found[PLAIN]], ignore_index=True)
    return StudyTimes(pd.DataFrame(times), both[["program", *_TYPES]])


def speedup(times: pd.DataFrame) -> float:
    """The study's runs per minute divided by those of the script: the median of the repeats."""
    rates = times.pivot(index="repeat", columns="program", values="runs_per_minute")
    return float((rates[OURS] / rates[PLAIN]).median())


def compare_accuracy(runs: pd.DataFrame) -> Interval:
    """The mean accuracy of the study's runs minus that of the script's, with a 95% interval.

    The programs draw different random numbers from the same seed, so their seeds aren't pairs. The
    interval is Welch's for two means. Each value is the mean over the points for one seed.

    Args:
        runs: the runs of ``bench_study``.

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


def time_program(*arguments: str) -> float:
    """The seconds that a Python program takes.

    Args:
        arguments: the arguments of the interpreter, ``"-m"`` and a module or a file, followed by
            those of the program.

    Raises:
        CommandFailed: the program's exit status isn't 0. The message ends with the last line of
            its standard error.
    """
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, errors="replace"
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        name = arguments[1] if arguments[0] == "-m" else arguments[0]
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CommandFailed(f"{name} ended with status {done.returncode}: {last}")
    return seconds


def _run_ours(bench: StudyBenchConfig, folder: Path) -> tuple[float, pd.DataFrame]:
    seconds = time_program(
        "-m",
        "spectrum.study",
        f"--segments={SEGMENTS}",
        "--name=bench",
        "--device=cpu",
        f"--seeds={bench.seeds}",
        f"--epochs={bench.epochs}",
        f"--out={folder}",
        f"--runs={folder / 'runs'}",
    )
    return seconds, load_results(folder / "bench")[[*_TYPES]]


def _run_plain(bench: StudyBenchConfig, folder: Path, widths: str) -> tuple[float, pd.DataFrame]:
    rows = folder / "rows.csv"
    seconds = time_program(
        str(bench.script),
        f"--seeds={bench.seeds}",
        f"--epochs={bench.epochs}",
        f"--widths={widths}",
        f"--out={rows}",
    )
    runs = read_rows(
        rows.parent, rows.name, "the results of the script", required=list(_TYPES), types=_TYPES
    )
    return seconds, runs[[*_TYPES]]
