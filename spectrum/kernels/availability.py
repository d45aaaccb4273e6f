"""Whether compiled kernels can run in this process. Where they can't, torch's operators run."""

from __future__ import annotations

import logging
from functools import cache

_LOG = logging.getLogger(__name__)
_given_up: list[Exception] = []


class KernelMissing(Exception):
    """A kernel can't be compiled on this machine."""


def can_run_kernels() -> bool:
    """Whether Numba can be imported, and has compiled every kernel so far.

    A process in which one kernel couldn't be compiled tries no other.
    """
    return not _given_up and _can_import()


def give_up(error: Exception) -> None:
    """Take note that kernels can't run in this process, and say so once."""
    if not _given_up:
        reason = next(iter(str(error).splitlines()), "")[:200]
        _LOG.warning(
            "kernels can't be compiled here, torch's operators run instead: %s: %s",
            type(error).__name__,
            reason,
        )
    _given_up.append(error)


@cache
def _can_import() -> bool:
    try:
        from spectrum.kernels import depthwise, norm, segments  # noqa: F401
    except Exception as error:  # a broken Numba may raise anything
        give_up(error)
        return False
    return True
