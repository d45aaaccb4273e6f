"""What the commands share: where they print, and whether others execute them as well."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["is_shared", "make_console", "say"]


def is_shared() -> bool:
    """Whether ``torchrun`` has started this process, with others or alone."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def say(message: str, status: int) -> int:
    """Write a line to standard error; gives the exit status back."""
    print(message, file=sys.stderr)
    return status


def make_console() -> Console:
    """Standard output, 120 columns wide where it is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120  # a file or a pipe has no width to keep to
    return console
