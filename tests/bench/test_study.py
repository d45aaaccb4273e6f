"""The default study and a script as processes, and the comparison of times and accuracies."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from spectrum.bench import study
from spectrum.bench.config import StudyBenchConfig
from spectrum.bench.study import OURS, PLAIN, bench_study, compare_accuracy, speedup, time_program
from spectrum.cli import CommandFailed
from spectrum.errors import DamagedFile

SCRIPT = """
import argparse, csv
parser = argparse.ArgumentParser()
for flag in ("seeds", "epochs", "widths", "out"):
    parser.add_argument(f"--{flag}")
given = parser.parse_args()
sizes = {"1": 79801, "4": 79333, "32": 79935, "C": %s}
with open(given.out, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["segments", "seed", "params", "val_top1", "test_top1"])
    for seed in range(int(given.seeds)):
        for point in given.widths.split(","):
            segments, width = point.split("=")
            writer.writerow([segments, seed, sizes[segments], 0.5, float(width) / 2])
"""


def accuracies(program: str, *values: float) -> pd.DataFrame:
    """Made-up runs, one seed per value, at two points whose accuracies differ by 0.1."""
    rows = [
        {"program": program, "segments": point, "seed": seed, "test_top1": value + shift}
        for seed, value in enumerate(values)
        for point, shift in (("1", -0.05), ("C", 0.05))
    ]
    return pd.DataFrame(rows)


def test_the_study_and_a_script_run_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "SEGMENTS", "C")  # one of its points is enough here
    script = tmp_path / "script.py"
    script.write_text(SCRIPT % 79777)
    started: list[tuple[str, int]] = []
    bench = StudyBenchConfig(script=script, seeds=1, epochs=1, repeats=1)
    times, runs = bench_study(bench, lambda *program: started.append(program))
    assert started == [(OURS, 1), (PLAIN, 1)]
    assert times["program"].tolist() == [OURS, PLAIN]
    assert times["runs"].tolist() == [1, 1]
    rates = 60 * times["runs"] / times["seconds"]
    assert times["runs_per_minute"].tolist() == pytest.approx(rates.tolist())
    assert runs["segments"].tolist() == ["C"] * 2
    assert runs["params"].tolist() == [79777] * 2
    accuracy = runs[runs["program"] == PLAIN]["test_top1"]
    assert accuracy.tolist() == [0.5]  # half the width that the script was given


def ignore(*_: object) -> None: ...


def test_the_order_of_the_programs_alternates(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = pd.DataFrame({"segments": ["C"], "seed": [0], "params": [79777], "test_top1": [0.9]})
    monkeypatch.setattr(study, "_run_ours", lambda *_: (1.0, runs))
    monkeypatch.setattr(study, "_run_plain", lambda *_: (4.0, runs))
    times = bench_study(StudyBenchConfig(script=Path(__file__), repeats=3), ignore).times
    assert times["program"].tolist() == [OURS, PLAIN, PLAIN, OURS, OURS, PLAIN]
    assert times["runs_per_minute"].tolist() == [60, 15, 15, 60, 60, 15]
    assert speedup(times) == 4


def test_a_script_that_trains_another_network_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT % 80000)
    runs = pd.DataFrame({"segments": ["C"], "seed": [0], "params": [79777], "test_top1": [0.9]})
    monkeypatch.setattr(study, "_run_ours", lambda *_: (1.0, runs))
    with pytest.raises(
        CommandFailed, match="plain script trained 80,000 parameters with segments C, the "
    ):
        bench_study(StudyBenchConfig(script=script, seeds=1), ignore)


WRONG = ["", "segments,seed\n1,0\n", "segments,seed,params,test_top1\n1,0,many,0.5\n"]


@pytest.mark.parametrize("rows", WRONG)
def test_rows_of_a_script_that_are_no_results_are_one_line(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*arguments: str) -> float:
        Path(arguments[-1].removeprefix("--out=")).write_text(rows)
        return 1.0

    monkeypatch.setattr(study, "time_program", write)
    bench = StudyBenchConfig(script=Path(__file__))
    with pytest.raises(DamagedFile, match=r"\A[^\n]*rows.csv is damaged: [^\n]*\Z"):
        study._run_plain(bench, tmp_path, "C=1")


def test_a_failed_program_gives_its_reason(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys; sys.exit('no room\\nat all')")
    with pytest.raises(CommandFailed, match=r"script.py ended with status 1: at all"):
        time_program(str(script))
    with pytest.raises(
        CommandFailed, match=r"no.such.module ended with status 1: .*No module named"
    ):
        time_program("-m", "no.such.module")
    script.write_text("")
    assert time_program(str(script)) > 0


def test_the_speedup_is_the_median_of_the_repeats() -> None:
    rates = {1: (30, 10), 2: (80, 10), 3: (40, 20)}
    times = pd.DataFrame(
        [
            {"program": program, "repeat": repeat, "runs_per_minute": rate}
            for repeat, pair in rates.items()
            for program, rate in zip((OURS, PLAIN), pair, strict=True)
        ]
    )
    assert speedup(times) == 3


def test_accuracies_are_compared_by_welchs_interval_over_seeds() -> None:
    ours, plain = (0.90, 0.92, 0.94), (0.91, 0.90)
    runs = pd.concat([accuracies(OURS, *ours), accuracies(PLAIN, *plain)])
    found = compare_accuracy(runs)
    # Welch's formula, by hand.
    errors = [0.02**2 / 3, 0.00005 / 2]
    freedom = sum(errors) ** 2 / (errors[0] ** 2 / 2 + errors[1] ** 2 / 1)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(sum(errors))
    assert found == pytest.approx((0.015, 0.015 - half, 0.015 + half))


def test_one_seed_has_no_interval() -> None:
    found = compare_accuracy(pd.concat([accuracies(OURS, 0.9), accuracies(PLAIN, 0.8)]))
    assert found.mean == pytest.approx(0.1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
