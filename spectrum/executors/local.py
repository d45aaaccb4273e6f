"""The executor that runs worker processes on this machine.

Runs wait in a queue; each worker process executes one at a time (``local_worker``). When a worker
dies:

- If it was executing a run, a ``note`` event says so and the run goes to the front of the queue. A
  free or new worker continues it from its last checkpoint.
- A run whose worker has died ``_ATTEMPTS`` times without completing another epoch in between
  finishes as ``failed``, with the cause of death as its reason.
- If it was idle, it is removed. The next run that needs a worker gets a new one.

A worker that reports a run as ``failed`` is replaced as well, since an unforeseen failure may leave
its GPU context unusable.
"""

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
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import torch

import spectrum
from spectrum.machine import cpu_count
from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.store import Store

__all__ = [
    "LocalEngine",
    "LocalExecutor",
    "available_devices",
    "import_paths",
    "worker_count",
    "worker_variables",
]

_ATTEMPTS = 3  # deaths of a run's workers, without a completed epoch in between, until it fails


@dataclass(frozen=True)
class LocalEngine:
    """This machine as an engine.

    Attributes:
        devices: the devices, over which the workers are spread evenly.
        workers: the number of worker processes; None for one per ``threads`` cores, or per GPU.
        threads: the CPU threads of each run.
    """

    devices: Sequence[str]
    workers: int | None
    threads: int

    def make_executor(self, store: Store) -> LocalExecutor:
        """Make an executor of local processes, to be entered as a context."""
        workers = worker_count(self.workers, self.devices, self.threads)
        return LocalExecutor(store, self.devices, workers, self.threads)


def available_devices(device: str) -> list[str]:
    """The devices that ``device`` stands for.

    ``cuda`` stands for all GPUs, ``auto`` for all GPUs or, if there is none, the CPU.

    Raises:
        ValueError: this machine doesn't have the device.
    """
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if device == "auto":
        return gpus or ["cpu"]
    if device == "cuda" and gpus:
        return gpus
    if device == "cpu" or device in gpus:
        return [device]
    raise ValueError(f"device (={device!r}) must be one of auto, {', '.join(['cpu', *gpus])} here")


def worker_count(workers: int | None, devices: Sequence[str], threads: int) -> int:
    """The number of workers: as given, or for None one per GPU or per ``threads`` cores."""
    if workers is not None:
        return workers
    return max(cpu_count() // threads, 1) if devices[0] == "cpu" else len(devices)


class LocalExecutor:
    """Executes runs in local worker processes. Used as a context; leaving it kills all workers.

    Args:
        store: where the files of runs go.
        devices: the devices, over which the workers are spread evenly.
        workers: the most worker processes. They are started when runs need them.
        threads: the CPU threads of each run.
    """

    def __init__(self, store: Store, devices: Sequence[str], workers: int, threads: int) -> None:
        self.workers = workers
        self._store = store
        self._devices = devices
        self._threads = threads
        self._pool: list[_Worker] = []
        self._queue: deque[RunConfig] = deque()
        self._output: queue.Queue[tuple[_Worker, str]] = queue.Queue()
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
        for worker in self._pool:
            worker.kill()

    @property
    def unfinished(self) -> int:
        """The number of runs that are waiting or being executed."""
        return len(self._queue) + sum(worker.run is not None for worker in self._pool)

    def submit(self, run: RunConfig) -> None:
        """Execute a run as soon as a worker is free."""
        self._queue.append(run)
        self._assign_runs()

    def stop(self, run_id: str) -> None:
        """Stop a run at the end of its current epoch and keep its checkpoint.

        It finishes with the status ``stopped``, unless it is already in its last epoch.
        """
        for worker in self._pool:
            if worker.run is not None and worker.run.id == run_id:
                worker.send({"stop": run_id})

    def next_event(self, timeout: float | None = None) -> RunEvent | None:
        """Wait for the next event of any run; None after ``timeout`` seconds without one."""
        while True:
            try:
                worker, line = self._output.get(timeout=timeout)
            except queue.Empty:
                return None
            if line:
                event = RunEvent(**json.loads(line))
            elif worker not in self._pool:
                continue  # it has been removed already
            elif worker.run is None:
                self._remove(worker)
                continue
            else:
                event = self._on_worker_death(worker, worker.run)
            if event.kind == "evaluation" and event.values["epoch"] > self._epochs.get(
                event.run_id, 0
            ):
                self._epochs[event.run_id] = event.values["epoch"]
                del self._deaths[event.run_id]
            elif event.kind == "finished":
                worker.run = None
                # An unforeseen failure may leave the worker's GPU context unusable.
                if event.values["status"] == "failed" and worker in self._pool:
                    self._remove(worker)
                self._assign_runs()
            return event

    def _assign_runs(self) -> None:
        """Give waiting runs to idle workers, then to new ones while there may be more."""
        for worker in self._pool:
            if self._queue and worker.run is None:
                worker.execute(self._queue.popleft())
        while self._queue and len(self._pool) < self.workers:
            workers_on = Counter(worker.device for worker in self._pool)
            device = min(self._devices, key=lambda name: workers_on[name])
            self._pool.append(_Worker(self._store, device, self._threads, self._output))
            self._pool[-1].execute(self._queue.popleft())

    def _on_worker_death(self, worker: _Worker, run: RunConfig) -> RunEvent:
        """Retry the run of a dead worker, or fail it after ``_ATTEMPTS`` deaths."""
        cause = worker.cause_of_death()
        self._remove(worker)
        self._deaths[run.id] += 1
        if self._deaths[run.id] == _ATTEMPTS:
            del self._deaths[run.id]
            return RunEvent("finished", run.id, {"status": "failed", "error": cause})
        self._queue.appendleft(run)
        self._assign_runs()
        return RunEvent("note", run.id, {"text": f"{cause}; it continues from its last checkpoint"})

    def _remove(self, worker: _Worker) -> None:
        self._pool.remove(worker)
        worker.kill()


class _Worker:
    """A worker process, which receives runs and returns events as lines of JSON.

    Args:
        store: where the files of runs go.
        device: the device to train on.
        threads: the CPU threads of each run.
        output: receives each line that the process writes, and "" when it has ended.
    """

    def __init__(
        self, store: Store, device: str, threads: int, output: queue.Queue[tuple[_Worker, str]]
    ) -> None:
        self.run: RunConfig | None = None
        self.device = device
        self.output = output
        # A session of its own protects the worker from Ctrl-C. However this process ends, the
        # worker's standard input then closes and the worker ends too.
        # -P: a file in the current folder must not be imported in place of a module.
        program = [sys.executable, "-P", "-m", "spectrum.executors.local_worker"]
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
                if line.endswith("\n"):  # a killed worker may have left an incomplete line
                    self.output.put((self, line))
        self.output.put((self, ""))

    def execute(self, run: RunConfig) -> None:
        self.run = run
        self.send({"run": run.model_dump(mode="json")})

    def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # a dead worker is noticed by the end of its output
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def kill(self) -> None:
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
    """The environment variables of a worker.

    ``PYTHONPATH`` starts with the folder of this package, and BLAS libraries use ``threads``
    threads.
    """
    package = str(Path(spectrum.__file__).parents[1])
    inherited = os.environ.get("PYTHONPATH")
    return {
        "PYTHONPATH": os.pathsep.join([package, inherited] if inherited else [package]),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }


def import_paths() -> list[str]:
    """``sys.path`` of this process as absolute paths; "" becomes the current folder."""
    return [os.path.abspath(path) for path in sys.path]
