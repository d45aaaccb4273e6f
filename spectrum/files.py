"""Atomic file writes, and the user's cache folder."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

_LOG = logging.getLogger(__name__)


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file so that ``path`` either holds the whole new content or is left as it was.

    The content goes to a temporary file beside ``path``, which is flushed to the disk and renamed.

    Args:
        path: the file; its folder must exist.
        write: writes the content to the open file that it is given.

    Raises:
        OSError: the file can't be written; the error names ``path``.
    """
    # The process id keeps two writers apart. What a killed process left behind is overwritten.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_json(path: Path, values: Mapping[str, Any] | Sequence[Any]) -> None:
    """Writes plain values as indented JSON, atomically."""
    text = json.dumps(values, indent=2, allow_nan=True) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def cache_folder(*parts: str) -> Path | None:
    """Returns the path of a folder in the user's cache: ``$XDG_CACHE_HOME/spectrum/<parts>``.

    The folder need not exist. Everything in it may be deleted at any time.

    Returns:
        The path, or None if the user has no cache folder.
    """
    configured = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # The XDG standard says that a relative path is ignored.
        folder = configured if configured.is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        _LOG.info("nothing is cached: %s", error)
        return None
    return folder.joinpath("spectrum", *parts)


def write_cached(path: Path, write: Callable[[BinaryIO], object]) -> bool:
    """Writes a file of the cache atomically. A failure is logged and not raised.

    Args:
        path: the file; its folder is made.
        write: writes the content to the open file that it is given.

    Returns:
        Whether the file was written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, write)
    except OSError as error:
        _LOG.info("%s can't be cached: %s", path, error)
        return False
    return True
