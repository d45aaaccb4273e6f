"""Points at equal latency. Measurements are kept, so that runs keep their ids."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectrum import StudyConfig, load_results, run_study
from spectrum.costs import LatencyConditions
from spectrum.machine import device_name
from spectrum.networks import NetworkConfig
from spectrum.runs.latency import LatencyCache, make_latency_cache
from spectrum.study.dry_run import dry_run
from spectrum.study.plan import Plan, make_plan
from tests.damage import damaged
from tests.forked import start_forked, wait_for
from tests.timing_machine import SHAPE, SimulatedMachine

Study = Callable[..., StudyConfig]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimulatedMachine:
    return SimulatedMachine(monkeypatch)


@pytest.fixture
def timed_study(small_study: Study) -> Study:
    def make(**changes: Any) -> StudyConfig:
        fields = {"match": "latency", "segments": "1,4,C", "network": "tiny"}
        return small_study(**{**fields, **changes})

    return make


def widths(plan: Plan) -> dict[str, float]:
    return {point.network.segments: point.network.width for point in plan.points}


def ids(plan: Plan) -> list[str]:
    return [run.id for _, run in plan.runs()]


@pytest.mark.parametrize("budget", [None, 2.5])
def test_points_have_the_latency_of_the_reference_or_the_budget_in_milliseconds(
    budget: float | None, machine: SimulatedMachine, timed_study: Study
) -> None:
    plan = make_plan(timed_study(budget=budget))
    *points, reference = plan.points
    if budget is None:
        assert (reference.network.width, reference.miss) == (1.0, 0.0)
        assert reference.latency == plan.budget
        assert all(0.1 < point.network.width < 0.9 for point in points)
    else:
        assert plan.budget == budget
    for point in plan.points:
        assert point.latency == pytest.approx(plan.budget, rel=0.04)
        found = 1000 * machine.seconds(point.network, "float32")
        assert found == pytest.approx(plan.budget, rel=0.06)
        assert point.miss == pytest.approx(point.latency / plan.budget - 1)


def test_a_budget_that_no_width_meets_is_refused(
    machine: SimulatedMachine, timed_study: Study
) -> None:
    with pytest.raises(ValueError, match=r"^budget \(='?0.01[^)]*\) must be near what a width can"):
        make_plan(timed_study(budget=0.01))
    assert StudyConfig(match="latency", budget="5.0").budget == 5
    assert StudyConfig(match="latency", budget="0.5").budget == 0.5


def test_solved_widths_are_kept(machine: SimulatedMachine, timed_study: Study) -> None:
    plan = make_plan(timed_study())
    count = len(machine.measured)
    again = make_plan(timed_study(segments="C,4,1"))
    assert widths(again) == widths(plan)
    assert sorted(ids(again)) == sorted(ids(plan))
    assert [point.latency for point in again.points] == [
        point.latency for point in reversed(plan.points)
    ]
    assert len(machine.measured) == count
    for path in (timed_study().runs / "latency").glob("*.json"):
        path.unlink()
    assert widths(make_plan(timed_study())) != widths(plan)  # no two measurements are equal


def test_conditions_that_change_latency_are_measured_separately(
    machine: SimulatedMachine, timed_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = widths(make_plan(timed_study()))
    folder = timed_study().runs / "latency"
    kept = len(list(folder.glob("*.json")))
    # Training settings don't change the latency of a batch.
    for same in ({"epochs": 9}, {"seeds": 4}, {"recipe": {"lr": 0.1}}, {"name": "other"}):
        assert widths(make_plan(timed_study(**same))) == base
    assert len(list(folder.glob("*.json"))) == kept
    for other in ({"threads": 2}, {"recipe": {"channels_last": False}}, {"precision": "bfloat16"}):
        make_plan(timed_study(**other))
        kept, before = len(list(folder.glob("*.json"))), kept
        assert kept == before + 4, other
    monkeypatch.setattr("spectrum.runs.latency.device_name", lambda _: "another")
    make_plan(timed_study())
    assert len(list(folder.glob("*.json"))) == kept + 4


def test_networks_are_timed_under_the_conditions_of_their_runs(
    machine: SimulatedMachine, timed_study: Study
) -> None:
    config = timed_study(threads=3, precision="float32,bfloat16", segments="C")
    plan = make_plan(config)
    assert machine.measured[0][1].precision == "float32"
    assert {c.precision for _, c in machine.measured} == {"float32", "bfloat16"}
    assert {c.threads for _, c in machine.measured} == {3}
    assert {c.device for _, c in machine.measured} == {"cpu"}
    # The faster precision gets a wider network for the same time.
    full, half = plan.points
    assert full.network.width == 1 < half.network.width
    assert half.latency == pytest.approx(full.latency, rel=0.03)


def test_results_have_the_latency_and_the_width(
    machine: SimulatedMachine, timed_study: Study
) -> None:
    config = timed_study(segments="1,C", epochs=1)
    rows = run_study(config)
    plan = make_plan(config)
    assert list(rows["run_id"]) == ids(plan)
    assert list(rows["latency"]) == pytest.approx([point.latency for point in plan.points])
    assert list(rows["width"]) == list(widths(plan).values())
    assert set(rows["match"]) == {"latency"}
    assert rows.equals(load_results(config.out / "tested"))
    untimed = run_study(
        config.model_copy(update={"match": "none", "segments": ("C",), "name": "other"})
    )
    assert "latency" not in untimed


def test_the_dry_run_shows_it(machine: SimulatedMachine, timed_study: Study) -> None:
    table, _ = dry_run(timed_study())
    names = [str(column.header) for column in table.columns]
    assert names[-3:] == ["ms", "miss", "done"]
    plan = make_plan(timed_study())
    shown = [*table.columns[names.index("ms")].cells]
    assert shown == [f"{point.latency:.4g}" for point in plan.points]
    untimed, _ = dry_run(timed_study(match="params"))
    assert "ms" not in [str(column.header) for column in untimed.columns]


def make_cache(root: Path) -> LatencyCache:
    return make_latency_cache(root, network("C"), SHAPE, LatencyConditions())


def network(segments: str) -> NetworkConfig:
    return NetworkConfig(name="tiny", num_classes=10, in_channels=1, segments=segments)


@given(data=st.data())
def test_a_damaged_file_is_measured_again(
    machine: SimulatedMachine,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    data: st.DataObject,
) -> None:
    first = make_cache(tmp_path).latency(network("4"), SHAPE)  # measured in the first case alone
    files = (tmp_path / "latency").glob("*.json")
    (path,) = (path for path in files if "beside" in json.loads(path.read_text())["of"])
    caplog.clear()
    with damaged(data, path):
        is_there, is_folder = path.exists() or path.is_symlink(), path.is_dir()
        again = make_cache(tmp_path).latency(network("4"), SHAPE)
        assert caplog.text.count(f"{path} is damaged") == (again != first and is_there)
        assert (f"can't be kept in {path} (Is a directory)" in caplog.text) == is_folder
        assert make_cache(tmp_path).latency(network("4"), SHAPE) == again or is_folder


KEPT = {"latency": 2.5, "miss": 0.01, "width": 0.4}


@pytest.mark.parametrize(
    ("changes", "damage"),
    [
        ({}, ""),
        *[
            ({field: value}, rf"{field} \(=.*\) ")
            for field, values in {
                "latency": (0, -1.0, 1e30, math.nan, math.inf, "1", True, None, []),
                "miss": (-1.1, 1.1, math.nan, "0", None),
                "width": (0, -1, 1001, math.inf, "1", None),
                "more": (1,),
            }.items()
            for value in values
        ],
        *[({field: "absent"}, rf"{field} \(=.*\) ") for field in KEPT],
        ({"of": {}}, "it is the latency of something else"),
    ],
    ids=str,
)
def test_files_of_earlier_versions_without_a_checksum_are_read_and_checked(
    changes: dict[str, Any],
    damage: str,
    machine: SimulatedMachine,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = make_cache(tmp_path)
    cache.match(network("4"), SHAPE, 2.5)
    (path,) = (p for p in (tmp_path / "latency").glob("*.json") if "width" in p.read_text())
    values = {"of": json.loads(path.read_text())["of"], **KEPT, **changes}
    path.write_text(json.dumps({k: v for k, v in values.items() if v != "absent"}))
    found, miss, latency = cache.match(network("4"), SHAPE, 2.5)
    if damage:
        assert re.search(rf"json is damaged: {damage}", caplog.text)
        assert latency != KEPT["latency"] == pytest.approx(latency, rel=0.05)
    else:
        assert {"latency": latency, "miss": miss, "width": found.width} == KEPT
        assert caplog.text == ""


@pytest.mark.parametrize("what", ["file", "lock", "folder", "everything"])
def test_a_store_that_keeps_nothing_fails_no_measurement(
    what: str,
    machine: SimulatedMachine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "full"))

    root = tmp_path / "store"
    if what in ("file", "everything"):
        monkeypatch.setattr("os.fsync", fail)
    if what in ("lock", "everything"):
        monkeypatch.setattr("filelock.FileLock.acquire", fail)
    if what == "folder":
        root.touch()
    *_, latency = make_cache(root).match(network("4"), SHAPE, None)
    assert latency == pytest.approx(make_cache(root).budget, rel=0.1)
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert "can't be kept in " in caplog.text
    assert not [path for path in root.rglob("*.json*") if what != "lock"]


def test_a_file_says_what_was_measured(machine: SimulatedMachine, tmp_path: Path) -> None:
    found, miss, latency = make_cache(tmp_path).match(network("4"), SHAPE, 3.0)
    files = [json.loads(p.read_text()) for p in (tmp_path / "latency").glob("*.json")]
    (kept,) = (file for file in files if "width" in file)
    assert (kept["width"], kept["miss"], kept["latency"]) == (found.width, miss, latency)
    of = kept["of"]
    assert of["network"]["segments"] == "4"
    assert (of["budget"], of["shape"], of["batch"]) == (3.0, [1, 8, 8], 32)
    assert of["conditions"]["threads"] == 1
    assert of["processor"] == device_name("cpu") != ""


def test_concurrent_requests_get_the_same_measurement(
    machine: SimulatedMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(tmp_path)
    fast = machine._time_in_turns

    def slow(*arguments: Any) -> Any:
        time.sleep(0.02)
        return fast(*arguments)

    monkeypatch.setattr("spectrum.costs.latency._time_in_turns", slow)
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(lambda _: cache.match(network("4"), SHAPE, None), range(4))
    assert others == [first] * 3


def test_an_edited_model_is_measured_again(
    machine: SimulatedMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectrum.runs.latency.is_user_code", lambda _: True)

    def latency(code: str) -> float:
        monkeypatch.setattr("spectrum.runs.latency.code_fingerprint", lambda *_: code)
        return make_cache(tmp_path).latency(network("4"), SHAPE)

    assert latency("as it was") != latency("edited")
    assert latency("as it was") == latency("as it was")


def test_a_killed_command_keeps_its_solved_widths(tmp_path: Path) -> None:
    """Without a simulated machine: a process measures and is killed, and another plan goes on."""
    config = StudyConfig(
        match="latency", segments="4,C", seeds=3, epochs=40, workers=1, runs=tmp_path / "runs"
    )
    arguments = ["--match=latency", "--segments=4,C", "--seeds=3", "--epochs=40", "--workers=1"]
    folders = ["--out", tmp_path / "out", "--runs", config.runs]
    killed = start_forked("spectrum.study", tmp_path / "log", *arguments, *folders)
    wait_for(lambda: len(list(config.runs.glob("latency/*.json"))) == 2)
    killed.kill()
    killed.join()
    kept = {path: path.read_bytes() for path in config.runs.glob("latency/*.json")}
    solved = [fields for fields in map(json.loads, kept.values()) if "width" in fields]
    (width,) = (of["width"] for of in solved if of["of"]["network"]["segments"] == "4")
    assert widths(make_plan(config))["4"] == width
    assert {path: path.read_bytes() for path in kept} == kept
