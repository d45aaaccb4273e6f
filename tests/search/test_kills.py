"""Real drivers and workers killed, stopped or interrupted: nothing is lost or trained twice."""

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import torch
from optuna.trial import TrialState

from tests.search.processes import (
    Driver,
    Hold,
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

IN_THE_SECOND_EPOCH = 6  # steps, of which an epoch has four


def first_epochs(runs: Path) -> dict[str, float]:
    """The seconds of the first epoch of every run that is training, by run id.

    If the run isn't started anew, its curve still has the same seconds at the end.
    """
    return {
        path.parent.name: torch.load(path, weights_only=True)["curve"][0]["seconds"]
        for path in runs.glob("*/checkpoint.pt")
    }


@contextmanager
def stopped(worker: int) -> Iterator[None]:
    """A worker is stopped, and goes on in the end if it is still there."""
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGCONT)


def database(folder: Path) -> Path:
    """The file of the default storage of the search of a folder."""
    return folder / "out" / "tested" / "search.db"


def heartbeats(folder: Path) -> set[str]:
    """The times of the last heartbeats of the trials of a search."""
    connection = sqlite3.connect(f"file:{database(folder)}?mode=ro", uri=True, timeout=60)
    try:
        return {time for (time,) in connection.execute("SELECT heartbeat FROM trial_heartbeats")}
    finally:
        connection.close()


def recorded_seconds(runs: Path, run_id: str) -> float:
    """The seconds of the first epoch of a run, from its curve."""
    line = (runs / run_id / "curve.jsonl").read_text().splitlines()[0]
    return float(json.loads(line)["seconds"])


def test_a_killed_driver_leaves_no_worker_and_can_continue(
    tmp_path: Path, undisturbed: Path
) -> None:
    search, runs = write_toml(tmp_path), tmp_path / "runs"
    hold = Hold(tmp_path / "hold", IN_THE_SECOND_EPOCH)
    with Watch(runs):
        with start_driver(tmp_path / "killed", search, hold=hold) as driver:
            (worker,) = hold.wait()
            driver.send(signal.SIGKILL)
            assert driver.end() == -signal.SIGKILL
        wait_for(lambda: not is_worker(worker))
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
    hold = Hold(tmp_path / "hold", IN_THE_SECOND_EPOCH)
    with (
        Watch(runs),
        start_driver(tmp_path / "said", write_toml(tmp_path), hold=hold) as driver,
    ):
        (killed,) = hold.wait()
        begun = first_epochs(runs)
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: "it continues from its last checkpoint" in driver.said)

        (run_id,) = begun
        with stopped(*hold.wait()):
            beats: set[str] = set()
            # Seconds go by. A trial without a heartbeat for three of them counts as lost.
            wait_for(lambda: beats.update(heartbeats(tmp_path)) or len(beats) > 5)
            hold.release()
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
    hold = Hold(tmp_path / "hold", IN_THE_SECOND_EPOCH)
    with (
        Watch(runs),
        start_driver(tmp_path / "a", *shared, "--out", folders[0], hold=hold) as stopped,
    ):
        hold.wait()
        stop_while_unlocked(stopped, database(tmp_path))
        with start_driver(tmp_path / "b", *shared, "--out", folders[1]) as other:
            wait_for(lambda: "queued again" in other.said)
            hold.release()
            stopped.send(signal.SIGCONT)
            assert stopped.end() == 0, stopped.said
            assert other.end() == 0, other.said
    check_nothing_is_lost(read_trials(sqlite(tmp_path)), runs, undisturbed)
    first, second = (folder / "tested" / "winner" / "config.json" for folder in folders)
    assert first.read_text() == second.read_text()


def stop_while_unlocked(driver: Driver, database: Path) -> None:
    """Stops a process, but not while it locks the SQLite file.

    A process stopped while it reads keeps others from writing, as one that writes does.
    """

    def stop() -> bool:
        driver.send(signal.SIGSTOP)
        wait_for(driver.is_stopped)
        connection = sqlite3.connect(database, timeout=0, isolation_level=None)
        try:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            driver.send(signal.SIGCONT)
            return False
        finally:
            connection.close()
        return True

    wait_for(stop)


def interrupt(driver: Driver, times: int, hold: Hold) -> None:
    """Interrupts a search while it trains, once or twice, and waits until it has ended.

    For two interrupts the worker is stopped first, so that its epoch doesn't end.
    """
    workers = hold.wait()
    with stopped(*workers) if times == 2 else nullcontext():
        driver.send(signal.SIGINT)
        wait_for(lambda: "no new trial starts" in driver.said)
        if times == 2:
            driver.send(signal.SIGINT)
        assert driver.end() == 130, driver.said
    wait_for(lambda: not any(map(is_worker, workers)))


def test_an_interrupted_search_ends_in_order_or_at_once_and_can_continue(
    tmp_path: Path, undisturbed: Path
) -> None:
    search, runs = write_toml(tmp_path), tmp_path / "runs"
    hold = Hold(tmp_path / "hold", IN_THE_SECOND_EPOCH)
    with Watch(runs):
        with start_driver(tmp_path / "once", search, hold=hold) as driver:
            interrupt(driver, 1, hold)
        assert "runs stop at the end of their epoch" in driver.said
        assert driver.said.endswith(
            "interrupted, 0 of 3 trials are over; run the same command to continue"
        )
        states = [trial.state for trial in read_trials(sqlite(tmp_path))]
        assert TrialState.RUNNING not in states
        assert states.count(TrialState.WAITING) == 2  # the one that was running, and the next
        assert len(list(runs.glob("*/checkpoint.pt"))) == 1

        with start_driver(tmp_path / "twice", search, hold=hold) as driver:
            interrupt(driver, 2, hold)
        assert driver.said.endswith(
            "interrupted, running trials are queued again; run the same command to continue"
        )
        assert TrialState.RUNNING not in [t.state for t in read_trials(sqlite(tmp_path))]
        assert list(runs.glob("*/checkpoint.pt"))

        with start_driver(tmp_path / "said", search) as driver:
            assert driver.end() == 0, driver.said
    check_nothing_is_lost(read_trials(sqlite(tmp_path)), runs, undisturbed)
