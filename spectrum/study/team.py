"""Local processes that are handed one run at a time, whenever there is one."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import spectrum
from spectrum.study.events import Event
from spectrum.study.plan import RunConfig
from spectrum.study.store import Store

__all__ = ["Team", "import_paths", "worker_variables"]

_ATTEMPTS = 3  # of a run whose process dies, without an epoch more than before


class Team:
    """Processes that execute runs as they are submitted; used as a context.

    A process that dies is replaced, and its run goes on from its checkpoint; one that dies three
    times without an epoch more has failed. Leaving the context ends every process at once.

    Args:
        store: where the files of runs go.
        devices: shared out among the processes in turn.
        workers: how many processes at most; they are started as runs come.
        threads: CPU threads of a run.
    """

    def __init__(self, store: Store, devices: Sequence[str], workers: int, threads: int) -> None:
        self.workers = workers
        self._store = store
        self._devices = devices
        self._threads = threads
        self._team: list[_Worker] = []
        self._waiting: deque[RunConfig] = deque()
        self._inbox: queue.Queue[tuple[_Worker, str]] = queue.Queue()
        self._epochs: dict[str, float] = {}
        self._setbacks: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._team:
            worker.stop()

    @property
    def unfinished(self) -> int:
        """How many runs are waiting or being executed."""
        return len(self._waiting) + sum(worker.run is not None for worker in self._team)

    def submit(self, run: RunConfig) -> None:
        """Execute a run as soon as a process is free."""
        self._waiting.append(run)
        self._hand_out()

    def stop(self, run_id: str) -> None:
        """Ask for a run to be stopped at the end of its epoch, with its checkpoint.

        It finishes with the status ``stopped``, unless it is in its last epoch when it hears of it.
        """
        for worker in self._team:
            if worker.run is not None and worker.run.id == run_id:
                worker.send({"stop": run_id})

    def next_event(self, timeout: float | None = None) -> Event | None:
        """The next thing that happened to a run; None when ``timeout`` seconds have passed."""
        while True:
            try:
                worker, line = self._inbox.get(timeout=timeout)
            except queue.Empty:
                return None
            if line:
                event = Event(**json.loads(line))
            elif worker not in self._team:
                continue  # one that was replaced
            elif worker.run is None:
                self._dismiss(worker)
                continue
            else:
                event = self._bury(worker, worker.run)
            if event.kind == "evaluation" and event.values["epoch"] > self._epochs.get(
                event.run_id, 0
            ):
                self._epochs[event.run_id] = event.values["epoch"]
                del self._setbacks[event.run_id]
            elif event.kind == "finished":
                worker.run = None
                # After a failure that nobody foresaw a GPU's context may be of no more use.
                if event.values["status"] == "failed" and worker in self._team:
                    self._dismiss(worker)
                self._hand_out()
            return event

    def _hand_out(self) -> None:
        for worker in self._team:
            if self._waiting and worker.run is None:
                worker.execute(self._waiting.popleft())
        while self._waiting and len(self._team) < self.workers:
            at_work = Counter(worker.device for worker in self._team)
            device = min(self._devices, key=lambda name: at_work[name])
            self._team.append(_Worker(self._store, device, self._threads, self._inbox))
            self._team[-1].execute(self._waiting.popleft())

    def _bury(self, worker: _Worker, run: RunConfig) -> Event:
        """What the death of a process means to its run."""
        cause = worker.cause_of_death()
        self._dismiss(worker)
        self._setbacks[run.id] += 1
        if self._setbacks[run.id] == _ATTEMPTS:
            del self._setbacks[run.id]
            return Event("finished", run.id, {"status": "failed", "error": cause})
        self._waiting.appendleft(run)
        self._hand_out()
        return Event("note", run.id, {"text": f"{cause}; it goes on from its last epoch"})

    def _dismiss(self, worker: _Worker) -> None:
        self._team.remove(worker)
        worker.stop()


class _Worker:
    """A process that executes the runs it is sent, as lines of JSON, and answers with events."""

    def __init__(
        self, store: Store, device: str, threads: int, inbox: queue.Queue[tuple[_Worker, str]]
    ) -> None:
        self.run: RunConfig | None = None
        self.device = device
        self.inbox = inbox
        # A session of its own keeps Ctrl-C from the worker; when this process ends, however it
        # does, the worker's standard input closes and it ends too.
        # -P: a file in the current folder must not stand in for a module.
        program = [sys.executable, "-P", "-m", "spectrum.study.worker"]
        self.process = subprocess.Popen(
            [*program, str(store.root), device, str(threads), json.dumps(import_paths())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
            env=os.environ | worker_variables(threads),
        )
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self.reader.start()

    def _read(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                if line.endswith("\n"):  # what a killed worker left unfinished isn't an event
                    self.inbox.put((self, line))
        self.inbox.put((self, ""))

    def execute(self, run: RunConfig) -> None:
        self.run = run
        self.send({"run": run.model_dump(mode="json")})

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # of a dead worker the end of its output tells
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def cause_of_death(self) -> str:
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return "its process was killed, as the system does when memory runs out"
        return f"its process ended with status {code}"


def worker_variables(threads: int) -> dict[str, str]:
    """What a worker's environment has of its own: this package first, BLAS kept to its threads."""
    package = str(Path(spectrum.__file__).parents[1])
    others = os.environ.get("PYTHONPATH")
    return {
        "PYTHONPATH": os.pathsep.join([package, others] if others else [package]),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }


def import_paths() -> list[str]:
    """Where this process imports from; an empty entry is its current folder."""
    return [os.path.abspath(path) for path in sys.path]
