"""The executor that runs worker processes on this machine.

Each worker process (``local_worker``) executes one run at a time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import spectrum
from spectrum.errors import FieldError
from spectrum.executors.base import Executor, Output, Worker
from spectrum.machine import cpu_count
from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.store import Store

WORKER_MODULE: tuple[str, ...] = ("spectrum.executors.local_worker",)
"""The module that a worker process executes, with its first arguments."""


@dataclass(frozen=True)
class LocalEngine:
    """This machine as an engine.

    Attributes:
        devices: the devices, over which the workers are spread evenly.
        workers: the most worker processes.
        threads: the CPU threads of each run.
    """

    devices: Sequence[str]
    workers: int
    threads: int

    def make_executor(self, store: Store, retry_writes: bool = False) -> LocalExecutor:
        """Make an executor of local processes, to be entered as a context."""
        return LocalExecutor(self, store, retry_writes)


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
    allowed = f"must be one of auto, {', '.join(['cpu', *gpus])} here"
    raise FieldError("device", device, allowed)


def worker_count(workers: int | None, devices: Sequence[str], threads: int) -> int:
    """The number of workers: as given, or for None one per GPU or per ``threads`` cores."""
    if workers is not None:
        return workers
    return max(cpu_count() // threads, 1) if devices[0] == "cpu" else len(devices)


class LocalExecutor(Executor[LocalEngine, "_LocalWorker"]):
    """Executes runs in local worker processes. Leaving its context kills them."""

    def _new_worker(self) -> _LocalWorker:
        workers_on = Counter(worker.device for worker in self._pool)
        device = min(self._engine.devices, key=lambda name: workers_on[name])
        return _LocalWorker(self._store, device, self._engine.threads, self._output)


class _LocalWorker(Worker):
    """A worker process, which receives runs and returns events as lines of JSON.

    Args:
        store: where the files of runs go.
        device: the device to train on.
        threads: the CPU threads of each run.
        output: receives its messages.
    """

    def __init__(self, store: Store, device: str, threads: int, output: Output) -> None:
        super().__init__(output)
        self.device = device
        # A session of its own protects the worker from Ctrl-C. However this process ends, the
        # worker's standard input then closes and the worker ends too.
        # -P: a file in the current folder must not be imported in place of a module.
        program = [sys.executable, "-P", "-m", *WORKER_MODULE]
        self.process = subprocess.Popen(
            [*program, str(store.root), device, str(threads), json.dumps(import_paths())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
            env=os.environ | worker_variables(threads),
        )
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                if line.endswith("\n"):  # a killed worker may have left an incomplete line
                    self._send(RunEvent(**json.loads(line)))
        code = self.process.wait()
        cause = f"its process ended with status {code}"
        if code == -signal.SIGKILL:
            cause = "its process was killed, as the system does when memory runs out"
        self._send(cause)

    def execute(self, run: RunConfig) -> None:
        self._write({"run": run.model_dump(mode="json")})

    def stop(self, run_id: str) -> None:
        self._write({"stop": run_id})

    def _write(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # a dead worker is noticed by the end of its output
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self._listener.join()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()


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
