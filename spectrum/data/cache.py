"""What is kept of images in the user's cache folder. A file there is a hint that may be missing."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["cache_folder", "write_whole"]

_LOG = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """The folder of what is known of images; None where the user has no cache folder."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # The standard has it that a relative path is ignored.
        folder = given if given.is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        _LOG.info("images aren't cached: %s", error)
        return None
    return folder / "spectrum" / "data"


def write_whole(path: Path, write: Callable[[Path], object]) -> bool:
    """Make a file that is there as a whole or isn't, as other processes may read it at any time.

    Args:
        path: where it shall be.
        write: writes the content to the path that it is given.

    Returns:
        Whether there is such a file now; where it can't be written, that is logged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / path.name
            write(part)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
    except OSError as error:
        _LOG.info("%s can't be cached: %s", path, error)
        return False
    return True
