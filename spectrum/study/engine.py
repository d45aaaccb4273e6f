"""Where runs execute: in this process, or in local processes that are handed one run at a time."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import torch

import spectrum
from spectrum.study.plan import RunConfig
from spectrum.study.run import attempt
from spectrum.study.store import Store

__all__ = ["Event", "Report", "available_devices", "execute_runs"]

Kind: TypeAlias = Literal["started", "evaluation", "note", "finished"]


@dataclass(frozen=True)
class Event:
    """Something that happened to a run.

    Attributes:
        kind: ``started``, ``evaluation`` (a line of the curve), ``note`` (``text``) or
            ``finished`` (the result).
        run_id: the run.
        values: what the kind brings.
    """

    kind: Kind
    run_id: str
    values: dict[str, Any] = field(default_factory=dict)


Report: TypeAlias = Callable[[Event], None]


def available_devices(device: str) -> list[str]:
    """The devices that ``device`` stands for: ``auto`` and ``cuda`` are all GPUs, if any.

    Raises:
        ValueError: this machine doesn't have it.
    """
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if device == "auto":
        return gpus or ["cpu"]
    if device == "cuda" and gpus:
        return gpus
    if device == "cpu" or device in gpus:
        return [device]
    raise ValueError(f"device (={device!r}) must be one of auto, {', '.join(['cpu', *gpus])} here")


def execute_runs(
    runs: Sequence[RunConfig],
    store: Store,
    *,
    devices: Sequence[str],
    workers: int | None,
    threads: int,
    report: Report,
) -> None:
    """Execute every run once and report what happens; failures are results, not exceptions.

    The number of workers changes no result: each run has ``threads`` threads of its own.

    Args:
        runs: different ones, in the order to begin them.
        store: where their files go.
        devices: shared out among the workers in turn.
        workers: processes; 1 executes in this process, None is one a core, or one a GPU.
        threads: CPU threads of a run.
        report: called in this process with every event.
    """
    if workers is None:
        workers = max(_cores() // threads, 1) if devices[0] == "cpu" else len(devices)
    workers = min(workers, len(runs))
    if workers <= 1:
        _execute_here(runs, store, devices[0], threads, report)
    else:
        _execute_in_processes(runs, store, devices, workers, threads, report)


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _execute_here(
    runs: Sequence[RunConfig], store: Store, device: str, threads: int, report: Report
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for run in runs:
            execute_one(run, store, device, report)
    finally:
        torch.set_num_threads(before)


def execute_one(run: RunConfig, store: Store, device: str, report: Report) -> None:
    """Execute a run in this process and report all that happens, what is logged included."""
    report(Event("started", run.id))
    with _logged(lambda text: report(Event("note", run.id, {"text": text}))):
        result = attempt(
            run, store, device, lambda line: report(Event("evaluation", run.id, dict(line)))
        )
    report(Event("finished", run.id, result))


@contextmanager
def _logged(say: Callable[[str], None]) -> Iterator[None]:
    """Hand the package's warnings to ``say`` instead of the standard error."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    logger, handler = logging.getLogger("spectrum"), Handler(logging.WARNING)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


def _environment(threads: int) -> dict[str, str]:
    """This process's environment, with this package first and BLAS kept to its threads."""
    package = str(Path(spectrum.__file__).parents[1])
    others = os.environ.get("PYTHONPATH")
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([package, others] if others else [package]),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
    }


def _paths() -> list[str]:
    """Where this process imports from; an empty entry is its current folder."""
    return [os.path.abspath(path) for path in sys.path]


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
            [*program, str(store.root), device, str(threads), json.dumps(_paths())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
            env=_environment(threads),
        )
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self.reader.start()

    def _read(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                if line.endswith("\n"):  # what a killed worker left unfinished isn't an event
                    self.inbox.put((self, line))
        self.inbox.put((self, ""))

    def send(self, run: RunConfig) -> None:
        self.run = run
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # of a dead worker the end of its output tells
            self.process.stdin.write(run.model_dump_json() + "\n")
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


def _execute_in_processes(
    runs: Sequence[RunConfig],
    store: Store,
    devices: Sequence[str],
    workers: int,
    threads: int,
    report: Report,
) -> None:
    waiting = list(reversed(runs))
    inbox: queue.Queue[tuple[_Worker, str]] = queue.Queue()
    team: list[_Worker] = []

    def hire(device: str) -> None:
        team.append(_Worker(store, device, threads, inbox))
        team[-1].send(waiting.pop())

    try:
        for i in range(workers):
            hire(devices[i % len(devices)])
        unfinished = len(runs)
        while unfinished:
            worker, line = inbox.get()
            if line:
                event = Event(**json.loads(line))
                report(event)
                if event.kind != "finished":
                    continue
            elif worker.run is not None:
                outcome = {"status": "failed", "error": worker.cause_of_death()}
                report(Event("finished", worker.run.id, outcome))
            else:
                continue
            unfinished -= 1
            worker.run = None
            # After a failure that nobody foresaw a GPU's context may be of no more use.
            usable = line and event.values["status"] != "failed"
            if waiting and usable:
                worker.send(waiting.pop())
            elif waiting:
                worker.stop()
                hire(worker.device)
    finally:
        for worker in team:
            worker.stop()
