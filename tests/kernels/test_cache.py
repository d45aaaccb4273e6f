"""Machine code of the cache is checked before anything reads it, and no problem fails a run."""

import ctypes
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import types

from spectrum import files
from spectrum.kernels import cache, compiled
from spectrum.kernels.cache import MachineCode, load_code, store_code
from spectrum.kernels.compiled import compile_function
from tests.damage import damaged

CODE = MachineCode("library", "symbol", bytes(range(256)), b"\nbitcode\n")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache._warn.cache_clear()
    return tmp_path / "spectrum" / "kernels"


def _only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


@given(st.builds(MachineCode, TEXTS, TEXTS, st.binary(), st.binary()), TEXTS)
def test_what_is_stored_is_loaded(code: MachineCode, key: str) -> None:
    store_code(key, code)
    assert load_code(key) == code
    assert load_code(f"{key}x") is None


@given(st.data())
def test_damaged_code_is_deleted_and_never_loaded(folder: Path, data: st.DataObject) -> None:
    store_code("key", CODE)
    path = _only_file(folder)
    whole = path.read_bytes()
    with damaged(data, path):
        same = path.is_file() and path.read_bytes() == whole
        assert load_code("key") == (CODE if same else None)
        assert path.is_dir() or os.path.lexists(path) == same


@given(TEXTS, TEXTS)
def test_code_under_another_name_is_deleted_and_never_loaded(
    folder: Path, key: str, other: str
) -> None:
    for one in (key, other):
        store_code(one, CODE)
    paths = [cache._path(one) for one in (key, other)]
    assert paths[0] is not None
    assert paths[1] is not None
    paths[0].replace(paths[1])
    assert load_code(other) == (CODE if key == other else None)
    assert paths[1].exists() == (key == other)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_code_that_others_can_write_is_deleted(folder: Path, mode: int) -> None:
    store_code("key", CODE)
    _only_file(folder).chmod(mode)
    assert load_code("key") is None
    assert not list(folder.iterdir())


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("way", ["group", "others", "link", "dangling link", "file"])
def test_a_folder_that_is_not_private_is_neither_read_nor_written(
    folder: Path, caplog: pytest.LogCaptureFixture, way: str, depth: int
) -> None:
    store_code("key", CODE)
    before = _only_file(folder).read_bytes()
    part = (folder, folder.parent)[depth]
    if way in ("group", "others"):
        part.chmod(0o770 if way == "group" else 0o707)
    else:
        moved = part.rename(part.with_name("moved"))
        if way == "file":
            part.touch()
        else:
            part.symlink_to(moved if way == "link" else "missing")
    for _ in range(2):
        assert load_code("key") is None
        store_code("key", CODE._replace(symbol="another"))
    found = [path for path in folder.parents[1].rglob("*.bin") if not path.is_symlink()]
    assert [path.read_bytes() for path in found] == [before]
    lines = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert len(lines) == (0 if way == "file" and depth == 0 else 1)
    assert all(str(part) in line and "\n" not in line for line in lines)


def _adding(number: int) -> Callable[..., None]:
    def add(values):  # type: ignore[no-untyped-def]
        values[0] += number

    return add


def _compile_and_run(number: int = 3) -> int:
    """Compile a function that adds a number, and return what it makes of 100."""
    function = compile_function(types.void(types.CPointer(types.int64)))(_adding(number))
    value = ctypes.c_int64(100)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function.address)(ctypes.addressof(value))
    return value.value


def test_a_function_is_compiled_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [_compile_and_run(number) for number in (3, 4)] == [103, 104]
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setattr(compiled, "cfunc", None)
    assert [_compile_and_run(number) for number in (3, 4)] == [103, 104]


@pytest.mark.parametrize("content", [b"", b"damaged"])
def test_a_damaged_function_is_compiled_and_stored_again(folder: Path, content: bytes) -> None:
    _compile_and_run()
    path = _only_file(folder)
    whole = path.read_bytes()
    path.write_bytes(content)
    assert _compile_and_run() == 103
    assert len(path.read_bytes()) == len(whole)


def test_code_that_numba_refuses_is_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # The checksum is right, as if another version of LLVM had written the file.
    monkeypatch.setattr(compiled, "load_code", lambda key: CODE._replace(bitcode=b"unknown"))
    assert _compile_and_run() == 103


@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EIO", "ENAMETOOLONG"])
@pytest.mark.parametrize("step", ["mkdir", "write", "lstat", "read"])
def test_no_problem_with_the_disk_is_an_error(
    step: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if step in ("lstat", "read"):
        _compile_and_run()

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)), "file")

    if step in ("mkdir", "lstat"):
        monkeypatch.setattr(Path, step, fail)
    elif step == "write":
        monkeypatch.setattr(files, "write_atomic", fail)
    else:
        monkeypatch.setattr(cache, "read_file", fail)
    assert _compile_and_run() == 103


def test_without_a_home_functions_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "relative")
    assert _compile_and_run() == 103
