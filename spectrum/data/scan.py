"""Decodes every image once, to find which can be read, their sizes, their means and their hashes.

The results are kept in the user's cache folder. They hold for as long as an image's name and
version (such as its size and time of change) stay the same.
"""

from __future__ import annotations

import hashlib
import logging
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, UnidentifiedImageError

from spectrum.data.config import DataConfig
from spectrum.data.images import UnknownRange, decode, is_grey
from spectrum.data.processes import map_in_processes
from spectrum.data.source import Reader, Source
from spectrum.files import cache_folder, write_cached

__all__ = ["Scan", "fingerprint", "scan", "unreadable_reason"]

_LOG = logging.getLogger(__name__)

_ENTRY = np.dtype(
    [
        ("key", "<u8"),  # the first half of a hash of the name and the version
        ("check", "<u8"),  # the second half
        ("reason", "u1"),
        ("width", "<u4"),
        ("height", "<u4"),
        ("grey", "?"),
        ("digest", "u1", (32,)),
        ("mean", "<f4", (4,)),  # red, green, blue and grey
        ("square", "<f4", (4,)),
    ]
)
_REASONS = (
    "",
    "empty",
    "no image",
    "truncated",
    "damaged",
    "too large",
    "of an unknown range",
    "not there",
    "not readable",
)
_CACHED_REASONS = len(_REASONS) - 2  # the last two may pass while the file stays the same
_SAVE_EVERY = 100_000  # images between two writes of the cache
_LEVELS = np.arange(256)


@dataclass(frozen=True)
class Scan:
    """What a scan found about the images of a source.

    Sizes and means are 0 for images that can't be read.

    Attributes:
        reasons: (N,) uint8, a code for why an image can't be read; 0 if it can.
        widths: (N,) in pixels.
        heights: (N,) in pixels.
        grey: (N,) bool, whether the image has one channel of light.
        digests: (N, 32) uint8, the SHA-256 of the file's bytes; 0 if there are none.
        means: (N, 4), the means of red, green, blue and grey, from 0 to 255.
        squares: (N, 4), the means of their squares.
    """

    reasons: npt.NDArray[np.uint8]
    widths: npt.NDArray[np.uint32]
    heights: npt.NDArray[np.uint32]
    grey: npt.NDArray[np.bool_]
    digests: npt.NDArray[np.uint8]
    means: npt.NDArray[np.float32]
    squares: npt.NDArray[np.float32]

    @property
    def readable(self) -> npt.NDArray[np.bool_]:
        """(N,), which images can be read."""
        return np.asarray(self.reasons == 0)

    def reason(self, index: int) -> str:
        """Why an image can't be read, in a few words."""
        return _REASONS[self.reasons[index]]


def scan(source: Source, config: DataConfig, processes: int | None = None) -> Scan:
    """Decode every image that the cache doesn't know, in worker processes.

    Args:
        source: the images.
        config: of the data; messages use its name.
        processes: how many worker processes; None for as many as there are CPU cores.

    Raises:
        ValueError: a worker process died.
    """
    path = _cache_path(source.key)
    table = np.zeros(len(source.reader), _ENTRY)
    _fill_keys(table, source.reader)
    known = _fill_from_cache(table, path)
    unknown = np.flatnonzero(~known)
    done = 0
    try:
        for chunk, entries in map_in_processes(
            partial(_scan_chunk, source.reader),
            unknown,
            title="reading images",
            processes=processes,
        ):
            for field in _ENTRY.names[2:]:  # type: ignore[index]
                table[field][chunk] = entries[field]
            known[chunk] = True
            done += len(chunk)
            if done % _SAVE_EVERY < len(chunk):
                _write_cache(table[known], path)
    except BrokenProcessPool:
        raise ValueError(
            f"data (={config.name}): a process that decodes images has died; perhaps it ran out "
            "of memory"
        ) from None
    finally:
        if done:
            _write_cache(table[known], path)
    return Scan(*(np.ascontiguousarray(table[field]) for field in _ENTRY.names[2:]))  # type: ignore[index]


