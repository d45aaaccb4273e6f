"""The executor that runs workers on the nodes of a Ray cluster.

Each worker (``ray_worker``) executes one run at a time. Its updates bring the run's files here
after every evaluation, and only this process writes the store. So a run whose worker or node is
lost continues from its last checkpoint on another node, and any engine can resume an interrupted
study.

A run whose worker has died ``_ATTEMPTS`` times without completing another epoch in between finishes
as ``failed``, as in ``local``. While a run is executed this process holds its lock in the store, so
no other study or search trains it.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import ray
import safetensors.torch
from filelock import FileLock, Timeout
from ray.exceptions import RayError

from spectrum.executors.local import import_paths, worker_variables
from spectrum.executors.ray_worker import RayWorker, RunUpdate
from spectrum.files import write_atomic
from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.execute import status_and_reason
from spectrum.runs.store import Store

__all__ = ["RayExecutor"]

_ATTEMPTS = 3  # deaths of a run's workers, without a completed epoch in between, until it fails
_STOPPED = ("stopped", "not wanted any longer")  # the status and the reason
_POLL_INTERVAL = 0.5  # seconds between attempts to acquire the locks of waiting runs
_SHUTDOWN_TIMEOUT = 2  # seconds in which workers can remove their files


@dataclass
class _Worker:
    """An actor, which may still wait for a place on the cluster.

    Attributes:
        actor: the handle of the ``RayWorker``.
        pending_updates: the reference of the pending call of its ``updates``.
        has_started: whether it has answered a call, so that its process exists.
        run: the run that it executes or will execute.
        run_has_started: whether an update of that run has arrived.
    """

    actor: Any
    pending_updates: Any
    has_started: bool = False
    run: RunConfig | None = None
    run_has_started: bool = False


class RayExecutor:
    """Executes runs in actors on a Ray cluster. Used as a context; leaving it ends all workers.

    A worker without a run is shut down, so that other users of the cluster can have its place.

    Args:
        store: where the files of runs go.
        workers: the most workers. They are started when runs need them.
        threads: the CPU threads of each worker, and the CPUs of the cluster that it reserves.
        gpus: the GPUs that each worker reserves; several can share one by fractions.
    """

    def __init__(self, store: Store, workers: int, threads: int, gpus: float) -> None:
        self.workers = workers
        self._store = store
        self._threads = threads
        self._actor_class = ray.remote(RayWorker).options(
            num_cpus=threads,
            num_gpus=gpus,
            max_concurrency=4,  # one call of each of its methods at the same time
            runtime_env={"env_vars": worker_variables(threads)},
        )
        self._device = "cuda:0" if gpus else "cpu"
        self._pool: list[_Worker] = []
        self._shutdowns: dict[Any, Any] = {}  # actors that shut down, with the pending call
        self._queue: deque[RunConfig] = deque()
        self._events: deque[RunEvent] = deque()
        self._locks: dict[str, FileLock] = {}
        self._initial_weights: dict[str, Any] = {}  # Ray object references by fingerprint
        self._noted_locks: set[str] = set()  # runs with a note that another process has the lock
        self._to_stop: set[str] = set()
        self._epochs: dict[str, float] = {}  # the most that each run has completed
        self._deaths: Counter[str] = Counter()  # of each run's workers, since its last new epoch

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for worker in list(self._pool):
                self._remove(worker)
            calls = list(self._shutdowns.values())
            if calls:
                ray.wait(calls, num_returns=len(calls), timeout=_SHUTDOWN_TIMEOUT)
        finally:
            for actor in [*self._shutdowns, *(worker.actor for worker in self._pool)]:
                ray.kill(actor)
            for lock in self._locks.values():
                lock.release()

    @property
    def unfinished(self) -> int:
        """The number of submitted runs whose ``finished`` event hasn't been returned yet."""
        finished = sum(event.kind == "finished" for event in self._events)
        return len(self._queue) + sum(worker.run is not None for worker in self._pool) + finished

    def submit(self, run: RunConfig) -> None:
        """Execute a run as soon as a worker is free."""
        self._to_stop.discard(run.id)
        self._queue.append(run)
        self._assign_runs()

    def stop(self, run_id: str) -> None:
        """Stop a run at the end of its current epoch and keep its checkpoint.

        It finishes with the status ``stopped``, unless it is already in its last epoch. A run that
        hasn't started finishes at once.
        """
        self._to_stop.add(run_id)
        for worker in self._pool:
            if worker.run is not None and worker.run.id == run_id:
                if worker.run_has_started:
                    worker.actor.stop.remote(run_id)
                    return
                self._remove(worker)
                self._finish(run_id, *_STOPPED)
                return
        for run in list(self._queue):
            if run.id == run_id:
                self._queue.remove(run)
                self._finish(run_id, *_STOPPED)

    def next_event(self, timeout: float | None = None) -> RunEvent | None:
        """Wait for the next event of any run; None after ``timeout`` seconds without one."""
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            self._assign_runs()
            if self._events:
                return self._events.popleft()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return None
            self._wait_for_updates(min(remaining, _POLL_INTERVAL))

    def _wait_for_updates(self, timeout: float) -> None:
        """Process the updates of all workers; without any, shut down the idle workers."""
        calls = {worker.pending_updates: worker for worker in self._pool}
        if not calls:
            time.sleep(timeout)
            return
        ready, _ = ray.wait(list(calls), timeout=timeout)
        for call in ready:
            worker = calls[call]
            try:
                updates: list[RunUpdate] = ray.get(call)
            except RayError as error:
                self._on_worker_death(worker, error)
                continue
            worker.has_started, worker.pending_updates = True, worker.actor.updates.remote()
            for update in updates:
                self._process(worker, update)
        if not ready:
            for worker in [worker for worker in self._pool if worker.run is None]:
                self._remove(worker)

    def _assign_runs(self) -> None:
        """Give waiting runs whose lock is free to idle workers, or to new ones."""
        for run in list(self._queue):
            idle = [worker for worker in self._pool if worker.run is None]
            if not idle and len(self._pool) >= self.workers:
                return
            try:
                if not self._try_lock(run.id):
                    continue
                self._queue.remove(run)
                result = self._store.result(run.id)
                if result is None:
                    self._execute(run, idle[0] if idle else None)
                else:  # another process has finished it in the meantime
                    self._unlock(run.id)
                    self._events += [
                        RunEvent("started", run.id),
                        RunEvent("finished", run.id, result),
                    ]
            except OSError as error:
                if run in self._queue:
                    self._queue.remove(run)
                self._finish(run.id, *status_and_reason(error))

    def _try_lock(self, run_id: str) -> bool:
        """Acquire the lock of a run, unless another process holds it."""
        lock = self._store.lock(run_id)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if run_id not in self._noted_locks:
                self._noted_locks.add(run_id)
                text = "another process trains this run; waiting for its result"
                self._events.append(RunEvent("note", run_id, {"text": text}))
            return False
        self._locks[run_id] = lock
        return True

    def _unlock(self, run_id: str) -> None:
        if run_id in self._locks:
            self._locks.pop(run_id).release()

    def _execute(self, run: RunConfig, worker: _Worker | None) -> None:
        """Send a run to a worker, or to a new one for None."""
        self._store.begin(run.id, run.stored())
        path = self._store.checkpoint_path(run.id)
        checkpoint = path.read_bytes() if path.exists() else None
        weights = self._share_initial_weights(run.start) if run.start else None
        if worker is None:
            actor = self._actor_class.remote(
                os.getcwd(), import_paths(), self._threads, self._device
            )
            worker = _Worker(actor, actor.updates.remote())
            self._pool.append(worker)
        worker.run, worker.run_has_started = run, False
        fields, root = run.model_dump(mode="json"), str(self._store.root)
        worker.actor.execute.remote(run.id, fields, root, checkpoint, weights)

    def _share_initial_weights(self, fingerprint: str) -> Any:
        """Put initial weights into Ray's object store, from which each node fetches them once."""
        if fingerprint not in self._initial_weights:
            tensors = self._store.load_initial_weights(fingerprint)
            self._initial_weights[fingerprint] = ray.put(safetensors.torch.save(tensors))
        return self._initial_weights[fingerprint]

    def _process(self, worker: _Worker, update: RunUpdate) -> None:
        """Write the files of an update to the store, then make its event available."""
        event, run_id = update.event, update.run_id
        if worker.run is None or worker.run.id != run_id:
            return  # the run has ended already, since a file of it couldn't be written
        worker.run_has_started = True
        try:
            for name, content in update.files.items():  # result.json is the last of them
                path = self._store.folder(run_id) / name
                write_atomic(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
            if "result.json" in update.files:
                self._store.drop_checkpoint(run_id)
        except OSError as error:
            self._remove(worker)
            self._finish(run_id, *status_and_reason(error))
            return
        if event is None:
            return
        if event.kind == "evaluation" and event.values["epoch"] > self._epochs.get(run_id, 0):
            self._epochs[run_id] = event.values["epoch"]
            del self._deaths[run_id]
        elif event.kind == "finished":
            worker.run = None
            self._unlock(run_id)
            # An unforeseen failure may leave the worker's GPU context unusable.
            if event.values["status"] == "failed":
                self._remove(worker)
        self._events.append(event)

    def _on_worker_death(self, worker: _Worker, error: RayError) -> None:
        """Retry the run of a lost worker, or fail it after ``_ATTEMPTS`` deaths."""
        run = worker.run
        self._remove(worker)
        if run is None:
            return
        if run.id in self._to_stop:
            self._finish(run.id, *_STOPPED)
            return
        cause = _cause_of_death(error)
        self._deaths[run.id] += 1
        if self._deaths[run.id] == _ATTEMPTS:
            del self._deaths[run.id]
            self._finish(run.id, "failed", cause)
            return
        self._unlock(run.id)
        self._queue.appendleft(run)
        text = f"{cause}; it continues from its last checkpoint"
        self._events.append(RunEvent("note", run.id, {"text": text}))

    def _finish(self, run_id: str, status: str, reason: str) -> None:
        """Unlock a run that ends without a result of a worker, and report that it has finished."""
        self._unlock(run_id)
        self._events.append(RunEvent("finished", run_id, {"status": status, "error": reason}))

    def _remove(self, worker: _Worker) -> None:
        """Remove a worker from the pool and end its process."""
        self._pool.remove(worker)
        worker.run = None
        if worker.has_started:
            self._shutdowns[worker.actor] = worker.actor.shut_down.remote()
        else:
            ray.kill(worker.actor)


def _cause_of_death(error: RayError) -> str:
    """Why a worker is lost, in a few words."""
    message = str(error)
    if "its node has died" in message:
        return "its node was lost"
    if "process has died" in message:
        return "its process on the cluster has died"
    return f"its process on the cluster is lost: {message.strip().splitlines()[-1].strip()[:200]}"
