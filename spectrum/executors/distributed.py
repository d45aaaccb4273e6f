"""The executor that trains each run on all processes that ``torchrun`` has started.

It executes one run at a time. Rank 0 executes the command, broadcasts each run and writes the
store. The other ranks receive the run and train on their shares of its batches; they read and
write no files of the store. When a rank dies the others can't go on: the command ends, and when it
is called again the run continues from its last checkpoint.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import NoReturn, Self

import torch
import torch.distributed as dist

from spectrum.cli import print_error
from spectrum.executors.base import EngineConfig
from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent, execute_run
from spectrum.runs.execute import RunStopped, deterministic, train_and_test
from spectrum.runs.store import Store
from spectrum.training import Diverged
from spectrum.training.distributed import RankZeroFailed, broadcast, receive_broadcast

__all__ = [
    "DistributedExecutor",
    "RanksOutOfStep",
    "TorchrunEngine",
    "open_torchrun",
    "run_on_rank_zero",
]

_ENDS_ON_ALL_RANKS = {"done", "diverged", "stopped"}


class RanksOutOfStep(RuntimeError):
    """A run has ended on some ranks only, so they can't train the next run together."""


def run_on_rank_zero(command: Callable[[], int]) -> NoReturn:
    """Execute a command on rank 0, then end this process with its exit status.

    The other ranks train the runs that rank 0 broadcasts, and end too.

    Args:
        command: executes the command and returns its exit status.
    """
    _init_process_group()
    if dist.get_rank():
        _exit_now(_execute_broadcast_runs())
    try:
        status = command()
    except RanksOutOfStep as error:
        advice = "the same command continues from the run's last checkpoint"
        _exit_now(print_error(f"error: {error}; {advice}", 1))
    if status != 130:  # after an interrupt the other ranks have ended too and wait for no broadcast
        broadcast(None)
        dist.destroy_process_group()
    _exit_now(status)


def _exit_now(status: int) -> NoReturn:
    """End this process without the interpreter's own clean-up.

    A thread of it may be blocked in a collective operation, and threads of torch that are still
    busy when the interpreter cleans up would abort the process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _init_process_group() -> None:
    """Connect all ranks: NCCL between GPUs, Gloo for objects and tensors on the CPU."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # Ranks may wait very long for rank 0 to plan. A rank that dies is noticed without a timeout.
    dist.init_process_group(backend, timeout=timedelta(days=7))


def _execute_broadcast_runs() -> int:
    """Train the runs that rank 0 broadcasts until it broadcasts None; return the exit status."""
    try:
        while (message := receive_broadcast()) is not None:
            run, store, device_type, threads = message
            torch.set_num_threads(threads)
            device = _rank_device(device_type)
            with suppress(Diverged, RankZeroFailed), deterministic():
                train_and_test(RunConfig(**run), Store(store), device, lambda _: None)
        dist.destroy_process_group()
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return print_error(f"error: rank {os.environ['RANK']} has ended: {reason}", 1)


@dataclass(frozen=True)
class TorchrunEngine:
    """All processes of ``torchrun`` as one engine.

    Attributes:
        device: ``cpu`` or ``cuda``; with ``cuda`` each process has a GPU of its own.
        threads: the CPU threads of each process.
    """

    device: str
    threads: int

    def make_executor(self, store: Store) -> DistributedExecutor:
        """Make an executor, to be entered as a context on rank 0."""
        return DistributedExecutor(store, self.device, self.threads)


def open_torchrun(config: EngineConfig) -> TorchrunEngine:
    """Open the engine of a study or search that ``torchrun`` has started.

    Raises:
        ValueError: this machine has fewer GPUs than processes, or the engine, device or workers
            are given values that ``torchrun`` doesn't allow.
    """
    if config.engine != "local":
        raise ValueError(f"engine (={config.engine!r}) must be 'local' under torchrun")
    if config.workers not in (None, 1):
        raise ValueError(
            f"workers (={config.workers}) must not be given under torchrun, where all processes "
            "train the same run"
        )
    gpus, processes = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
    device = config.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device (={device!r}) must be auto, cpu or cuda under torchrun")
    if device == "cuda" and gpus < processes:
        raise ValueError(
            f"device (={config.device!r}) must have a GPU for each of the {processes} processes "
            f"that torchrun starts here, not {gpus}"
        )
    return TorchrunEngine(device, config.threads)


def _rank_device(device_type: str) -> str:
    """The device of this process, which becomes the current one."""
    if device_type == "cpu":
        return device_type
    local_rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(local_rank)
    return f"cuda:{local_rank}"


class DistributedExecutor:
    """Executes one run at a time on all processes of ``torchrun``. Used as a context on rank 0.

    A thread of rank 0 takes its part in the training.

    Args:
        store: where the files of runs go.
        device: ``cpu`` or ``cuda``; with ``cuda`` each process has a GPU of its own.
        threads: the CPU threads of each process.
    """

    workers = 1

    def __init__(self, store: Store, device: str, threads: int) -> None:
        self._store = store
        self._device = device
        self._threads = threads
        self._queue: queue.Queue[RunConfig | None] = queue.Queue()
        self._events: queue.Queue[RunEvent] = queue.Queue()
        self._to_stop: set[str] = set()
        self._thread = threading.Thread(target=self._execute_queue, daemon=True)
        self.unfinished = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queue.put(None)  # if a run is unfinished, it ends with this process

    def submit(self, run: RunConfig) -> None:
        """Execute a run after those that were submitted before it."""
        self.unfinished += 1
        self._to_stop.discard(run.id)
        self._queue.put(run)

    def stop(self, run_id: str) -> None:
        """Stop a run at the end of its current epoch and keep its checkpoint.

        It finishes with the status ``stopped``, unless it is already in its last epoch.
        """
        self._to_stop.add(run_id)

    def next_event(self, timeout: float | None = None) -> RunEvent | None:
        """Wait for the next event of any run; None after ``timeout`` seconds without one.

        Raises:
            RanksOutOfStep: a run has ended on some ranks only.
        """
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        if event.kind == "finished":
            self.unfinished -= 1
            if event.values["status"] not in _ENDS_ON_ALL_RANKS:
                reason = event.values["error"]
                if "onnection" in reason:  # Gloo's and NCCL's messages, which are long
                    raise RanksOutOfStep("a process that trains the run has ended")
                raise RanksOutOfStep(f"the run has ended in one of the processes only ({reason})")
        return event

    def _execute_queue(self) -> None:
        torch.set_num_threads(self._threads)
        while (run := self._queue.get()) is not None:

            def report(event: RunEvent, epochs: int = run.recipe.epochs) -> None:
                self._events.put(event)
                stops = event.kind == "evaluation" and event.run_id in self._to_stop
                if stops and event.values["epoch"] < epochs:
                    raise RunStopped

            execute_run(run, self._store, _rank_device(self._device), report)
