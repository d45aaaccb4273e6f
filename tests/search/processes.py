"""Searches as real processes: tools to start them, watch them and read what they leave."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna import Study, load_study
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import text

from spectrum import SearchConfig, StudyConfig
from spectrum.runs.execute import execute_safely
from spectrum.runs.store import Store
from spectrum.search.candidates import make_candidates
from spectrum.search.heartbeat import HeartbeatThread
from spectrum.search.space import make_space
from spectrum.search.storage import open_study
from spectrum.search.trials import Trials
from spectrum.study.plan import make_plan
from tests.forked import is_worker, start_forked, wait_for, workers_of
from tests.held import Hold

__all__ = [
    "Driver",
    "Hold",
    "Sharing",
    "Watch",
    "an_hour_passes",
    "change",
    "check_nothing_is_lost",
    "is_over",
    "is_worker",
    "read_trials",
    "run_undisturbed",
    "sqlite",
    "start_driver",
    "wait_for",
    "weights",
    "workers_of",
    "write_toml",
]

# Of eight points these three are tried, in the order of a grid, whoever asks for them.
POINTS = ("1", "C", "entry=1+middle=1+exit=C")
EPOCHS = 8
# Dropout and averaging are on: a resumed run must find their state again.
TOML = f"""
name = "tested"
segments = "1,C"
sampler = "grid"
pruner = "none"
trials = {len(POINTS)}
finalists = 1
seeds = 1
match = "none"
epochs = {EPOCHS}
workers = 1
device = "cpu"
heartbeat = 1
[network]
name = "tiny"
width = 0.2
dropout = 0.3
[recipe]
batch_size = 256
"""


def write_toml(folder: Path) -> Path:
    """A small search whose files are in a folder."""
    path = folder / "tested.toml"
    path.write_text(f'out = "{folder / "out"}"\nruns = "{folder / "runs"}"\n{TOML}')
    return path


def run_undisturbed(folder: Path) -> Path:
    """A store of the runs of the points that are tried, trained without any search."""
    config = StudyConfig(
        segments=POINTS,
        seeds=1,
        match="none",
        epochs=EPOCHS,
        network={"name": "tiny", "width": 0.2, "dropout": 0.3},
        recipe={"batch_size": 256},
        workers=1,
        device="cpu",
        out=folder / "out",
        runs=folder / "runs",
    )
    for _, run in make_plan(config).runs():
        assert execute_safely(run, Store(config.runs), "cpu", lambda _: None)["status"] == "done"
    return config.runs


class Driver:
    """A search in a process of its own, whose output goes to a file."""

    def __init__(self, said: Path, arguments: tuple[object, ...], hold: Hold | None) -> None:
        self.path = said
        said.touch()
        before = hold and hold.workers
        self.process = start_forked("spectrum.search", said, *arguments, before=before)

    @property
    def pid(self) -> int:
        """The id of this process."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def said(self) -> str:
        """Its output so far, on one line."""
        return " ".join(self.path.read_text().split())

    def send(self, signal: int) -> None:
        """Send a signal to this process alone."""
        os.kill(self.pid, signal)

    def is_stopped(self) -> bool:
        """Whether every thread of this process is stopped."""
        try:
            stats = [path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        except FileNotFoundError:  # a thread that has just ended
            return False
        return all(stat.rsplit(")", 1)[1].split()[0] == "T" for stat in stats)

    def end(self) -> int:
        """Waits for the process to end and returns its exit status."""
        self.process.join(300)
        assert self.process.exitcode is not None
        return self.process.exitcode

    def workers(self) -> list[int]:
        """The living processes that execute its runs, the oldest first."""
        return workers_of(self.pid)


@contextmanager
def start_driver(said: Path, *arguments: object, hold: Hold | None = None) -> Iterator[Driver]:
    """Start the command of a search; it is killed at the end if it is still there."""
    driver = Driver(said, arguments, hold)
    try:
        yield driver
    finally:
        driver.process.kill()
        driver.process.join()


class Watch:
    """Checks that no ``result.json`` of a store is written twice, while it is a context."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._seen: dict[str, set[tuple[int, int]]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._end.set()
        self._thread.join()
        twice = [run_id for run_id, files in self._seen.items() if len(files) > 1]
        assert kind is not None or twice == []

    def _look(self) -> None:
        while not self._end.wait(0.02):
            for path in self._runs.glob("*/result.json"):
                found = path.stat()
                self._seen.setdefault(path.parent.name, set()).add(
                    (found.st_ino, found.st_mtime_ns)
                )


def sqlite(folder: Path) -> str:
    """The URL of the default storage of the search of a folder."""
    return f"sqlite:///{folder / 'out' / 'tested' / 'search.db'}"


def read_trials(url: str, name: str = "tested") -> list[FrozenTrial]:
    """All trials in a storage."""
    storage = RDBStorage(url)
    try:
        return load_study(storage=storage, study_name=name).get_trials()
    finally:
        storage.engine.dispose()


def is_over(trials: list[FrozenTrial]) -> bool:
    """Whether every point is done exactly once and no trial is left."""
    done = [tuple(trial.params.values()) for trial in trials if trial.state == TrialState.COMPLETE]
    left = [trial for trial in trials if not trial.state.is_finished()]
    return len(done) == len(set(done)) == len(POINTS) and not left


def check_nothing_is_lost(trials: list[FrozenTrial], runs: Path, undisturbed: Path) -> None:
    """Check that every point is done once, with the weights of runs that nothing has disturbed."""
    assert is_over(trials)
    assert weights(runs) == weights(undisturbed)


def weights(runs: Path) -> dict[str, bytes]:
    """The trained weights of every run of seed 0 in a store, by run; others check the winner."""
    return {
        path.parent.name: path.read_bytes()
        for path in runs.glob("*/weights.safetensors")
        if json.loads((path.parent / "config.json").read_text())["seed"] == 0
    }


def change(study: Study, statement: str) -> None:
    """Change the database behind a study by hand."""
    storage = study._storage
    assert isinstance(storage, _CachedStorage)
    with storage._backend.engine.begin() as connection:
        connection.execute(text(statement))


def an_hour_passes(study: Study) -> None:
    """Moves the start and the heartbeat of every trial in an SQLite file back by an hour."""
    change(study, "UPDATE trials SET datetime_start = datetime(datetime_start, '-1 hour')")
    change(study, "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')")


class Sharing:
    """Any number of processes that share a search, simulated in this one.

    Their heartbeats are recorded only when a test asks for it.
    """

    def __init__(self, config: SearchConfig) -> None:
        self.config = config
        self.candidates = make_candidates(make_space(config))
        self.said: list[str] = []
        (config.out / config.name).mkdir(parents=True)

    def join(self) -> Trials:
        """Adds another process."""
        study = open_study(self.config, {"space": "of this test"})
        heartbeat = HeartbeatThread(study, self.config.heartbeat)
        return Trials(self.candidates, study, heartbeat, self.said.append, lambda: False)
