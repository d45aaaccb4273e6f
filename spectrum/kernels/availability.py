"""What ends the use of compiled kernels in this process: one of them can't be compiled."""

from __future__ import annotations

import logging

from spectrum.errors import printable

_LOG = logging.getLogger(__name__)
_failures: list[Exception] = []


class KernelMissing(Exception):
    """A kernel can't be compiled on this machine."""


def give_up(error: Exception) -> None:
    """Take note that kernels can't run in this process, and say so once."""
    if not _failures:
        reason = printable(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"[:200])
        _LOG.warning("kernels can't be compiled here, torch's operators run instead: %s", reason)
    _failures.append(error)


def has_given_up() -> bool:
    """Whether a kernel couldn't be compiled. No other is tried then."""
    return bool(_failures)
