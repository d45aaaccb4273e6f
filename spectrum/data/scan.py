"""Every image is decoded once: which can be read, how large they are, how bright, and their sums.

What was found is kept in the user's cache folder, and holds for as long as an image's name and
mark stay as they are.
"""

from __future__ import annotations

import hashlib
import logging
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, UnidentifiedImageError

from spectrum.data.cache import cache_folder, write_whole
from spectrum.data.images import UnknownRange, decode, is_grey
from spectrum.data.processes import in_processes
from spectrum.data.source import Reader, Source

if TYPE_CHECKING:
    from spectrum.data.config import DataConfig

__all__ = ["Scan", "fingerprint", "reason_of", "scan"]

_LOG = logging.getLogger(__name__)

_ENTRY = np.dtype(
    [
        ("key", "<u8"),  # of the name and the mark, in two parts
        ("check", "<u8"),
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
_LASTING = len(_REASONS) - 2  # the reasons before say something of the content
_SAVED = 100_000  # images between two times that what was found is kept
_LEVELS = np.arange(256)


@dataclass(frozen=True)
class Scan:
    """What is known of the images of a source.

    Attributes:
        reasons: (N,) uint8, why an image can't be read; 0 where it can.
        widths: (N,) in pixels; 0 where an image can't be read, and so on.
        heights: likewise.
        grey: (N,) bool, whether it has one channel of light.
        digests: (N, 32) uint8, SHA-256 of its bytes.
        means: (N, 4), of its red, green, blue and grey, from 0 to 255.
        squares: (N, 4), likewise of the squares of these.
    """

    reasons: npt.NDArray[np.uint8]
    widths: npt.NDArray[np.uint32]
    heights: npt.NDArray[np.uint32]
    grey: npt.NDArray[np.bool_]
    digests: npt.NDArray[np.uint8]
    means: npt.NDArray[np.float32]
    squares: npt.NDArray[np.float32]

    @property
    def good(self) -> npt.NDArray[np.bool_]:
        """(N,), which images can be read."""
        return np.asarray(self.reasons == 0)

    def reason(self, index: int) -> str:
        """Why an image can't be read, in a few words."""
        return _REASONS[self.reasons[index]]


def scan(source: Source, config: DataConfig, processes: int | None = None) -> Scan:
    """Decode every image whose name or mark is new, in worker processes.

    Args:
        source: of the images.
        config: of the data, whose name messages call it by.
        processes: how many at a time; None for as many as there are processors.

    Raises:
        ValueError: a process died.
    """
    path = _path(source.key)
    table = np.zeros(len(source.reader), _ENTRY)
    _mark(table, source.reader)
    known = _recall(table, path)
    new = np.flatnonzero(~known)
    done = 0
    try:
        for chunk, entries in in_processes(
            partial(_examine, source.reader), new, title="reading images", processes=processes
        ):
            for field in _ENTRY.names[2:]:  # type: ignore[index]
                table[field][chunk] = entries[field]
            known[chunk] = True
            done += len(chunk)
            if done % _SAVED < len(chunk):
                _keep(table[known], path)
    except BrokenProcessPool:
        raise ValueError(
            f"data (={config.name}): a process that decodes images has died; perhaps it ran out "
            "of memory"
        ) from None
    finally:
        if done:
            _keep(table[known], path)
    return Scan(*(np.ascontiguousarray(table[field]) for field in _ENTRY.names[2:]))  # type: ignore[index]


def fingerprint(source: Source, found: Scan, kept: npt.NDArray[np.int64]) -> str:
    """A hash of the content, labels, splits and names of some images, 16 hexadecimal digits.

    Args:
        source: of the images.
        found: by its scan.
        kept: the numbers of the images.
    """
    digest = hashlib.sha256("\0".join(source.classes).encode(errors="backslashreplace"))
    for i in kept:
        name = source.reader.name(int(i)).encode(errors="backslashreplace")
        labels = source.targets[i].tobytes() + source.splits[i].tobytes()
        digest.update(b"%d\0%b%b%b" % (len(name), name, labels, found.digests[i].tobytes()))
    return digest.hexdigest()[:16]


def reason_of(error: Exception) -> str:
    """Why an image couldn't be read, in a few words."""
    return _REASONS[_code(error)]


def _code(error: Exception) -> int:
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


def _examine(reader: Reader, numbers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """What is known of some images."""
    entries = np.zeros(len(numbers), _ENTRY)
    for entry, i in zip(entries, map(int, numbers), strict=True):
        content: bytes | None = None
        try:
            content = reader.read(i)
            entry["digest"] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
            with reader.open(i) as image:
                grey = is_grey(image)
                colours = decode(image, 3)
        except Exception as error:  # bytes of any kind lead Pillow to any exception
            empty = isinstance(error, UnidentifiedImageError) and content == b""
            entry["reason"] = _REASONS.index("empty") if empty else _code(error)
            continue
        entry["width"], entry["height"] = colours.size
        entry["grey"] = grey
        entry["mean"], entry["square"] = _moments(colours)
    return entries


def _moments(image: Image.Image) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The means of red, green, blue and grey and of their squares."""
    counts = np.array(image.histogram() + image.convert("L").histogram()).reshape(4, 256)
    pixels = image.size[0] * image.size[1]
    return counts @ _LEVELS / pixels, counts @ _LEVELS**2 / pixels


def _mark(table: npt.NDArray[Any], reader: Reader) -> None:
    """Fill in what each image is known by."""
    keys = bytearray()
    for i in range(len(table)):
        text = f"{reader.name(i)}\0{reader.mark(i)}".encode(errors="backslashreplace")
        keys += hashlib.blake2b(text, digest_size=16).digest()
    pairs = np.frombuffer(keys, "<u8").reshape(-1, 2)
    table["key"], table["check"] = pairs[:, 0], pairs[:, 1]


def _path(key: str) -> Path | None:
    folder = cache_folder()
    if folder is None:
        return None
    # What can be read, and how bright it is, may change with the version of what decodes.
    what = f"{PIL.__version__}\0{_ENTRY.descr}\0{_REASONS}\0{key}"
    name = hashlib.sha256(what.encode(errors="backslashreplace")).hexdigest()[:32]
    return folder / f"{name}.scan"


def _recall(table: npt.NDArray[Any], path: Path | None) -> npt.NDArray[np.bool_]:
    """Fill in what the cache knows; (N,) of which images it does."""
    kept = _read(path) if path is not None else None
    if kept is None or not len(kept):
        return np.zeros(len(table), bool)
    kept = kept[np.argsort(kept["key"])]
    place = np.searchsorted(kept["key"], table["key"]).clip(max=len(kept) - 1)
    same = (kept["key"][place] == table["key"]) & (kept["check"][place] == table["check"])
    table[same] = kept[place[same]]
    return np.asarray(same)


def _read(path: Path) -> npt.NDArray[Any] | None:
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


def _keep(table: npt.NDArray[Any], path: Path | None) -> None:
    if path is None:
        return
    body = table[table["reason"] < _LASTING].tobytes()
    write_whole(path, lambda part: part.write_bytes(hashlib.sha256(body).digest() + body))
