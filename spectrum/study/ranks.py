"""One run after another on all the processes that ``torchrun`` has started.

The first process leads: it executes the command, hands out runs and writes the store. The others
follow: they have a share in every run, and read and write nothing.
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

from spectrum.command import say
from spectrum.study.events import Event, execute_one
from spectrum.study.grid import GridConfig
from spectrum.study.plan import RunConfig
from spectrum.study.run import REPEATABLE, Stopped, take_part
from spectrum.study.store import Store
from spectrum.training import Diverged
from spectrum.training.processes import Abandoned, announce, hear

__all__ = ["Broken", "Ranks", "Shared", "open_shared", "share"]

_TOGETHER = {"done", "diverged", "stopped"}  # how a run ends in all processes at once


class Broken(RuntimeError):
    """The processes are no longer at the same place of the same run."""


def share(command: Callable[[], int]) -> int:
    """Execute a command in the first process, which leads, and follow it in the others.

    Args:
        command: gives an exit status.

    Returns:
        The exit status of this process.
    """
    _join()
    if dist.get_rank():
        return _follow()
    try:
        status = command()
    except Broken as error:
        _leave(say(f"error: {error}; the same command goes on from its last epoch", 1))
    if status == 130:  # nobody listens any longer
        _leave(status)
    announce(None)
    dist.destroy_process_group()
    return status


def _leave(status: int) -> NoReturn:
    """End this process at once: a thread that waits for the others can't be ended."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _join() -> None:
    """Meet the other processes; small things travel through memory, gradients between GPUs."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # A process that dies is noticed at once; one that waits for the first one's plans is not dead.
    dist.init_process_group(backend, timeout=timedelta(days=7))


def _follow() -> int:
    """Have a share in the runs that the first process hands out, until there are no more."""
    try:
        while (told := hear()) is not None:
            run, store, device, threads = told
            torch.set_num_threads(threads)
            with suppress(Diverged, Abandoned), REPEATABLE():
                take_part(RunConfig(**run), Store(store), _own(device), lambda _: None)
        dist.destroy_process_group()
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return say(f"error: process {os.environ['RANK']} of torchrun's ended: {reason}", 1)


@dataclass(frozen=True)
class Shared:
    """All processes as one engine, which executes one run at a time.

    Attributes:
        device: the kind that each process has one of.
        threads: CPU threads of each process.
    """

    device: str
    threads: int

    def crew(self, store: Store) -> Ranks:
        """The processes, to be entered as a context in the first."""
        return Ranks(store, self.device, self.threads)


def open_shared(config: GridConfig) -> Shared:
    """The engine of a study or search that ``torchrun`` has started.

    Raises:
        ValueError: there are fewer devices than processes on this machine, or one can't be
            chosen.
    """
    if config.engine != "local":
        raise ValueError(f"engine (={config.engine!r}) must be 'local' under torchrun")
    if config.workers not in (None, 1):
        raise ValueError(
            f"workers (={config.workers}) must not be given under torchrun, all of whose processes "
            "train one run"
        )
    gpus, wanted = torch.cuda.device_count(), int(os.environ["LOCAL_WORLD_SIZE"])
    device = config.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device (={device!r}) must be auto, cpu or cuda under torchrun")
    if device == "cuda" and gpus < wanted:
        raise ValueError(
            f"device (={config.device!r}) must have a GPU for each of the {wanted} processes that "
            f"torchrun starts here, not {gpus}"
        )
    return Shared(device, config.threads)


def _own(device: str) -> str:
    """This process's device."""
    if device == "cpu":
        return device
    number = int(os.environ["LOCAL_RANK"])
    torch.cuda.set_device(number)
    return f"cuda:{number}"


class Ranks:
    """What ``Team`` is, of all of torchrun's processes; used as a context in the first.

    Args:
        store: where the files of runs go.
        device: the kind that each process has one of.
        threads: CPU threads of each process.
    """

    workers = 1

    def __init__(self, store: Store, device: str, threads: int) -> None:
        self._store = store
        self._device = device
        self._threads = threads
        self._waiting: queue.Queue[RunConfig | None] = queue.Queue()
        self._events: queue.Queue[Event] = queue.Queue()
        self._unwanted: set[str] = set()
        self._leader = threading.Thread(target=self._lead, daemon=True)
        self.unfinished = 0

    def __enter__(self) -> Self:
        self._leader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.put(None)  # an unfinished run ends with this process

    def submit(self, run: RunConfig) -> None:
        """Execute a run once those before it are finished."""
        self.unfinished += 1
        self._unwanted.discard(run.id)
        self._waiting.put(run)

    def stop(self, run_id: str) -> None:
        """Ask for a run to be stopped at the end of its epoch, with its checkpoint."""
        self._unwanted.add(run_id)

    def next_event(self, timeout: float | None = None) -> Event | None:
        """The next thing that happened to a run; None when ``timeout`` seconds have passed.

        Raises:
            Broken: a run went wrong in one of the processes alone, so that none can go on.
        """
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        if event.kind == "finished":
            self.unfinished -= 1
            if event.values["status"] not in _TOGETHER:
                reason = event.values["error"]
                if "onnection" in reason:  # as the libraries between processes say it, at length
                    raise Broken("a process that has a share in the run has ended")
                raise Broken(f"a run ended in one of the processes ({reason})")
        return event

    def _lead(self) -> None:
        torch.set_num_threads(self._threads)
        while (run := self._waiting.get()) is not None:

            def report(event: Event, last: int = run.recipe.epochs) -> None:
                self._events.put(event)
                stops = event.kind == "evaluation" and event.run_id in self._unwanted
                if stops and event.values["epoch"] < last:
                    raise Stopped

            execute_one(run, self._store, _own(self._device), report)
