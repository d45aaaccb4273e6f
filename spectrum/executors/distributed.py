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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from filelock import Timeout

from spectrum.errors import FieldError
from spectrum.executors.base import (
    EngineConfig,
    Executor,
    Output,
    Worker,
    execute_until_stopped,
)
from spectrum.runs.config import RunConfig
from spectrum.runs.execute import deterministic, status_and_reason, train_and_test
from spectrum.runs.store import Store
from spectrum.terminal import print_error
from spectrum.training import Diverged
from spectrum.training.distributed import RankZeroFailed, broadcast

_ENDS_ON_ALL_RANKS = {"done", "diverged", "stopped"}


class RanksOutOfStep(RuntimeError):
    """A run has ended on some ranks only, so they can't train the next run together."""


def run_on_rank_zero(command: Callable[[], int]) -> NoReturn:
    """Execute a command on rank 0, then end this process with its exit status.

    The other ranks train the runs that rank 0 broadcasts, and end too.

    Args:
        command: executes the command and returns its exit status.
    """
    with _exit_on_failure():
        _init_process_group()
        if dist.get_rank():
            _execute_broadcast_runs()
            _exit_now(0)
    try:
        status = command()
    except RanksOutOfStep as error:
        advice = "the same command continues from the run's last checkpoint"
        with suppress(OSError):  # nobody may read it any longer
            print_error(f"error: {error}; {advice}", 1)
        _exit_now(1)
    if status != 130:  # after an interrupt the other ranks have ended too and wait for no broadcast
        broadcast()
        dist.destroy_process_group()
    _exit_now(status)


def _exit_now(status: int) -> NoReturn:
    """End this process without the interpreter's own clean-up.

    A thread of it may be blocked in a collective operation, and threads of torch that are still
    busy when the interpreter cleans up would abort the process.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(status)


def _init_process_group() -> None:
    """Connect all ranks: NCCL between GPUs, Gloo for objects and tensors on the CPU."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # Ranks may wait very long for rank 0 to plan. A rank that dies is noticed without a timeout.
    dist.init_process_group(backend, timeout=timedelta(days=7))


@contextmanager
def _exit_on_failure() -> Iterator[None]:
    """End this process if it is interrupted, or with one line if an exception is raised."""
    try:
        yield
    except KeyboardInterrupt:
        _exit_now(130)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        with suppress(OSError):  # nobody may read it any longer
            print_error(f"error: rank {os.environ['RANK']} has ended: {reason}", 1)
        _exit_now(1)


def _execute_broadcast_runs() -> None:
    """Train the runs that rank 0 broadcasts until it broadcasts None."""
    while (message := broadcast()) is not None:
        run, store, device_type, threads = message
        torch.set_num_threads(threads)
        device = _rank_device(device_type)
        with suppress(Diverged, RankZeroFailed), deterministic():
            train_and_test(RunConfig(**run), Store(store), device, lambda _: None)
    dist.destroy_process_group()


@dataclass(frozen=True)
class TorchrunEngine:
    """All processes of ``torchrun`` as one engine.

    Attributes:
        device: ``cpu`` or ``cuda``; with ``cuda`` each process has a GPU of its own.
        threads: the CPU threads of each process.
        workers: 1, since all processes train the same run.
    """

    device: str
    threads: int
    workers: int = 1

    def make_executor(self, store: Store, retry_writes: bool = False) -> DistributedExecutor:
        """Make an executor, to be entered as a context on rank 0.

        It retries nothing: a run that fails on rank 0 may go on in the other processes.
        """
        return DistributedExecutor(self, store)


def open_torchrun(config: EngineConfig) -> TorchrunEngine:
    """Open the engine of a study or search that ``torchrun`` has started.

    Raises:
        ValueError: this machine has fewer GPUs than processes, or the engine, device or workers
            are given values that ``torchrun`` doesn't allow.
    """
    if config.engine != "local":
        raise FieldError("engine", config.engine, "must be 'local' under torchrun")
    if config.workers not in (None, 1):
        raise FieldError(
            "workers",
            config.workers,
            "must not be given under torchrun, where all processes train the same run",
        )
    gpus, processes = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
    device = config.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device not in ("cpu", "cuda"):
        raise FieldError("device", device, "must be auto, cpu or cuda under torchrun")
    if device == "cuda" and gpus < processes:
        raise FieldError(
            "device",
            config.device,
            f"must have a GPU for each of the {processes} processes that torchrun starts here, not "
            f"{gpus}",
        )
    return TorchrunEngine(device, config.threads)


def _rank_device(device_type: str) -> str:
    """The device of this process, which becomes the current one."""
    if device_type == "cpu":
        return device_type
    local_rank = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(local_rank)
    return f"cuda:{local_rank}"


class DistributedExecutor(Executor[TorchrunEngine, "_RankZero"]):
    """Executes one run at a time on all processes of ``torchrun``. Used as a context on rank 0.

    It starts no process. An unfinished run ends with the command.
    """

    def _new_worker(self) -> _RankZero:
        return _RankZero(self._engine, self._store, self._output)

    def _start(self, run: RunConfig, worker: _RankZero | None) -> None:
        """Have a run executed, after a look whether its files can be written.

        What fails here fails before the other ranks have begun, so they stay in step.
        """
        with suppress(Timeout), self._store.lock(run.id).acquire(blocking=False):
            if self._store.result(run.id) is None:
                self._store.begin(run.id, run.stored())
                self._store.open_curve(run.id).close()
        super()._start(run, worker)

    def _fail(self, run: RunConfig, error: Exception) -> None:
        status, reason = status_and_reason(error)
        super()._finish(run, {"status": status, "error": reason})

    def _finish(self, run: RunConfig, result: dict[str, Any], failure: str = "") -> None:
        if result["status"] not in _ENDS_ON_ALL_RANKS:
            reason = result["error"]
            if "onnection" in reason:  # Gloo's and NCCL's messages, which are long
                raise RanksOutOfStep("a process that trains the run has ended")
            raise RanksOutOfStep(f"the run has ended in one of the processes only ({reason})")
        super()._finish(run, result, failure)


class _RankZero(Worker):
    """A thread of rank 0, which takes its part in the training of each run.

    Args:
        engine: its device and threads are used.
        store: where the files of runs go.
        output: receives its messages.
    """

    def __init__(self, engine: TorchrunEngine, store: Store, output: Output) -> None:
        super().__init__(output)
        self._engine = engine
        self._store = store
        self._runs: queue.Queue[RunConfig | None] = queue.Queue()
        self._to_stop: set[str] = set()
        self._listener.start()

    def _listen(self) -> None:
        torch.set_num_threads(self._engine.threads)
        device = _rank_device(self._engine.device)
        while (run := self._runs.get()) is not None:
            execute_until_stopped(run, self._store, device, self._send, self._to_stop)

    def execute(self, run: RunConfig) -> None:
        self._to_stop.discard(run.id)
        self._runs.put(run)

    def stop(self, run_id: str) -> None:
        self._to_stop.add(run_id)

    def end(self) -> None:
        self._runs.put(None)
