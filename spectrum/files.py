"""Paths that users give, atomic writes, files with checksums, and the user's cache folder."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from spectrum.errors import DamagedFile

_LOG = logging.getLogger(__name__)
_CHECKSUM = "sha256"
_LONGEST_PATH = 4095  # bytes, as on Linux


def as_path(path: Path | str) -> Path:
    """A path that a user gave, with a leading ``~`` or ``~name`` replaced by the home folder.

    Raises:
        ValueError: there is no such user, or it can't be the path of a file.
    """
    if "\0" in str(path) or len(os.fsencode(str(path))) > _LONGEST_PATH:
        limit = f"must be a path of at most {_LONGEST_PATH} bytes, without the character of value 0"
        raise ValueError(limit)
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError("must not begin with ~ and a name that isn't a user's") from None


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


def read_file(path: Path, most: int | None = None) -> bytes:
    """The content of a regular file. A pipe or device is refused at once, without reading it.

    Args:
        path: the file.
        most: the bytes that it may have; None for any number.

    Raises:
        OSError: there is no such file, it is too large, or it can't be read.
    """
    with open(path, "rb", opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
        return file.read()


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def write_checked_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes plain values as ``write_json`` does, with a checksum as a further key.

    ``read_checked_json`` finds out if anything in the file has been changed.
    """
    content = checked_json(values)
    write_atomic(path, lambda file: file.write(content))


def checked_json(values: Mapping[str, Any]) -> bytes:
    """The content of a file of ``write_checked_json``."""
    text = json.dumps({**values, _CHECKSUM: _json_digest(values)}, indent=2)
    return f"{text}\n".encode()


def read_checked_json(path: Path, *, unchecked: bool = False) -> dict[str, Any]:
    """Reads plain values from a file that ``write_checked_json`` wrote.

    Args:
        path: the file.
        unchecked: whether a file without a checksum is read too. Files were written without one
            before checksums existed.

    Returns:
        The values, without the checksum.

    Raises:
        FileNotFoundError: there is no such file.
        NotADirectoryError: its folder is a file.
        DamagedFile: it can't be read, holds something else, or isn't what was written.
    """
    try:
        values = json.loads(read_file(path))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise DamagedFile(path, f"it can't be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, f"it isn't JSON ({str(error)[:100]})") from error
    if not isinstance(values, dict):
        raise DamagedFile(path, f"it holds {type(values).__name__}, not fields by name")
    digest = values.pop(_CHECKSUM, None)
    if digest != _json_digest(values) and not (digest is None and unchecked):
        raise DamagedFile(path, "its checksum is that of another content")
    return values


def _json_digest(values: Mapping[str, Any]) -> str:
    # Numbers that JSON writes and reads back are the same text again.
    text = json.dumps(json.loads(json.dumps(values)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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
    return folder.joinpath("spectrum", *parts) if folder.is_absolute() else None


def check_private(path: Path) -> None:
    """Checks that only the user can have written a file or folder of the user's cache.

    The folders that it is in are checked too, up to ``cache_folder()``. What doesn't exist passes.

    Raises:
        OSError: one of them is a link, belongs to another user or can be written by others, or a
            folder is a file. The error names it.
    """
    root = cache_folder()
    for part in (
        path,
        *(parent for parent in path.parents if root and parent.is_relative_to(root)),
    ):
        try:
            status = part.lstat()
        except FileNotFoundError:
            continue
        problem = ""
        if stat.S_ISLNK(status.st_mode):
            problem = "is a link"
        elif os.name == "posix" and status.st_uid != os.geteuid():
            problem = "belongs to another user"
        elif os.name == "posix" and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            problem = "can be written by other users"
        if problem:
            raise OSError(errno.EPERM, problem, str(part))


def write_cached(path: Path, write: Callable[[BinaryIO], object]) -> bool:
    """Writes a file of the cache atomically. A failure is logged and not raised.

    The file, and the folders that are made for it, are for the user alone.

    Args:
        path: the file; its folder is made.
        write: writes the content to the open file that it is given.

    Returns:
        Whether the file was written.
    """

    def write_private(file: BinaryIO) -> None:
        with suppress(OSError):  # some file systems have no permissions
            os.chmod(file.name, 0o600)
        write(file)

    try:
        for folder in reversed(path.parents):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, exist_ok=True)
        write_atomic(path, write_private)
    except OSError as error:
        _LOG.info("%s can't be cached: %s", path, error)
        return False
    return True
