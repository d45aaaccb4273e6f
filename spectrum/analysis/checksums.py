"""The checksums of the files of a study's or search's folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spectrum.errors import DamagedFile, FieldError
from spectrum.files import as_path, read_file, write_atomic

CHECKSUMS = "SHA256SUMS"


def write_checksums(folder: Path, names: Sequence[str]) -> None:
    """Writes the checksums of files, as ``sha256sum --check`` reads them.

    Args:
        folder: the folder of the files.
        names: the names of the files; those that don't exist are left out.
    """
    digests = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in names
        if (folder / name).exists()
    }
    text = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    write_atomic(folder / CHECKSUMS, lambda file: file.write(text.encode()))


def read_checked(path: Path) -> bytes:
    """Reads a file and compares it with its folder's checksums, if it is among them.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: it can't be read or has changed since its checksum was written, or the file of
            the checksums is damaged.
    """
    try:
        content = read_file(path)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise DamagedFile(path, f"it can't be read ({error.strerror})") from error
    expected = _read_checksums(path.with_name(CHECKSUMS)).get(path.name)
    # Version control may have changed the ends of lines.
    contents = (content, content.replace(b"\r\n", b"\n"))
    if expected and expected not in [hashlib.sha256(text).hexdigest() for text in contents]:
        raise DamagedFile(
            path,
            f"it has changed since it was written; if that is wanted, remove it from {CHECKSUMS}, "
            "else do the study or search again",
        )
    return content


def read_json(path: Path) -> Any:
    """Reads a file of JSON as ``read_checked`` does.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: as in ``read_checked``, or it isn't JSON.
    """
    try:
        return json.loads(read_checked(path))
    except DamagedFile:
        raise
    except (ValueError, RecursionError) as error:
        raise DamagedFile(path, f"it isn't JSON ({error})") from error


def is_missing(path: Path) -> bool:
    """Whether a file doesn't exist although its folder's checksums have it."""
    return not path.exists() and path.name in _read_checksums(path.with_name(CHECKSUMS))


@contextmanager
def read_together(folder: Path | str) -> Iterator[None]:
    """Makes sure that all files which are read within are of one writing.

    Raises:
        DamagedFile: another process has written the files anew meanwhile.
    """
    path = path_in(folder, CHECKSUMS)
    before = _read_checksums(path)
    yield
    if _read_checksums(path) != before:
        raise DamagedFile(path, "the folder was written anew while it was read; read it again")


def path_in(folder: Path | str, name: str) -> Path:
    """The path of a file in a folder that a user gave.

    Raises:
        FieldError: it can't be the path of a folder.
    """
    try:
        return as_path(folder) / name
    except ValueError as error:
        raise FieldError("folder", folder, str(error)) from None
    except TypeError:
        raise FieldError("folder", type(folder).__name__, "must be the path of a folder") from None


def _read_checksums(path: Path) -> dict[str, str]:
    try:
        lines = read_file(path).decode().splitlines()
    except (FileNotFoundError, NotADirectoryError):  # written by an earlier version
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedFile(path, "it can't be read") from error
    found = [re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line) for line in lines]
    if not all(found):
        raise DamagedFile(path, "it must have a checksum and the name of a file in each line")
    return {match[2]: match[1] for match in found if match}
