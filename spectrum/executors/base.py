"""What engines, executors and their workers have in common.

A study or search opens the engine that its configuration names, and the engine makes an executor.
Runs are submitted to the executor, which gives each to a worker and passes on the workers' events
until every run has finished.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

from spectrum.executors.retry import RetryPolicy
from spectrum.executors.slurm_config import SlurmConfig
from spectrum.runs.config import RunConfig
from spectrum.runs.events import OnEvent, RunEvent, execute_run
from spectrum.runs.execute import RunStopped, status_and_reason
from spectrum.runs.store import Store

_POLL_INTERVAL = 0.5  # seconds between looks at the runs that wait
_STOPPED = {"status": "stopped", "error": "not wanted any longer"}


class EngineConfig(Protocol):
    """The fields of a study or search that say where its runs execute.

    ``spectrum.study.grid.GridConfig`` declares and describes them.
    """

    @property
    def engine(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def threads(self) -> int: ...  # noqa: D102
    @property
    def workers(self) -> int | None: ...  # noqa: D102
    @property
    def address(self) -> str | None: ...  # noqa: D102
    @property
    def gpus(self) -> float | None: ...  # noqa: D102
    @property
    def slurm(self) -> SlurmConfig | None: ...  # noqa: D102


class Engine(Protocol):
    """A place where runs can execute, as ``--engine`` names it.

    Attributes:
        workers: the most runs at the same time.
        threads: the CPU threads of each run.
    """

    @property
    def workers(self) -> int: ...  # noqa: D102
    @property
    def threads(self) -> int: ...  # noqa: D102

    def make_executor(self, store: Store, retry_writes: bool = False) -> Executor[Any, Any]:
        """Make an executor that keeps the files of runs in a store.

        Args:
            store: where the files go.
            retry_writes: whether it retries runs whose files couldn't be written.
        """


Output: TypeAlias = queue.Queue[tuple["Worker", Any]]
"""The messages of workers, each with its worker."""


class Worker(ABC):
    """Executes one run at a time for an executor. A thread of its own listens to it.

    Attributes:
        run: the run that it executes; None if it has none.
        is_queued: whether the run waits for a place on a cluster, maybe for ever.

    Args:
        output: receives its messages: events of its runs and, at its death, the cause as text.
    """

    def __init__(self, output: Output) -> None:
        self.run: RunConfig | None = None
        self.is_queued = False
        self._output = output
        self._listener = threading.Thread(target=self._listen, daemon=True)

    @abstractmethod
    def _listen(self) -> None:
        """Send every message of the worker to the output until it dies."""

    def _send(self, message: Any) -> None:
        self._output.put((self, message))

    @abstractmethod
    def execute(self, run: RunConfig) -> None:
        """Begin to execute a run."""

    @abstractmethod
    def stop(self, run_id: str) -> None:
        """Ask it to stop a run at the end of its current epoch."""

    @abstractmethod
    def end(self) -> None:
        """End the worker at once, whatever it does."""


_Worker = TypeVar("_Worker", bound=Worker)
_Engine = TypeVar("_Engine", bound=Engine)


class Executor(ABC, Generic[_Engine, _Worker]):
    """Executes runs as they are submitted, in a pool of workers. Used as a context.

    Leaving the context ends the workers. A run whose worker dies is retried as ``RetryPolicy``
    says, by a free or a new worker. An idle worker that dies is removed. A worker that reports a
    run as ``failed`` is replaced, since an unforeseen failure may leave its GPU context unusable.

    Attributes:
        workers: the most runs that it executes at the same time.
        unfinished: the number of submitted runs whose ``finished`` event hasn't been returned yet.

    Args:
        engine: where the workers are. They are started when runs need them.
        store: where the files of runs go.
        retry_writes: whether runs whose files couldn't be written are retried.
    """

    def __init__(self, engine: _Engine, store: Store, retry_writes: bool = False) -> None:
        self.workers = engine.workers
        self.unfinished = 0
        self._engine = engine
        self._store = store
        self._retries = RetryPolicy(retry_writes)
        self._pool: list[_Worker] = []
        self._output: Output = queue.Queue()
        self._queue: deque[RunConfig] = deque()
        self._not_before: dict[str, float] = {}  # when a run in the queue may be started
        self._to_stop: set[str] = set()
        self._events: deque[RunEvent] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._pool):
            self._remove(worker)

    def submit(self, run: RunConfig) -> None:
        """Execute a run as soon as a worker is free."""
        self.unfinished += 1
        self._to_stop.discard(run.id)
        self._queue.append(run)
        self._assign_runs()

    def stop(self, run_id: str) -> None:
        """Stop a run at the end of its current epoch and keep its checkpoint.

        It finishes with the status ``stopped``, unless it is already in its last epoch. A run that
        waits for a worker finishes at once.
        """
        for worker in list(self._pool):
            if worker.run is not None and worker.run.id == run_id and worker.is_queued:
                self._postpone(worker.run, 0)
                self._remove(worker)
        self._to_stop.add(run_id)
        for run in [run for run in self._queue if run.id == run_id]:
            self._queue.remove(run)
            self._finish(run, _STOPPED)
        for worker in self._pool:
            if worker.run is not None and worker.run.id == run_id:
                worker.stop(run_id)

    def next_event(self, timeout: float | None = None) -> RunEvent | None:
        """Wait for the next event of any run; None after ``timeout`` seconds without one.

        Raises:
            RanksOutOfStep: a run has ended on some ranks only; under ``torchrun`` alone.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            self._assign_runs()
            if self._events:
                event = self._events.popleft()
                self.unfinished -= event.kind == "finished"
                return event
            remaining = max(0, deadline - time.monotonic())
            try:
                worker, message = self._output.get(timeout=min(remaining, _POLL_INTERVAL))
            except queue.Empty:
                if not remaining:
                    return None
                self._on_silence()
                continue
            if worker in self._pool:  # a removed worker may have sent it before
                self._receive(worker, message)

    def _on_silence(self) -> None:
        """Called when no worker has sent anything for a while."""

    def _assign_runs(self) -> None:
        """Give the runs that may start to idle workers, or to new ones."""
        for run in list(self._queue):
            idle = next((worker for worker in self._pool if worker.run is None), None)
            if idle is None and len(self._pool) >= self.workers:
                return
            if time.monotonic() < self._not_before.get(run.id, 0):
                continue
            self._queue.remove(run)
            try:
                self._start(run, idle)
            except Exception as error:  # of this run's files, or no process can be started
                self._fail(run, error)

    def _start(self, run: RunConfig, worker: _Worker | None) -> None:
        """Have a run executed by a worker, or by a new one for None."""
        if worker is None:
            worker = self._new_worker()
            self._pool.append(worker)
        worker.execute(run)
        worker.run = run

    @abstractmethod
    def _new_worker(self) -> _Worker: ...

    def _receive(self, worker: _Worker, message: Any) -> None:
        """Process a message of a worker of the pool: an event, or the cause of its death."""
        run = worker.run
        worker.is_queued = False
        if isinstance(message, str):
            self._remove(worker)
            if run is not None:
                self._finish(run, {"status": "failed", "error": message}, "death")
            return
        assert run is not None
        event: RunEvent = message
        if event.kind == "finished":
            worker.run = None
            if event.values["status"] == "failed":
                self._remove(worker)
            self._finish(run, event.values)
            return
        if event.kind == "evaluation":
            self._retries.on_epoch(run.id, event.values["epoch"])
        self._events.append(event)

    def _finish(self, run: RunConfig, result: dict[str, Any], failure: str = "") -> None:
        """Report that a run has finished, or retry it.

        Args:
            run: the run.
            result: its result.
            failure: what has ended it, for the policy of retries, if that isn't its status.
        """
        retry = self._retries.after(run.id, failure or result["status"])
        if retry is None:
            self._events.append(RunEvent("finished", run.id, result))
        elif run.id in self._to_stop:
            self._events.append(RunEvent("finished", run.id, _STOPPED))
        else:
            text = f"{result['error']}; {retry.advice}"
            self._events.append(RunEvent("note", run.id, {"text": text}))
            self._postpone(run, retry.pause)

    def _fail(self, run: RunConfig, error: Exception) -> None:
        """Finish or retry a run that this process couldn't start or whose files it can't write."""
        status, reason = status_and_reason(error)
        self._finish(run, {"status": status, "error": reason})

    def _postpone(self, run: RunConfig, seconds: float) -> None:
        """Put a run at the front of the queue, to be started in a number of seconds."""
        self._not_before[run.id] = time.monotonic() + seconds
        self._queue.appendleft(run)

    def _remove(self, worker: _Worker) -> None:
        """Remove a worker from the pool and end it."""
        self._pool.remove(worker)
        worker.end()


def execute_until_stopped(
    run: RunConfig, store: Store, device: str, report: OnEvent, to_stop: set[str]
) -> None:
    """Execute a run in this process, or a part of it.

    Args:
        run: the run.
        store: where its files go.
        device: the device to train on.
        report: called with every event.
        to_stop: the ids of the runs to stop at the end of their current epoch.
    """

    def report_or_stop(event: RunEvent) -> None:
        report(event)
        stops = event.kind == "evaluation" and run.id in to_stop
        if stops and event.values["epoch"] < run.recipe.epochs:  # after the last one it ends anyway
            raise RunStopped

    execute_run(run, store, device, report_or_stop)
