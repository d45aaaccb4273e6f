"""The executor that runs workers on the nodes of a Ray cluster.

Each worker (``ray_worker``) executes one run at a time. Its updates bring the run's files here
after every evaluation, and only this process writes the store. So a run whose worker or node is
lost continues from its last checkpoint on another node, and any engine can resume an interrupted
study.

While a run is executed this process holds its lock in the store, so no other study or search trains
it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
import safetensors.torch
from filelock import FileLock, Timeout
from ray.exceptions import RayError

from spectrum.executors.base import Executor, Output, Worker
from spectrum.executors.local import import_paths, worker_variables
from spectrum.executors.ray_worker import RayWorker, RunUpdate
from spectrum.files import read_file, write_atomic
from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.store import Store

_LOCK_INTERVAL = 0.5  # seconds between attempts to acquire the lock of a run
_SHUTDOWN_TIMEOUT = 2  # seconds in which workers can remove their files


@dataclass(frozen=True)
class RayEngine:
    """A Ray cluster as an engine.

    Attributes:
        workers: the most runs at the same time.
        threads: the CPU threads of each run, and the CPUs of the cluster that it reserves.
        gpus: the GPUs that each run reserves; several runs can share one by fractions.
    """

    workers: int
    threads: int
    gpus: float

    def make_executor(self, store: Store, retry_writes: bool = False) -> RayExecutor:
        """Make an executor of processes of the cluster, to be entered as a context."""
        return RayExecutor(self, store, retry_writes)


class RayExecutor(Executor[RayEngine, "_ActorWorker"]):
    """Executes runs in actors on a Ray cluster. Leaving its context ends all workers.

    A worker without a run is shut down, so that other users of the cluster can have its place.

    Args:
        engine: the cluster.
        store: where the files of runs go.
        retry_writes: whether runs whose files couldn't be written are retried.
    """

    def __init__(self, engine: RayEngine, store: Store, retry_writes: bool = False) -> None:
        super().__init__(engine, store, retry_writes)
        self._actor_class = ray.remote(RayWorker).options(
            num_cpus=engine.threads,
            num_gpus=engine.gpus,
            max_concurrency=4,  # one call of each of its methods at the same time
            runtime_env={"env_vars": worker_variables(engine.threads)},
        )
        self._removed: list[_ActorWorker] = []
        self._locks: dict[str, FileLock] = {}
        self._initial_weights: dict[str, Any] = {}  # Ray object references by fingerprint
        self._noted_locks: set[str] = set()  # runs with a note that another process has the lock

    def __exit__(self, *_: object) -> None:
        try:
            super().__exit__()
            calls = [worker.shutdown for worker in self._removed if worker.shutdown is not None]
            if calls:
                ray.wait(calls, num_returns=len(calls), timeout=_SHUTDOWN_TIMEOUT)
        finally:
            for worker in [*self._removed, *self._pool]:
                worker.kill()
            for lock in self._locks.values():
                lock.release()

    def _on_silence(self) -> None:
        for worker in [worker for worker in self._pool if worker.run is None]:
            self._remove(worker)

    def _start(self, run: RunConfig, worker: _ActorWorker | None) -> None:
        """Have a run executed, if its lock is free and it isn't finished."""
        lock = self._store.lock(run.id)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if run.id not in self._noted_locks:
                self._noted_locks.add(run.id)
                text = "another process trains this run; waiting for its result"
                self._events.append(RunEvent("note", run.id, {"text": text}))
            self._postpone(run, _LOCK_INTERVAL)
            return
        self._locks[run.id] = lock
        result = self._store.result(run.id)
        if result is not None:  # another process has finished it in the meantime
            self._events.append(RunEvent("started", run.id))
            self._finish(run, result)
            return
        self._store.begin(run.id, run.stored())
        super()._start(run, worker)

    def _new_worker(self) -> _ActorWorker:
        device = "cuda:0" if self._engine.gpus else "cpu"
        threads = self._engine.threads
        actor = self._actor_class.remote(os.getcwd(), import_paths(), threads, device)
        return _ActorWorker(actor, self._task, self._output)

    def _task(self, run: RunConfig) -> tuple[Any, ...]:
        """The arguments of ``RayWorker.execute`` for a run."""
        path = self._store.checkpoint_path(run.id)
        checkpoint = read_file(path) if path.exists() else None
        weights = None
        if run.start:
            # Ray's object store, from which each node fetches them once.
            if run.start not in self._initial_weights:
                tensors = self._store.load_initial_weights(run.start)
                self._initial_weights[run.start] = ray.put(safetensors.torch.save(tensors))
            weights = self._initial_weights[run.start]
        return run.id, run.model_dump(mode="json"), str(self._store.root), checkpoint, weights

    def _receive(self, worker: _ActorWorker, message: Any) -> None:
        """Write the files of an update to the store, then process its event."""
        if isinstance(message, RunUpdate):
            run = worker.run
            assert run is not None
            worker.has_started, worker.is_queued = True, False
            try:
                for name, content in message.files.items():
                    path = self._store.folder(run.id) / name
                    write_atomic(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
                if "result.json" in message.files:
                    self._store.drop_checkpoint(run.id)
            except OSError as error:
                self._remove(worker)
                self._fail(run, error)
                return
            if message.event is None:
                return
            message = message.event
        super()._receive(worker, message)

    def _finish(self, run: RunConfig, result: dict[str, Any], failure: str = "") -> None:
        if run.id in self._locks:
            self._locks.pop(run.id).release()
        super()._finish(run, result, failure)

    def _remove(self, worker: _ActorWorker) -> None:
        super()._remove(worker)
        self._removed.append(worker)


class _ActorWorker(Worker):
    """An actor, which may still wait for a place on the cluster.

    Attributes:
        has_started: whether it has sent an update, so that its process exists.
        shutdown: the pending call that shuts it down, if there is one.

    Args:
        actor: the handle of the ``RayWorker``.
        task: gives the arguments of ``RayWorker.execute`` for a run.
        output: receives its messages.
    """

    def __init__(
        self, actor: Any, task: Callable[[RunConfig], tuple[Any, ...]], output: Output
    ) -> None:
        super().__init__(output)
        self._actor = actor
        self._task = task
        self.has_started = False
        self.shutdown: Any = None
        self._listener.start()

    def _listen(self) -> None:
        try:
            while True:
                for update in ray.get(self._actor.updates.remote()):
                    self._send(update)
        except RayError as error:
            self._send(_cause_of_death(error))

    def execute(self, run: RunConfig) -> None:
        self.is_queued = True
        self._actor.execute.remote(*self._task(run))

    def stop(self, run_id: str) -> None:
        self._actor.stop.remote(run_id)

    def end(self) -> None:
        if self.has_started:
            self.shutdown = self._actor.shut_down.remote()
        else:
            ray.kill(self._actor)

    def kill(self) -> None:
        """End it for good and wait until nothing listens to it."""
        ray.kill(self._actor)
        self._listener.join(_SHUTDOWN_TIMEOUT)


def _cause_of_death(error: RayError) -> str:
    """Why a worker is lost, in a few words."""
    message = str(error)
    if "its node has died" in message:
        return "its node was lost"
    if "process has died" in message:
        return "its process on the cluster has died"
    return f"its process on the cluster is lost: {message.strip().splitlines()[-1].strip()[:200]}"
