"""Cached arrays are read back exactly as they were written, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectrum.data.cache import read_array, write_array

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4), dtype=np.uint8)
ENTRIES = np.zeros(5, [("key", "<u8"), ("mean", "<f4", (4,))])
ENTRIES["key"] = np.arange(5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@given(array=st.sampled_from([PIXELS, ENTRIES, PIXELS[:0]]), data=st.data())
def test_a_damaged_file_is_never_believed(
    array: npt.NDArray[Any], data: st.DataObject, folder: Path
) -> None:
    path = folder / "array"
    write_array(path, array)
    content = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans(), "cut"):
        del content[start:]
    elif data.draw(st.booleans(), "insert"):
        content[start:start] = data.draw(st.binary(min_size=1, max_size=300))
    else:
        content[start] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    found = read_array(path, array.dtype)
    assert found is None or (found.shape == array.shape and np.array_equal(found, array))


def test_what_is_no_file_is_not_waited_for_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "array"
    assert read_array(path, PIXELS.dtype) is None
    os.mkfifo(path)
    assert read_array(path, PIXELS.dtype) is None
    write_array(path, PIXELS)
    assert np.array_equal(read_array(path, PIXELS.dtype), PIXELS)  # type: ignore[arg-type]
    assert read_array(path, ENTRIES.dtype) is None
    (tmp_path / "loop").symlink_to("loop")
    for place in (tmp_path, tmp_path / "loop", path / "below", tmp_path / ("n" * 300)):
        assert read_array(place, PIXELS.dtype) is None
        write_array(place, PIXELS)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_array(tmp_path / "array", PIXELS)
    monkeypatch.setattr(os, "fsync", fail)
    write_array(tmp_path / "array", PIXELS + 1)
    assert np.array_equal(read_array(tmp_path / "array", PIXELS.dtype), PIXELS)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["array"]
