"""What the commands share: the console, error messages, and checks of how they were started.

A command configures runs; it imports torch only when their work starts.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["make_console", "print_error", "started_by_torchrun", "warn_of_other_spectrum"]

_SUMMARY = "How many channel-space segments"
"""The beginning of this distribution's summary, as pyproject.toml has it."""


def started_by_torchrun() -> bool:
    """Whether ``torchrun`` has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def warn_of_other_spectrum() -> None:
    """Print a warning if the unrelated distribution ``spectrum`` is installed.

    This package is the distribution ``segment-spectrum``. Both install into the folder
    ``spectrum``, so each overwrites files of the other.
    """
    from importlib.metadata import distributions

    for other in distributions(name="spectrum"):
        metadata = other.read_text("METADATA") or other.read_text("PKG-INFO") or ""
        # Early editable installs of this package had that name too.
        if metadata and _SUMMARY not in metadata:
            print(
                'warning: the distribution "spectrum" is another package, which overwrites files '
                "of this one; run pip uninstall spectrum, then reinstall segment-spectrum",
                file=sys.stderr,
            )
            return


def print_error(message: str, status: int) -> int:
    """Print a line to standard error and return the exit status."""
    print(message, file=sys.stderr)
    return status


def make_console() -> Console:
    """A console for standard output, 120 columns wide if that is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120  # instead of the 80 that rich assumes
    return console
