"""Ctrl-C once ends a search in order, twice at once. The same command continues after either."""

import os
import signal
from pathlib import Path

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
    write_toml,
)


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
