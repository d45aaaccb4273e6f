"""Decodes every image once, to find which can be read, their sizes, their means and their hashes.

The results are kept in the user's cache folder. They hold for as long as an image's name and
version (such as its size and time of change) stay the same.
"""

from __future__ import annotations

import errno
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, UnidentifiedImageError

from spectrum.data.cache import cache_path, read_array, write_array
from spectrum.data.images import UnknownRange, decode, is_grey, open_image
from spectrum.data.processes import map_in_processes
from spectrum.data.source import Numbers, OutsideFolder, Reader, Source

Entries = npt.NDArray[Any]
"""What is known about images (N,), with the fields that ``scan`` names."""

_FOUND = np.dtype(
    [
        ("reason", "u1"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("grey", "?"),
        ("digest", "u1", (32,)),
        ("mean", "<f4", (4,)),  # red, green, blue and grey
        ("square", "<f4", (4,)),
    ]
)
# The two halves of a hash of the name and the version come first.
_ENTRY = np.dtype([("key", "<u8"), ("check", "<u8"), *_FOUND.descr])
_REASONS = (
    "",
    "empty",
    "no image",
    "truncated",
    "damaged",
    "too large",
    "of an unknown range",
    "not there",
    "outside of the table's folder",
    "not readable",
)
_CACHED_REASONS = len(_REASONS) - 3  # the last three may pass while the file stays the same
_SAVE_EVERY = 100_000  # images between two writes of the cache
_LEVELS = np.arange(256)


def scan(source: Source, processes: int | None = None) -> Entries:
    """Decode every image that the cache doesn't know, in worker processes.

    Args:
        source: of encoded images.
        processes: how many worker processes; None for as many as there are CPU cores.

    Returns:
        (N,) with the fields

        - ``reason``: a code for why an image can't be read; 0 if it can.
        - ``width`` and ``height``: in pixels; these and all that follow are 0 for images that
          can't be read.
        - ``grey``: whether the image has one channel of light.
        - ``digest``: (32,), the SHA-256 of the file's bytes, if it has any.
        - ``mean``: (4,), the means of red, green, blue and grey, from 0 to 255.
        - ``square``: (4,), the means of their squares.

    Raises:
        OSError: a worker process died.
    """
    path = _cache_path(source.key)
    table = np.zeros(len(source.reader), _ENTRY)
    found = table[list(_FOUND.fields or ())]  # a view
    _fill_keys(table, source.reader)
    known = _fill_from_cache(table, path)
    done = 0
    try:
        for chunk, entries in map_in_processes(
            partial(_scan_chunk, source.reader),
            np.flatnonzero(~known),
            title="reading images",
            processes=processes,
        ):
            found[chunk] = entries
            known[chunk] = True
            done += len(chunk)
            if done % _SAVE_EVERY < len(chunk):
                _write_cache(table[known], path)
    finally:
        if done:
            _write_cache(table[known], path)
    return table


def fingerprint(source: Source, scanned: Entries, numbers: Numbers) -> str:
    """Hash the contents, labels, splits and names of images to 16 hexadecimal digits.

    Args:
        source: the images.
        scanned: of all images of this source.
        numbers: the numbers of the images that are hashed.
    """
    digest = hashlib.sha256("\0".join(source.classes).encode(errors="backslashreplace"))
    for i in numbers:
        name = source.reader.name(int(i)).encode(errors="backslashreplace")
        labels = source.targets[i].tobytes() + source.splits[i].tobytes()
        content = scanned["digest"][i].tobytes()
        digest.update(b"%d\0%b%b%b" % (len(name), name, labels, content))
    return digest.hexdigest()[:16]


def reason_text(entry: np.void) -> str:
    """Why an image of a scan can't be read, in a few words."""
    return _REASONS[entry["reason"]]


def unreadable(reader: Reader, index: int, error: Exception) -> OSError:
    """An error about an image that can't be read, with its name and the reason."""
    reason = f"can't be read ({_REASONS[_reason_code(error)]})"
    return OSError(errno.EIO, reason, reader.name(index))


def _reason_code(error: Exception) -> int:
    match error:
        case FileNotFoundError():
            reason = "not there"
        case OutsideFolder():
            reason = "outside of the table's folder"
        case UnidentifiedImageError():
            reason = "no image"
        case UnknownRange():
            reason = "of an unknown range"
        case Image.DecompressionBombError() | MemoryError():
            reason = "too large"
        case OSError() if error.errno == errno.EFBIG:
            reason = "too large"
        case OSError() if error.errno is not None:
            reason = "not readable"
        case EOFError():
            reason = "truncated"
        case _:
            reason = "truncated" if "truncated" in str(error).lower() else "damaged"
    return _REASONS.index(reason)


def _scan_chunk(reader: Reader, numbers: Numbers) -> Entries:
    """Decode some images and return what is found, without keys."""
    entries = np.zeros(len(numbers), _FOUND)
    for entry, i in zip(entries, map(int, numbers), strict=True):
        content: bytes | None = None
        try:
            content = reader.read(i)
            entry["digest"] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
            with open_image(content) as image:
                grey = is_grey(image)
                decoded = decode(image, 3)
        except Exception as error:  # arbitrary bytes can make Pillow raise any exception
            entry["reason"] = _REASONS.index("empty") if content == b"" else _reason_code(error)
            continue
        entry["width"], entry["height"] = decoded.size
        entry["grey"] = grey
        entry["mean"], entry["square"] = _means(decoded)
    return entries


def _means(image: Image.Image) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The means of red, green, blue and grey, and of their squares."""
    counts = np.array(image.histogram() + image.convert("L").histogram()).reshape(4, 256)
    pixels = image.size[0] * image.size[1]
    return counts @ _LEVELS / pixels, counts @ _LEVELS**2 / pixels


def _fill_keys(table: Entries, reader: Reader) -> None:
    """Fill in a hash of each image's name and version."""
    keys = bytearray()
    for i in range(len(table)):
        text = f"{reader.name(i)}\0{reader.version(i)}".encode(errors="backslashreplace")
        keys += hashlib.blake2b(text, digest_size=16).digest()
    pairs = np.frombuffer(keys, "<u8").reshape(-1, 2)
    table["key"], table["check"] = pairs[:, 0], pairs[:, 1]


def _cache_path(key: str) -> Path | None:
    # Another version of Pillow may read other images, and decode them to other values.
    content = f"{PIL.__version__}\0{_ENTRY.descr}\0{_REASONS}\0{key}"
    name = hashlib.sha256(content.encode(errors="backslashreplace")).hexdigest()[:32]
    return cache_path(f"{name}.scan")


def _fill_from_cache(table: Entries, path: Path | None) -> npt.NDArray[np.bool_]:
    """Fill in the entries that the cache has, and return which those are (N,)."""
    cached = read_array(path, _ENTRY)
    if cached is None or not len(cached):
        return np.zeros(len(table), bool)
    cached = cached[np.argsort(cached["key"])]
    place = np.searchsorted(cached["key"], table["key"]).clip(max=len(cached) - 1)
    same = (cached["key"][place] == table["key"]) & (cached["check"][place] == table["check"])
    table[same] = cached[place[same]]
    return np.asarray(same)


def _write_cache(table: Entries, path: Path | None) -> None:
    write_array(path, table[table["reason"] < _CACHED_REASONS])
