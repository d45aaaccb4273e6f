"""Commands in processes that tests kill, forked from one that has imported what they need."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import spectrum.search.outputs
import spectrum.study.outputs

__all__ = ["FORKED", "start_forked"]

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


def start_forked(module: str, log: Path, *arguments: object) -> BaseProcess:
    """Start a command without its figures, which take longest.

    Args:
        module: the package of the command, such as ``"spectrum.study"``.
        log: the file that its standard output and standard error go to.
        arguments: the command line.
    """
    process = FORKED.Process(target=_call, args=(module, log, [*map(str, arguments)]))
    process.start()
    return process


def _call(module: str, log: Path, arguments: list[str]) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # A shell that starts the tests in the background makes them ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    spectrum.study.outputs._draw = lambda *_: None
    spectrum.search.outputs._draw = lambda *_: {}
    sys.argv = [module, *arguments]
    sys.exit(importlib.import_module(f"{module}.__main__").main())
