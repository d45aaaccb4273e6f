"""Timing Python programs in processes of their own, from start to end."""

from __future__ import annotations

import subprocess
import sys
import time

__all__ = ["ProgramFailed", "time_program"]


class ProgramFailed(Exception):
    """A timed program failed, or did something else than it was asked to."""


def time_program(*arguments: str) -> float:
    """The seconds that a Python program takes.

    Args:
        arguments: the arguments of the interpreter, ``"-m"`` and a module or a file, followed by
            those of the program.

    Raises:
        ProgramFailed: the program's exit status isn't 0. The message ends with the last line of
            its standard error.
    """
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        name = arguments[1] if arguments[0] == "-m" else arguments[0]
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ProgramFailed(f"{name} ended with status {done.returncode}: {last}")
    return seconds
