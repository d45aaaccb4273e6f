"""Files that are there whole or not at all, and the state of a training among them."""

from __future__ import annotations

import io
import logging
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

__all__ = ["load_checkpoint", "save_checkpoint", "write_whole"]

log = logging.getLogger(__name__)


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that ``path`` holds all of it or what it held before, whatever happens.

    Args:
        path: where the file shall be; its folder is there.
        write: writes the content to the open file it is given.

    Raises:
        OSError: it can't be written; the error names ``path``.
    """
    # The process's number keeps apart two writers; a leftover of a killed one is overwritten.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a training, whole."""
    # By way of memory, as torch hides behind an error of its own that a disk is full.
    content = io.BytesIO()
    torch.save(state, content)
    write_whole(path, lambda file: file.write(content.getbuffer()))


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state of a training, or None where there is none that can be read.

    A damaged file is logged, as the training then starts anew. No code in it is ever run.

    Raises:
        OSError: there is a file that can't be read at all.
    """
    try:
        content = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            damaged = zipfile.ZipFile(content).testzip()  # torch's files are archives with sums
            if damaged is not None:
                raise ValueError(f"the sum of {damaged} is wrong")
            content.seek(0)
            state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes of any kind can lead torch to any exception
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        log.warning("%s is damaged, training starts anew: %s", path, reason)
        return None
    return state