def fingerprint(source: Source, result: Scan, numbers: npt.NDArray[np.int64]) -> str:
    """Hash the contents, labels, splits and names of images to 16 hexadecimal digits.

    Args:
        source: the images.
        result: of the scan of this source.
        numbers: the numbers of the images that are hashed.
    """
    digest = hashlib.sha256("\0".join(source.classes).encode(errors="backslashreplace"))
    for i in numbers:
        name = source.reader.name(int(i)).encode(errors="backslashreplace")
        labels = source.targets[i].tobytes() + source.splits[i].tobytes()
        digest.update(b"%d\0%b%b%b" % (len(name), name, labels, result.digests[i].tobytes()))
    return digest.hexdigest()[:16]


def unreadable_reason(error: Exception) -> str:
    """Why an image couldn't be read, in a few words."""
    return _REASONS[_reason_code(error)]


def _reason_code(error: Exception) -> int:
    match error:
        case FileNotFoundError():
            reason = "not there"
        case UnidentifiedImageError():
            reason = "no image"
        case UnknownRange():
            reason = "of an unknown range"
        case Image.DecompressionBombError() | MemoryError():
            reason = "too large"
        case OSError() if error.errno is not None:
            reason = "not readable"
        case EOFError():
            reason = "truncated"
        case _:
            reason = "truncated" if "truncated" in str(error).lower() else "damaged"
    return _REASONS.index(reason)


def _scan_chunk(reader: Reader, numbers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Decode some images and return their entries, without keys."""
    entries = np.zeros(len(numbers), _ENTRY)
    for entry, i in zip(entries, map(int, numbers), strict=True):
        content: bytes | None = None
        try:
            content = reader.read(i)
            entry["digest"] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
            with reader.open(i) as image:
                grey = is_grey(image)
                decoded = decode(image, 3)
        except Exception as error:  # arbitrary bytes can make Pillow raise any exception
            is_empty = isinstance(error, UnidentifiedImageError) and content == b""
            entry["reason"] = _REASONS.index("empty") if is_empty else _reason_code(error)
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


def _fill_keys(table: npt.NDArray[Any], reader: Reader) -> None:
    """Fill in a hash of each image's name and version."""
    keys = bytearray()
    for i in range(len(table)):
        text = f"{reader.name(i)}\0{reader.version(i)}".encode(errors="backslashreplace")
        keys += hashlib.blake2b(text, digest_size=16).digest()
    pairs = np.frombuffer(keys, "<u8").reshape(-1, 2)
    table["key"], table["check"] = pairs[:, 0], pairs[:, 1]


def _cache_path(key: str) -> Path | None:
    folder = cache_folder("data")
    if folder is None:
        return None
    # Another version of Pillow may read other images, and decode them to other values.
    content = f"{PIL.__version__}\0{_ENTRY.descr}\0{_REASONS}\0{key}"
    name = hashlib.sha256(content.encode(errors="backslashreplace")).hexdigest()[:32]
    return folder / f"{name}.scan"


def _fill_from_cache(table: npt.NDArray[Any], path: Path | None) -> npt.NDArray[np.bool_]:
    """Fill in the entries that the cache has, and return which those are (N,)."""
    cached = _read_cache(path) if path is not None else None
    if cached is None or not len(cached):
        return np.zeros(len(table), bool)
    cached = cached[np.argsort(cached["key"])]
    place = np.searchsorted(cached["key"], table["key"]).clip(max=len(cached) - 1)
    same = (cached["key"][place] == table["key"]) & (cached["check"][place] == table["check"])
    table[same] = cached[place[same]]
    return np.asarray(same)


def _read_cache(path: Path) -> npt.NDArray[Any] | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _LOG.info("the cached scan %s can't be read: %s", path, error)
        return None
    body = memoryview(content)[32:]
    if hashlib.sha256(body).digest() != content[:32] or len(body) % _ENTRY.itemsize:
        _LOG.info("the cached scan %s is damaged", path)
        return None
    return np.frombuffer(body, _ENTRY)


def _write_cache(table: npt.NDArray[Any], path: Path | None) -> None:
    if path is None:
        return
    body = table[table["reason"] < _CACHED_REASONS].tobytes()
    write_cached(path, lambda file: file.write(hashlib.sha256(body).digest() + body))
