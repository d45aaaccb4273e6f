"""Commands in processes to kill, forked from one that has imported already what training takes."""

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
        *("pytest", "numba", "sklearn.datasets", "tests.forked"),
        *("spectrum.study.study", "spectrum.search.search"),
    ]
)


def start_forked(module: str, said: Path, *arguments: object) -> BaseProcess:
    """Start a command, ``"spectrum.study"``, say; all that it says goes to a file.

    It leaves out the figures, which take longest.
    """
    process = FORKED.Process(target=_call, args=(module, said, [*map(str, arguments)]))
    process.start()
    return process


def _call(module: str, said: Path, arguments: list[str]) -> None:
    with said.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # A shell that starts the tests in the background makes them ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    spectrum.study.outputs._draw = lambda *_: None
    spectrum.search.outputs._draw = lambda *_: {}
    sys.argv = [module, *arguments]
    sys.exit(importlib.import_module(f"{module}.__main__").main())
