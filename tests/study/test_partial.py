"""The folder of a study that runs or was killed: readable, honest, and completed by the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from rich.console import Console

import spectrum.study.outputs
import spectrum.study.partial
import spectrum.study.study
from spectrum import (
    StudyConfig,
    compare_pairs,
    compare_points,
    load_curves,
    load_results,
    state_evidence,
)
from spectrum.analysis.checksums import CHECKSUMS
from spectrum.analysis.folder import CORRECT, LOOKS, RESULTS, load_correct, read_looks
from spectrum.analysis.planned import PLANNED, MissingRuns
from spectrum.analysis.sentences import PRELIMINARY
from spectrum.executors.engines import execute_runs
from spectrum.executors.local import LocalEngine
from spectrum.runs.events import RunEvent
from spectrum.runs.store import Store
from spectrum.study.outputs import lock_folder, write_study, write_tables
from spectrum.study.partial import Pace, PartialResults
from spectrum.study.plan import Plan, make_plan
from tests.forked import start_forked, wait_for
from tests.held import Hold, hold_training
from tests.small_studies import FIELDS, TIMES

REFRESH = 'http-equiv="refresh"'
DRAW = spectrum.study.outputs._draw  # before it is replaced to save time
Results = dict[str, Mapping[str, Any]]


def write_at_once_and_hold(hold: Path) -> None:
    spectrum.study.outputs._draw = DRAW
    spectrum.study.partial._SHORTEST = 0
    spectrum.study.partial._TABLES = spectrum.study.partial._PAGE = 1e9
    hold_training(hold)


def check_sums(folder: Path) -> set[str]:
    """The files that have a checksum, which is theirs."""
    subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd=folder, check=True)
    return {line.split()[1] for line in (folder / CHECKSUMS).read_text().splitlines()}


def test_a_killed_study_is_read_and_then_completed(
    small_toml: Path,
    spectrum_study: Callable[..., tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_figures: None,
) -> None:
    flags = ("--epochs=2", "--seeds=2")
    hold = Hold(tmp_path / "hold", 12)  # in the second run
    process = start_forked(
        "spectrum.study",
        tmp_path / "said",
        small_toml,
        *flags,
        before=partial(write_at_once_and_hold, hold.folder),
    )
    assert process.pid is not None
    hold.wait()
    os.kill(process.pid, signal.SIGKILL)
    process.join(300)
    assert "can't be written" not in (tmp_path / "said").read_text()

    folder = tmp_path / "out" / "tested"
    missing = "segments C, seed 0; segments 1, seed 1; segments C, seed 1"
    with pytest.warns(MissingRuns, match=rf"\A3 of 4 runs are missing: {missing}\Z"):
        results = load_results(folder)
    assert results["status"].tolist() == ["done"]
    assert set(load_curves(folder)["run_id"]) == set(results["run_id"])
    assert list(load_correct(folder)) == results["run_id"].tolist()
    with pytest.warns(MissingRuns):
        assert state_evidence(compare_points(folder)) == [PRELIMINARY]
    assert read_looks(folder) == []
    assert PLANNED in check_sums(folder)
    page = (folder / "report.html").read_text()
    assert REFRESH in page
    assert "1 of 4 runs are done. If that is long ago, the study has stopped" in page
    assert PRELIMINARY in page
    assert "1 has an accuracy of" not in page
    assert (folder / "accuracy_vs_segments.png").exists()

    status, said = spectrum_study(small_toml, "--epochs=2", "--seeds=1")  # this would be a look
    assert status == 2
    assert "holds another study (seeds 2 not 1)" in said
    monkeypatch.setattr(spectrum.study.partial, "_SHORTEST", 0)
    monkeypatch.setattr(spectrum.study.partial, "_TABLES", 1e9)
    status, said = spectrum_study(small_toml, *flags)
    assert status == 0, said
    elsewhere = ("--runs", tmp_path / "others", "--out", tmp_path / "alone")
    status, said = spectrum_study(small_toml, *flags, *elsewhere)
    assert status == 0, said
    alone = tmp_path / "alone" / "tested"
    assert {path.name for path in folder.iterdir()} == {path.name for path in alone.iterdir()}
    assert check_sums(folder) == check_sums(alone)
    assert (folder / LOOKS).read_text() == (alone / LOOKS).read_text() == "[\n  4\n]\n"
    assert (folder / CORRECT).read_bytes() == (alone / CORRECT).read_bytes()
    for load, times in ((load_results, TIMES), (load_curves, ["seconds"])):
        one, other = (load(path).drop(columns=times) for path in (folder, alone))
        pd.testing.assert_frame_equal(one, other)
    pd.testing.assert_frame_equal(compare_pairs(folder), compare_pairs(alone))
    page = (folder / "report.html").read_text()
    assert REFRESH not in page
    assert "the study has stopped" not in page
    assert "Pairs" in page


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Results]:
    """The plan of a study of four runs, and their results. Its store is read alone."""
    root = tmp_path_factory.mktemp("trained")
    plan = make_plan(StudyConfig(**{**FIELDS, "seeds": 2, "epochs": 1}, runs=root))
    events: list[RunEvent] = []
    runs = [run for _, run in plan.runs()]
    execute_runs(runs, Store(root), LocalEngine(["cpu"], 1, 1), events.append)
    return plan, {event.run_id: event.values for event in events if event.kind == "finished"}


def in_folder(plan: Plan, out: Path, **changes: Any) -> Plan:
    """The plan of the same study, or of one with fewer seeds, in another folder."""
    (out / plan.config.name).mkdir(parents=True, exist_ok=True)
    config = plan.config.model_copy(update={"out": out, **changes})
    return Plan(config, plan.points, plan.budget, plan.initial_weights)


def first(results: Results, runs: int) -> Results:
    return dict(list(results.items())[:runs])


def test_what_is_written_in_between_is_no_look(
    trained: tuple[Plan, Results], tmp_path: Path
) -> None:
    plan, results = in_folder(trained[0], tmp_path), trained[1]
    small, folder = in_folder(plan, tmp_path, seeds=1), tmp_path / plan.config.name
    for runs, of, looks in ((1, small, []), (2, small, [2]), (3, plan, [2]), (4, plan, [2, 4])):
        write_tables(of, first(results, runs), [])
        assert json.loads((folder / LOOKS).read_text()) == looks
        assert LOOKS in check_sums(folder)
        if runs == len(of.runs()):
            assert compare_points(folder)["look"].tolist() == [len(looks)] * 2
            assert not (folder / PLANNED).exists()
            continue
        with pytest.warns(MissingRuns, match=rf"\A1 of {runs + 1} runs is missing: segments C, "):
            assert len(load_results(folder)) == runs
        with pytest.warns(MissingRuns):
            points = compare_points(folder)
        assert set(points["look"]) == {0}
        assert points[["worse_than", "close_to"]].eq("").all(axis=None)
        assert points["seeds_to_settle"].isin([0, np.nan]).all()
        with pytest.warns(MissingRuns):
            pairs = compare_pairs(folder)
        assert set(pairs.get("verdict", ())) <= {"unknown"}


@pytest.mark.parametrize("step", range(8))
def test_a_folder_is_readable_wherever_its_writing_ends(
    step: int, trained: tuple[Plan, Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, results = in_folder(trained[0], tmp_path), trained[1]
    folder = tmp_path / plan.config.name
    write_tables(plan, first(results, 2), [])
    original, done = Path.replace, 0

    def replace(path: Path, target: Path) -> Path:
        nonlocal done
        if done == step:
            raise KeyboardInterrupt
        done += 1
        return original(path, target)

    for runs in (3, 4):
        done = 0
        monkeypatch.setattr(Path, "replace", replace)
        try:
            write_tables(plan, first(results, runs), [])
        except KeyboardInterrupt:
            assert not (folder / CHECKSUMS).exists()
        monkeypatch.setattr(Path, "replace", original)
        rows = len(pd.read_csv(folder / RESULTS))
        if rows == 4:
            assert len(compare_points(folder)) == 2
        else:
            with pytest.warns(MissingRuns, match=rf"\A{4 - rows} of 4 runs "):
                assert len(compare_points(folder)) == 2
        assert set(load_results_quietly(folder)["run_id"]) <= set(load_correct(folder))
    write_study(plan, results, [], [], "")
    assert json.loads((folder / LOOKS).read_text()) == [4]
    assert check_sums(folder) == {"study.json", LOOKS, RESULTS, "curves.csv", CORRECT}


def load_results_quietly(folder: Path) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)
        return load_results(folder)


def make_partial(plan: Plan, said: StringIO, monkeypatch: pytest.MonkeyPatch) -> PartialResults:
    """Writes a study in between as often as it is asked to."""
    monkeypatch.setattr(Pace, "is_due", lambda _: True)
    return PartialResults(plan, [], [], "", Console(file=said))


def test_rows_that_exist_are_not_lost(
    trained: tuple[Plan, Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, results = in_folder(trained[0], tmp_path), trained[1]
    small, folder, said = (
        in_folder(plan, tmp_path, seeds=1),
        tmp_path / plan.config.name,
        StringIO(),
    )
    write_tables(small, first(results, 2), [])
    partial_results = make_partial(plan, said, monkeypatch)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    partial_results.update(dict([*results.items()][1:3]))  # the first run is trained again
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    partial_results.update(first(results, 3))
    assert len(load_results_quietly(folder)) == 3
    partial_results.update(results)  # the study writes these itself
    assert len(load_results_quietly(folder)) == 3
    assert said.getvalue() == ""


def test_training_goes_on_if_nothing_can_be_written(
    trained: tuple[Plan, Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, results = in_folder(trained[0], tmp_path), trained[1]
    said, folder = StringIO(), tmp_path / plan.config.name
    (folder / RESULTS).mkdir()
    partial_results = make_partial(plan, said, monkeypatch)
    partial_results.update(first(results, 1))
    partial_results.update(first(results, 2))
    (line,) = said.getvalue().splitlines()
    assert line.startswith("note: the results so far can't be written: ")
    (folder / RESULTS).rmdir()
    other = plan.config.model_copy(update={"equal_within": 2.0})
    (folder / "study.json").write_text(other.model_dump_json())
    partial_results.update(first(results, 2))
    assert "which was fixed before training" in said.getvalue().splitlines()[-1]
    assert not (folder / RESULTS).exists()


def test_writing_takes_a_share_of_the_time_at_most() -> None:
    time = 0.0

    def work(seconds: float) -> None:
        nonlocal time
        time += seconds

    pace = Pace(0.04, 3, lambda: time)
    times = []
    for cost in (4, 4, 8, 1, 1):
        while not pace.is_due():
            time += 1
        times.append(time)
        pace.do(partial(work, cost))
    assert times == [75, 200, 300, 600, 611]  # as long as the last time, and 10 seconds later
    quick = Pace(0.5, 0, lambda: time)
    quick.do(lambda: None)
    start = time
    while not quick.is_due():
        time += 1
    assert time - start == 10


def write_alone(meeting: Path) -> None:
    """Lets this process write only once another one wants to, and fails if both do so at once."""
    spectrum.study.partial._SHORTEST = 0
    spectrum.study.partial._TABLES = 1e9
    lock, write, inside = lock_folder, write_tables, meeting / "inside"

    def lock_wanted(folder: Path) -> FileLock:
        (meeting / f"wanted-{os.getpid()}").touch()
        return lock(folder)

    def write_where_alone(*arguments: Any) -> None:
        wait_for(lambda: len([*meeting.glob("wanted-*")]) == 2)
        inside.mkdir()
        write(*arguments)
        inside.rmdir()

    for module in (spectrum.study.partial, spectrum.study.study):
        module.lock_folder = lock_wanted  # type: ignore[attr-defined]
    for module in (spectrum.study.partial, spectrum.study.outputs):
        module.write_tables = write_where_alone


def test_two_processes_share_a_study_and_write_its_folder_one_at_a_time(
    small_toml: Path, tmp_path: Path
) -> None:
    (tmp_path / "meeting").mkdir()
    before = partial(write_alone, tmp_path / "meeting")
    logs = [tmp_path / "first", tmp_path / "second"]
    processes = [start_forked("spectrum.study", log, small_toml, before=before) for log in logs]
    for process, log in zip(processes, logs, strict=True):
        process.join(300)
        assert process.exitcode == 0, log.read_text()
        assert "can't be written" not in log.read_text()
    folder = tmp_path / "out" / "tested"
    assert load_results(folder)["status"].tolist() == ["done", "done"]
    assert RESULTS in check_sums(folder)
