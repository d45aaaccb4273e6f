"""Real drivers and workers killed, stopped or interrupted: nothing is lost or trained twice."""

import json
import os
import signal
import sqlite3
import time
from pathlib import Path

import torch
from optuna.trial import TrialState

from tests.search.processes import (
    Driver,
    Watch,
    check_nothing_is_lost,
    is_worker,
    read_trials,
    sqlite,
    start_driver,
    wait_for,
    weights,
    write_toml,
)


def first_epochs(runs: Path) -> dict[str, float]:
    """The seconds of the first epoch of every run that is training, by run id.

    If the run isn't started anew, its curve still has the same seconds at the end.
    """
    return {
        path.parent.name: torch.load(path, weights_only=True)["curve"][0]["seconds"]
        for path in runs.glob("*/checkpoint.pt")
    }


def recorded_seconds(runs: Path, run_id: str) -> float:
    """The seconds of the first epoch of a run, from its curve."""
    line = (runs / run_id / "curve.jsonl").read_text().splitlines()[0]
    return float(json.loads(line)["seconds"])


def test_a_killed_driver_leaves_no_worker_and_can_continue(
    tmp_path: Path, undisturbed: Path
) -> None:
    search, runs = write_toml(tmp_path), tmp_path / "runs"
    with Watch(runs):
        with start_driver(tmp_path / "killed", search) as driver:
            wait_for(lambda: list(runs.glob("*/checkpoint.pt")))
            (worker,) = driver.workers()
            driver.send(signal.SIGKILL)
            assert driver.end() == -signal.SIGKILL
        wait_for(lambda: not is_worker(worker), seconds=10)
        begun = first_epochs(runs)
        states = [trial.state for trial in read_trials(sqlite(tmp_path))]
        assert states.count(TrialState.RUNNING) == 1

        with start_driver(tmp_path / "said", search) as driver:
            assert driver.end() == 0, driver.said
    assert "1 unfinished trial queued again" in driver.said
    check_nothing_is_lost(read_trials(sqlite(tmp_path)), runs, undisturbed)
    assert begun == {run_id: recorded_seconds(runs, run_id) for run_id in begun}


def test_a_worker_may_be_killed_or_stopped(tmp_path: Path, undisturbed: Path) -> None:
    runs = tmp_path / "runs"
    with (
        Watch(runs),
        start_driver(tmp_path / "said", write_toml(tmp_path)) as driver,
    ):
        wait_for(lambda: list(runs.glob("*/checkpoint.pt")))
        begun = first_epochs(runs)
        os.kill(driver.workers()[0], signal.SIGKILL)
        wait_for(lambda: "it continues from its last checkpoint" in driver.said)

        (run_id,) = begun
        wait_for(lambda: (runs / run_id / "result.json").exists())
        wait_for(lambda: list(runs.glob("*/checkpoint.pt")))
        (worker,) = driver.workers()
        os.kill(worker, signal.SIGSTOP)
        time.sleep(5)  # a trial without a heartbeat for three seconds counts as lost
        os.kill(worker, signal.SIGCONT)
        assert driver.end() == 0, driver.said
    trials = read_trials(sqlite(tmp_path))
    check_nothing_is_lost(trials, runs, undisturbed)
    assert len(trials) == len(weights(undisturbed))  # no other trial took the place of one
    assert "Warning" not in driver.said
    assert recorded_seconds(runs, run_id) == begun[run_id]


def test_a_driver_may_be_stopped_while_another_continues(tmp_path: Path, undisturbed: Path) -> None:
    shared = (write_toml(tmp_path), "--storage", sqlite(tmp_path))
    (tmp_path / "out" / "tested").mkdir(parents=True)
    runs, folders = tmp_path / "runs", (tmp_path / "first", tmp_path / "second")
    with (
        Watch(runs),
        start_driver(tmp_path / "a", *shared, "--out", folders[0]) as stopped,
    ):
        wait_for(lambda: list(runs.glob("*/checkpoint.pt")))
        stop_in_a_trial(stopped, tmp_path / "out" / "tested" / "search.db")
        with start_driver(tmp_path / "b", *shared, "--out", folders[1]) as other:
            wait_for(lambda: "queued again" in other.said)
            stopped.send(signal.SIGCONT)
            assert stopped.end() == 0, stopped.said
            assert other.end() == 0, other.said
    check_nothing_is_lost(read_trials(sqlite(tmp_path)), runs, undisturbed)
    first, second = (folder / "tested" / "winner" / "config.json" for folder in folders)
    assert first.read_text() == second.read_text()


def stop_in_a_trial(driver: Driver, database: Path) -> None:
    """Stops a process while it has a trial, but not while it locks the SQLite file.

    A process stopped while it reads keeps others from writing, as one that writes does.
    """

    def stop() -> bool:
        driver.send(signal.SIGSTOP)
        wait_for(driver.is_stopped)
        connection = sqlite3.connect(database, timeout=0, isolation_level=None)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            query = "SELECT count(*) FROM trials WHERE state = 'RUNNING'"
            (running,) = connection.execute(query).fetchone()
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            running = 0
        finally:
            connection.close()
        if not running:
            driver.send(signal.SIGCONT)
        return bool(running)

    wait_for(stop)


def interrupt(driver: Driver, times: int, runs: Path) -> None:
    """Interrupts a search while it trains, once or twice, and waits until it has ended.

    For two interrupts the worker is stopped first, so that its epoch doesn't end.
    """
    before = {path.parent.name for path in runs.glob("*/checkpoint.pt")}
    wait_for(lambda: {path.parent.name for path in runs.glob("*/checkpoint.pt")} - before)
    workers = driver.workers()
    if times == 2:
        os.kill(workers[0], signal.SIGSTOP)
    driver.send(signal.SIGINT)
    wait_for(lambda: "no new trial starts" in driver.said)
    if times == 2:
        driver.send(signal.SIGINT)
    assert driver.end() == 130, driver.said
    wait_for(lambda: not any(map(is_worker, workers)), seconds=10)


def test_an_interrupted_search_ends_in_order_or_at_once_and_can_continue(
    tmp_path: Path, undisturbed: Path
) -> None:
    search, runs = write_toml(tmp_path), tmp_path / "runs"
    with Watch(runs):
        with start_driver(tmp_path / "once", search) as driver:
            interrupt(driver, 1, runs)
        assert "runs stop at the end of their epoch" in driver.said
        assert driver.said.endswith(
            "interrupted, 0 of 3 trials are over; run the same command to continue"
        )
        states = [trial.state for trial in read_trials(sqlite(tmp_path))]
        assert TrialState.RUNNING not in states
        assert states.count(TrialState.WAITING) == 2  # the one that was running, and the next
        assert len(list(runs.glob("*/checkpoint.pt"))) == 1

        with start_driver(tmp_path / "twice", search) as driver:
            interrupt(driver, 2, runs)
        assert driver.said.endswith(
            "interrupted, running trials are queued again; run the same command to continue"
        )
        assert TrialState.RUNNING not in [t.state for t in read_trials(sqlite(tmp_path))]
        assert list(runs.glob("*/checkpoint.pt"))

        with start_driver(tmp_path / "said", search) as driver:
            assert driver.end() == 0, driver.said
    check_nothing_is_lost(read_trials(sqlite(tmp_path)), runs, undisturbed)
