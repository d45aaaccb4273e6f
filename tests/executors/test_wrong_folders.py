"""A run whose files can't be what they must be is a failed row; the other runs are trained."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from spectrum import StudyConfig, run_study
from spectrum.executors.distributed import TorchrunEngine
from spectrum.executors.engines import execute_runs, open_engine
from spectrum.executors.local import LocalEngine
from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.store import Store
from spectrum.study.plan import make_plan

ENGINES = {"this process": LocalEngine(["cpu"], 1, 1), "torchrun": TorchrunEngine("cpu", 1)}
WRONG: dict[str, Callable[[Path], None]] = {
    "a file": lambda folder: folder.touch(),
    "a pipe": lambda folder: os.mkfifo(folder),
    "a dangling link": lambda folder: folder.symlink_to("missing"),
    "a link to itself": lambda folder: folder.symlink_to(folder.name),
    **{
        f"a folder called {name}": lambda folder, name=name: (folder / name).mkdir(parents=True)
        for name in (".lock", "config.json", "curve.jsonl", "result.json")
    },
}


@pytest.fixture
def runs(small_study: Callable[..., StudyConfig]) -> list[RunConfig]:
    return [run for _, run in make_plan(small_study(epochs=1)).runs()]


def _finished(runs: list[RunConfig], store: Store, engine: str) -> list[dict[str, object]]:
    events: list[RunEvent] = []
    execute_runs(runs, store, ENGINES[engine], events.append)
    results = {event.run_id: event.values for event in events if event.kind == "finished"}
    return [results[run.id] for run in runs]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("wrong", WRONG)
def test_only_the_run_of_a_wrong_folder_fails(
    wrong: str, engine: str, runs: list[RunConfig], tmp_path: Path
) -> None:
    store = Store(tmp_path / "runs")
    store.root.mkdir()
    WRONG[wrong](store.folder(runs[0].id))
    failed, done = _finished(runs, store, engine)
    assert (failed["status"], done["status"]) == ("failed", "done")
    assert str(store.folder(runs[0].id)) in str(failed["error"])
    assert "\n" not in str(failed["error"])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("error", [PermissionError(13, "no"), NotImplementedError("no flock")])
def test_only_the_run_of_a_lock_that_cannot_be_taken_fails(
    error: Exception,
    engine: str,
    runs: list[RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, acquire = Store(tmp_path / "runs"), FileLock._acquire

    def refuse(lock: FileLock) -> None:
        if runs[0].id in lock.lock_file:
            raise error
        acquire(lock)

    monkeypatch.setattr(FileLock, "_acquire", refuse)
    failed, done = _finished(runs, store, engine)
    assert failed["status"] in ("failed", "io_error")
    assert done["status"] == "done"


def test_workers_report_a_wrong_folder(small_study: Callable[..., StudyConfig]) -> None:
    config = small_study(epochs=1, workers=2)
    (_, run), _ = make_plan(config).runs()
    config.runs.mkdir()
    (config.runs / run.id).touch()
    assert run_study(config)["status"].tolist() == ["failed", "done"]


@pytest.mark.parametrize("field", ["threads", "workers"])
@pytest.mark.parametrize("value", [1025, 999_999_999, 10**30])
@pytest.mark.parametrize("engine", ["local", "ray", "torchrun"])
def test_numbers_far_beyond_any_machine_are_refused(
    engine: str, value: int, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "torchrun":
        monkeypatch.setattr("spectrum.executors.engines.started_by_torchrun", lambda: True)
    given = {"threads": 1, "workers": None, "engine": "ray" if engine == "ray" else "local"}
    config = SimpleNamespace(**given | {field: value}, device="cpu", address=None, gpus=None)
    with pytest.raises(ValueError, match=rf"{field} \(={value}\) must be at most 1024$"):
        open_engine(config).__enter__()
