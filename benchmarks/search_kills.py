"""Kill the processes of a search at random moments, and count what is lost.

    python benchmarks/search_kills.py [--kills 100] [--seed 0] [--storage URL]

Two drivers, each the command `python -m spectrum.search` with one worker, share a search of 60
points in a small space. At random moments one of their processes is killed (SIGKILL). A killed
driver is started again with the same command. A process that is just starting may be killed too,
but only while there is a worker somewhere, so that the search makes progress. A search that ends
before the last kill is followed by another. Then three numbers are counted from outside:

- runs lost: trials that were asked for but didn't complete, and runs that either only a trial or
  only the store has as finished;
- runs done twice: runs whose result was written more than once. The store is looked at every
  50 ms, and a run takes a second or more;
- trials left running: trials of the database that aren't finished.

The exit status is 0 if all three are 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from optuna import load_study
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

TRIALS = 60
DRIVERS = 2
MAX_PAUSE = 3.0  # seconds from when there is a worker to the next kill
POLL_INTERVAL = 0.05  # seconds
# A run fails rightly if its worker dies a third time without an epoch in between.
MAX_WORKER_KILLS = 2

TOML = f"""
trials = {TRIALS}
segments = "1,2,4,8,C"
sampler = "random"
pruner = "none"
finalists = 1
seeds = 1
match = "none"
epochs = 20
workers = 1
heartbeat = 1
device = "cpu"
[network]
name = "tiny"
width = 0.2
[recipe]
batch_size = 256
"""


@dataclass
class Counts:
    """The counts over all searches."""

    killed: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    finished: int = 0
    lost: int = 0
    twice: int = 0
    left: int = 0


class Driver:
    """The command of a search, which can be killed and started again."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command = command
        self._log = log
        self.start()

    def start(self) -> None:
        """Start the command."""
        self.workers_killed = 0
        with self._log.open("a") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def has_ended(self) -> bool:
        """Whether the command has ended; exits this script if it has failed."""
        status = self.process.poll()
        if status:
            sys.exit(f"a driver ended with status {status}:\n{self._log.read_text()}")
        return status == 0

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        pid = self.process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
        except OSError:  # a process has just ended
            return []
        return [
            child for child, line in lines.items() if b"spectrum.executors.local_worker" in line
        ]

    def kill(self) -> None:
        """Kill the command."""
        self.process.kill()
        self.process.wait()


