"""Kill the processes of a search at random, again and again, and count what is lost.

    python benchmarks/search_kills.py [--kills 100] [--seed 0] [--storage URL]

Two drivers, the command `python -m spectrum.search` with a worker each, share a search of 60 points
of a small space. At random moments one of their processes is killed (SIGKILL), a killed driver is
started again by the same command. One that is just starting may be killed too, but never before
any worker is there, so that the search goes on. When no kill is left it may end; one that ends
before is followed by another. Then is counted, from outside:

- what is lost: points asked for, or told by a trial, or with a result in the store, for which the
  other two don't hold;
- what is done twice: runs whose result was written more than once, which a look at the store every
  50 ms would see, as a run takes a second or more;
- what is left: trials of the database that are neither over nor given up.

The status is 0 if each of the three is 0.
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
PAUSE = 3.0  # seconds at most from when a worker is there to the next kill
LOOK = 0.05
# A third death of a worker without an epoch in between is a failure of its run, as it should be.
WORKERS_IN_A_ROW = 2

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
    """What has happened, over all searches."""

    killed: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    finished: int = 0
    lost: int = 0
    twice: int = 0
    left: int = 0


class Driver:
    """The command of a search, begun anew whenever it was killed."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command = command
        self._log = log
        self.start()

    def start(self) -> None:
        """Start the command."""
        self.workers_killed = 0
        with self._log.open("a") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def is_over(self) -> bool:
        """Whether the search has ended for it; the benchmark ends where it has failed."""
        status = self.process.poll()
        if status:
            sys.exit(f"a driver ended with status {status}:\n{self._log.read_text()}")
        return status == 0

    def workers(self) -> list[int]:
        """Its worker, once there is one."""
        pid = self.process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
        except OSError:  # one has just ended
            return []
        return [child for child, line in lines.items() if b"spectrum.study.worker" in line]

    def stop(self) -> None:
        """End it for good."""
        self.process.kill()
        self.process.wait()


class Watch:
    """Looks at a store for results that are replaced."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._files: dict[str, set[tuple[int, int]]] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(LOOK):
            for path in self._runs.glob("*/result.json"):
                found = path.stat()
                identity = found.st_ino, found.st_mtime_ns
                self._files.setdefault(path.parent.name, set()).add(identity)

    def twice(self) -> int:
        """How many runs were finished more than once."""
        return sum(len(files) > 1 for files in self._files.values())


def kill_one(drivers: list[Driver], rng: random.Random) -> str | None:
    """Kill a process of a search that goes on, a driver or a worker; gives what it was."""
    at_work = [driver for driver in drivers if not driver.is_over()]
    workers = [
        (driver, worker)
        for driver in at_work
        if driver.workers_killed < WORKERS_IN_A_ROW
        for worker in driver.workers()
    ]
    if workers and rng.random() < 0.5:
        driver, worker = rng.choice(workers)
        driver.workers_killed += 1
        os.kill(worker, signal.SIGKILL)
        return "workers"
    if not at_work:
        return None
    driver = rng.choice(at_work)
    driver.stop()
    driver.start()
    return "drivers"


def search(folder: Path, storage: str, name: str, kills: int, counts: Counts, seed: int) -> None:
    """One search, with at most so many kills."""
    rng = random.Random(seed)
    toml, runs = folder / f"{name}.toml", folder / name / "runs"
    toml.write_text(TOML)
    flags = ["--storage", storage, "--out", folder, "--runs", runs, "--seed", seed]
    command = [sys.executable, "-m", "spectrum.search", *map(str, [toml, *flags])]
    with ExitStack() as stack:
        watch = stack.enter_context(Watch(runs))
        drivers = [Driver(command, folder / f"{name}-{i}.log") for i in range(DRIVERS)]
        for driver in drivers:
            stack.callback(driver.stop)
        left = kills
        while not all([driver.is_over() for driver in drivers]):
            time.sleep(LOOK)
            if not left or not any(driver.workers() for driver in drivers):
                continue
            time.sleep(rng.uniform(0, PAUSE))
            killed = kill_one(drivers, rng)
            if killed:
                left -= 1
                counts.killed[killed] += 1
                if sys.stderr.isatty():
                    print(f"\r{counts.killed.total()} kills", end="", file=sys.stderr)
        time.sleep(2 * LOOK)  # for a last look at the store
    counts.twice += watch.twice()
    tally(runs, read_trials(storage, name), counts)


def read_trials(storage: str, name: str) -> list[FrozenTrial]:
    """The trials in the database."""
    database = RDBStorage(storage)
    try:
        return load_study(storage=database, study_name=name).get_trials()
    finally:
        database.engine.dispose()


def tally(runs: Path, trials: list[FrozenTrial], counts: Counts) -> None:
    """Count what a search has left."""
    finished = set()
    for path in runs.glob("*/result.json"):
        config = json.loads((path.parent / "config.json").read_text())
        assert json.loads(path.read_text())["status"] == "done", path
        counts.finished += 1
        if config["seed"] == 0:  # others check the winner
            finished.add(config["network"]["segments"])
    told = {as_segments(trial) for trial in trials if trial.state == TrialState.COMPLETE}
    counts.asked += TRIALS
    counts.lost += len(told ^ finished) + max(0, TRIALS - len(told & finished))
    counts.left += sum(not trial.state.is_finished() for trial in trials)


def as_segments(trial: FrozenTrial) -> str:
    """The network of a trial, as its run has it."""
    settings = set(trial.params.values())
    if len(settings) == 1:
        return str(settings.pop())
    return "+".join(f"{flow}={trial.params[flow]}" for flow in ("entry", "middle", "exit"))


def main() -> int:
    """Print the table; the status is 0 if nothing was lost, done twice or left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="how many (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and of the points (0)")
    parser.add_argument("--storage", help="URL of a database (SQLite in a temporary folder)")
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
