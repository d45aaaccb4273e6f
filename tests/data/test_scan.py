"""Every image is decoded once, and the reason is known for each that can't be read."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import shutil
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spectrum import DataConfig
from spectrum.data.folder import FolderReader, read_folder
from spectrum.data.scan import fingerprint, reason_text, scan
from spectrum.data.source import Source
from tests.data.pictures import encoded, noise, write_classes


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "spectrum" / "data"


def read(root: Path) -> Source:
    return read_folder(DataConfig(name=f"folder:{root}"))


def reasons(source: Source) -> dict[str, str]:
    return {source.reader.name(i): reason_text(entry) for i, entry in enumerate(scan(source))}


@dataclass(frozen=True)
class NeverOpened(FolderReader):
    """Knows its images, and refuses to open them."""

    def read(self, index: int) -> bytes:
        raise PermissionError(errno.EACCES, f"{self.name(index)} was read")


@dataclass(frozen=True)
class Deadly(FolderReader):
    """Ends the process that opens a certain image."""

    def read(self, index: int) -> bytes:
        if index == 150:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index)


@dataclass(frozen=True)
class Slow(FolderReader):
    def read(self, index: int) -> bytes:
        time.sleep(0.05)
        return super().read(index)


def as_reader(source: Source, kind: type[FolderReader]) -> Source:
    reader = source.reader
    assert isinstance(reader, FolderReader)
    return replace(source, images=kind(reader.root, reader.paths, reader.offsets))


def test_what_a_scan_finds_about_each_image(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for i, pixels in enumerate((noise(0, 5, 7), noise(1, 9, 4, 1))):
        content = encoded(pixels)
        (tmp_path / "a" / f"{i}.png").write_bytes(content)
        found = scan(read(tmp_path))[i]
        assert found["reason"] == 0
        assert (found["height"], found["width"]) == pixels.shape[:2]
        assert found["grey"] == (pixels.ndim == 2)
        assert found["digest"].tobytes() == hashlib.sha256(content).digest()
        colours = np.broadcast_to(np.atleast_3d(pixels), (*pixels.shape[:2], 3))
        luma = np.asarray(Image.fromarray(pixels).convert("L"))
        channels = np.dstack([colours, luma]).astype(float)
        assert found["mean"] == pytest.approx(channels.mean(axis=(0, 1)), rel=1e-6)
        assert found["square"] == pytest.approx((channels**2).mean(axis=(0, 1)), rel=1e-6)


def test_why_an_image_cant_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    jpeg, png = encoded(noise(0, 64, 64), "JPEG"), encoded(noise(0, 64, 64))
    floats = BytesIO()
    Image.fromarray(np.ones((4, 4), np.float32)).save(floats, "TIFF")
    bomb = bytearray(png)
    bomb[16:24] = (30_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    contents = {
        "good.jpg": (jpeg, ""),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "cut.png": (png[: len(png) // 2], "truncated"),
        "text.jpg": (b"hello", "no image"),
        "nothing.jpg": (b"", "empty"),
        "floats.tif": (floats.getvalue(), "of an unknown range"),
        "bomb.png": (bytes(bomb), "too large"),
        "upset.png": (png[:60] + b"\0\0\0\0" + png[64:], "damaged"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "loop.png").symlink_to("loop.png")
    source = read(tmp_path)
    expected = {f"a/{name}": reason for name, (_, reason) in contents.items()}
    expected |= {"a/gone.png": "not there", "a/loop.png": "not readable"}
    assert reasons(source) == expected
    assert reasons(source) == expected


def test_a_second_scan_opens_nothing_and_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_classes(tmp_path, {"a": 100, "b": 80})
    (tmp_path / "a" / "bad.png").write_text("no")
    monkeypatch.setattr("spectrum.data.scan._SAVE_EVERY", 100)
    first = scan(read(root), processes=2)
    assert np.array_equal(first, scan(as_reader(read(root), NeverOpened)))


def test_only_what_has_changed_is_opened(tmp_path: Path) -> None:
    root = write_classes(tmp_path, {"a": 3, "b": 2})
    before = scan(read(root))
    (root / "a" / "1.png").write_bytes(encoded(noise(50, 6, 6)))
    (root / "a" / "new.png").write_bytes(encoded(noise(51, 7, 7)))
    (root / "b" / "0.png").unlink()
    after = scan(as_reader(read(root), NeverOpened))
    assert (after["reason"] == 0).tolist() == [True, False, True, False, True]
    assert np.array_equal(after["digest"][[0, 2, 4]], before["digest"][[0, 2, 4]])
    assert scan(read(root))["width"].tolist() == [8, 6, 8, 7, 8]


def test_a_missing_image_is_looked_for_again(tmp_path: Path) -> None:
    root = write_classes(tmp_path, {"a": 1})
    target = tmp_path / "target"
    (root / "a" / "link.png").symlink_to(target)
    assert reason_text(scan(read(root))[1]) == "not there"
    target.write_bytes(encoded(noise(0, 3, 3)))
    assert not scan(read(root))["reason"].any()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-7],
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: b"x" * 300,
        lambda content: b"",
        lambda content: b"\x80\x04 a pickle",
    ],
)
def test_a_damaged_cache_is_ignored(
    tmp_path: Path, cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    source = read(write_classes(tmp_path, {"a": 3}))
    first = scan(source)
    [path] = cache.iterdir()
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert np.array_equal(scan(source), first)
    assert path.read_bytes() == content
    path.unlink()
    os.mkfifo(path)
    assert np.array_equal(scan(source), first)
    assert path.read_bytes() == content
    path.unlink()
    path.mkdir()
    assert np.array_equal(scan(source), first)


def test_without_a_place_for_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read(write_classes(tmp_path, {"a": 3}))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert not scan(source)["reason"].any()
    monkeypatch.setattr("spectrum.data.cache.cache_folder", lambda _: None)
    assert not scan(source)["reason"].any()


def test_a_worker_that_dies_is_an_error_and_leaves_no_process(tmp_path: Path) -> None:
    source = as_reader(read(write_classes(tmp_path, {"a": 200}, height=3, width=3)), Deadly)
    with pytest.raises(OSError, match=r"a process that decodes images has died[^\n]*\Z"):
        scan(source, processes=2)
    assert not multiprocessing.active_children()


def children(pid: int) -> list[int]:
    return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for i in range(1000):
        (tmp_path / "a" / f"{i:03}.png").touch()
    process = multiprocessing.get_context("fork").Process(
        target=scan, args=(as_reader(read(tmp_path), Slow), 2)
    )
    process.start()
    assert process.pid is not None
    while len(started := children(process.pid)) < 2:
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    while any(map(is_alive, started)):
        time.sleep(0.01)


def test_the_fingerprint_is_of_the_content_wherever_it_is(tmp_path: Path) -> None:
    def prints(root: Path, **changes: object) -> str:
        source = replace(read(root), **changes)  # type: ignore[arg-type]
        return fingerprint(source, scan(source), np.arange(len(source.reader)))

    first = write_classes(tmp_path / "one", {"a": 3, "b": 2})
    second = tmp_path / "two"
    shutil.copytree(first, second)
    found = prints(first)
    assert len(found) == 16
    int(found, 16)
    assert found == prints(second)
    others = {
        prints(first, classes=("a", "c")),
        prints(first, splits=np.zeros(5, np.int8)),
        prints(first, targets=np.array([0, 0, 0, 1, 0])),
    }
    (second / "b" / "1.png").rename(second / "b" / "2.png")
    others.add(prints(second))
    (second / "b" / "2.png").write_bytes(encoded(noise(99, 8, 8)))
    others.add(prints(second))
    assert len(others - {found}) == 5