class ResultWatcher:
    """Watches a store for results that are written more than once."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._files: dict[str, set[tuple[int, int]]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> ResultWatcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(POLL_INTERVAL):
            for path in self._runs.glob("*/result.json"):
                status = path.stat()
                identity = status.st_ino, status.st_mtime_ns
                self._files.setdefault(path.parent.name, set()).add(identity)

    def finished_twice(self) -> int:
        """The number of runs whose result was written more than once."""
        return sum(len(files) > 1 for files in self._files.values())


def kill_one(drivers: list[Driver], rng: random.Random) -> str | None:
    """Kill a driver or a worker of a running search; ``"drivers"`` or ``"workers"``, or None."""
    running = [driver for driver in drivers if not driver.has_ended()]
    workers = [
        (driver, worker)
        for driver in running
        if driver.workers_killed < MAX_WORKER_KILLS
        for worker in driver.workers()
    ]
    if workers and rng.random() < 0.5:
        driver, worker = rng.choice(workers)
        driver.workers_killed += 1
        os.kill(worker, signal.SIGKILL)
        return "workers"
    if not running:
        return None
    driver = rng.choice(running)
    driver.kill()
    driver.start()
    return "drivers"


def search(folder: Path, storage: str, name: str, kills: int, counts: Counts, seed: int) -> None:
    """Run one search with ``kills`` kills at most."""
    rng = random.Random(seed)
    toml, runs = folder / f"{name}.toml", folder / name / "runs"
    toml.write_text(TOML)
    flags = ["--storage", storage, "--out", folder, "--runs", runs, "--seed", seed]
    command = [sys.executable, "-m", "spectrum.search", *map(str, [toml, *flags])]
    with ExitStack() as stack:
        watcher = stack.enter_context(ResultWatcher(runs))
        drivers = [Driver(command, folder / f"{name}-{i}.log") for i in range(DRIVERS)]
        for driver in drivers:
            stack.callback(driver.kill)
        left = kills
        while not all([driver.has_ended() for driver in drivers]):
            time.sleep(POLL_INTERVAL)
            if not left or not any(driver.workers() for driver in drivers):
                continue
            time.sleep(rng.uniform(0, MAX_PAUSE))
            killed = kill_one(drivers, rng)
            if killed:
                left -= 1
                counts.killed[killed] += 1
                if sys.stderr.isatty():
                    print(f"\r{counts.killed.total()} kills", end="", file=sys.stderr)
        time.sleep(2 * POLL_INTERVAL)  # so that the watcher sees the last results
    counts.twice += watcher.finished_twice()
    tally(runs, read_trials(storage, name), counts)


def read_trials(storage: str, name: str) -> list[FrozenTrial]:
    """The trials of a search in the database."""
    database = RDBStorage(storage)
    try:
        return load_study(storage=database, study_name=name).get_trials()
    finally:
        database.engine.dispose()


def tally(runs: Path, trials: list[FrozenTrial], counts: Counts) -> None:
    """Count what a search has left behind."""
    finished = set()
    for path in runs.glob("*/result.json"):
        config = json.loads((path.parent / "config.json").read_text())
        assert json.loads(path.read_text())["status"] == "done", path
        counts.finished += 1
        if config["seed"] == 0:  # other seeds are those of the check of the winner
            finished.add(config["network"]["segments"])
    completed = {as_segments(trial) for trial in trials if trial.state == TrialState.COMPLETE}
    counts.asked += TRIALS
    counts.lost += len(completed ^ finished) + max(0, TRIALS - len(completed & finished))
    counts.left += sum(not trial.state.is_finished() for trial in trials)


def as_segments(trial: FrozenTrial) -> str:
    """The segments of a trial, as in the configuration of its run."""
    settings = set(trial.params.values())
    if len(settings) == 1:
        return str(settings.pop())
    return "+".join(f"{flow}={trial.params[flow]}" for flow in ("entry", "middle", "exit"))


def main() -> int:
    """Print the counts; the exit status is 0 if nothing was lost, done twice or left running."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="processes to kill (100)")
    parser.add_argument("--seed", type=int, default=0, help="for the moments and the points (0)")
    parser.add_argument(
        "--storage", help="URL of a database (default: SQLite in a temporary folder)"
    )
    given = parser.parse_args()
    counts, searches, began = Counts(), 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="spectrum-kills-") as temporary:
        folder = Path(temporary)
        storage = given.storage or f"sqlite:///{folder / 'search.db'}"
        while searches == 0 or counts.killed.total() < given.kills:
            name = f"kills-{os.getpid()}-{searches}"
            left = given.kills - counts.killed.total()
            search(folder, storage, name, left, counts, given.seed + searches)
            searches += 1
    if sys.stderr.isatty():
        print(file=sys.stderr)
    kinds = ", ".join(f"{counts.killed[kind]} {kind}" for kind in ("drivers", "workers"))
    for label, value in (
        ("kills", f"{counts.killed.total()} ({kinds})"),
        ("searches", searches),
        ("trials asked for", counts.asked),
        ("runs finished", f"{counts.finished} (those that check the winners included)"),
        ("runs lost", counts.lost),
        ("runs done twice", counts.twice),
        ("trials left running", counts.left),
        ("seconds", round(time.monotonic() - began)),
    ):
        print(f"{label:21}{value}")
    return int(bool(counts.lost or counts.twice or counts.left))


if __name__ == "__main__":
    sys.exit(main())
