"""The checkpoint: the state of a training run in a file."""

from __future__ import annotations

import io
import logging
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from spectrum.files import read_file, write_atomic

log = logging.getLogger(__name__)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a training run atomically."""
    # The state goes through memory, because torch.save hides a full disk behind its own error.
    content = io.BytesIO()
    torch.save(state, content)
    write_atomic(path, lambda file: file.write(content.getbuffer()))


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read the state of a training run.

    Code in the file is never run. A damaged file is logged.

    Returns:
        The state, or None if there is no file or it is damaged, so that training starts anew.

    Raises:
        OSError: the file exists and can't be opened.
    """
    try:
        content = io.BytesIO(read_file(path))
    except FileNotFoundError:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            damaged = zipfile.ZipFile(content).testzip()  # torch's files are archives with CRCs
            if damaged is not None:
                raise ValueError(f"the checksum of {damaged} is wrong")
            content.seek(0)
            state = torch.load(content, map_location="cpu", weights_only=True)
            if not isinstance(state, dict):
                raise ValueError(f"it holds {type(state).__name__}")
    except Exception as error:  # arbitrary bytes can make torch raise any exception
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        log.warning("%s is damaged, training starts anew: %s", path, reason)
        return None
    return state
