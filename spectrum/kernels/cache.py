"""Machine code in the user's cache folder, and the guard that decides which of it may run.

A file holds one compiled function. It begins with a checksum of all that follows. Then come the
function's key, which says what was compiled, by which versions and for which processor, and two
names. So the code of a file that was cut, changed or renamed never reaches the processor: the file
is deleted, and the function compiled again.

A checksum doesn't tell who wrote a file. So files are only read from folders that no other user
can write.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from spectrum.errors import DamagedFile, printable
from spectrum.files import cache_folder, check_private, read_file, write_cached

_LOG = logging.getLogger(__name__)
_CHECKSUM_BYTES = hashlib.sha256().digest_size


class MachineCode(NamedTuple):
    """A compiled function, as Numba stores it.

    Attributes:
        library: the name of Numba's library of the function.
        symbol: the name of the function in it.
        object_code: the code that the processor executes.
        bitcode: LLVM's form of it, which lists the symbols.
    """

    library: str
    symbol: str
    object_code: bytes
    bitcode: bytes


def load_code(key: str) -> MachineCode | None:
    """The machine code of a function, or None if the cache doesn't have it.

    A file that isn't what ``store_code`` wrote for this key is deleted.

    Args:
        key: everything that the code depends on.
    """
    path = _path(key)
    if path is None:
        return None
    try:
        check_private(path)
        return _decode(path, key, read_file(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _LOG.info("a kernel is compiled again: %s", printable(str(error)))
        with suppress(OSError):  # a folder stays, and its kernel is compiled in each process
            path.unlink()
        return None


def store_code(key: str, code: MachineCode) -> None:
    """Keep the machine code of a function for other processes. A failure is only logged."""
    path = _path(key)
    if path is not None:
        write_cached(path, lambda file: file.write(_encode(key, code)))


def _path(key: str) -> Path | None:
    """The file for a key; None where the user has no cache folder of their own."""
    folder = cache_folder("kernels")
    if folder is None:
        return None
    try:
        check_private(folder)
    except OSError as error:
        _warn(printable(f"kernels are compiled in each process: {error.filename} {error.strerror}"))
        return None
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()}.bin"


@cache
def _warn(text: str) -> None:
    _LOG.warning("%s", text)


def _encode(key: str, code: MachineCode) -> bytes:
    header = json.dumps([key, code.library, code.symbol, len(code.object_code)]).encode()
    content = header + b"\n" + code.object_code + code.bitcode
    return hashlib.sha256(content).digest() + content


def _decode(path: Path, key: str, stored: bytes) -> MachineCode:
    """Check what a file holds, before anything interprets it.

    Raises:
        DamagedFile: it isn't what was written for this key.
    """
    checksum, content = stored[:_CHECKSUM_BYTES], stored[_CHECKSUM_BYTES:]
    if hashlib.sha256(content).digest() != checksum:
        raise DamagedFile(path, "its checksum is that of another content")
    header, _, code = content.partition(b"\n")
    stored_key, library, symbol, size = json.loads(header)
    if stored_key != key:
        raise DamagedFile(path, "it holds another function")
    return MachineCode(library, symbol, code[:size], code[size:])
