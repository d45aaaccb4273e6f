"""Python programs as processes of their own, timed from their start to their end."""

from __future__ import annotations

import subprocess
import sys
import time

__all__ = ["Failed", "time_program"]


class Failed(Exception):
    """A program that was to be timed didn't do what it was asked."""


def time_program(*arguments: str) -> float:
    """The seconds that a Python program takes.

    Args:
        arguments: of the interpreter: ``"-m"`` and a module, or a file; then the program's own.

    Raises:
        Failed: its status isn't 0; the message ends with the last line of its standard error.
    """
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        name = arguments[1] if arguments[0] == "-m" else arguments[0]
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Failed(f"{name} ended with status {done.returncode}: {last}")
    return seconds
