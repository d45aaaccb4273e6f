"""Commands in processes that tests kill, forked from one that has imported what they need."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import spectrum.search.outputs
import spectrum.study.outputs

__all__ = ["FORKED", "is_worker", "start_forked", "wait_for", "workers_of"]

FORKED = get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        "pytest",
        "numba",
        "sklearn.datasets",
        "tests.forked",
        "spectrum.study.study",
        "spectrum.search.search",
    ]
)


def start_forked(
    module: str, log: Path, *arguments: object, before: Callable[[], None] | None = None
) -> BaseProcess:
    """Start a command without its figures, which take longest.

    Args:
        module: the package of the command, such as ``"spectrum.study"``.
        log: the file that its standard output and standard error go to.
        arguments: the command line.
        before: called in the process before the command.
    """
    process = FORKED.Process(target=_call, args=(module, log, [*map(str, arguments)], before))
    process.start()
    return process


def _call(module: str, log: Path, arguments: list[str], before: Callable[[], None] | None) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # A shell that starts the tests in the background makes them ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    spectrum.study.outputs._draw = lambda *_: None
    spectrum.search.outputs._draw = lambda *_: {}
    if before:
        before()
    sys.argv = [module, *arguments]
    sys.exit(importlib.import_module(f"{module}.__main__").main())


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen"
        time.sleep(0.01)


def workers_of(process: int) -> list[int]:
    """The living processes that execute runs for another one, the oldest first."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in children if is_worker(int(child))]


def is_worker(process: int) -> bool:
    """Whether a process executes runs, and is alive."""
    try:
        return b"spectrum.executors.local_worker" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
