"""Counts kept on disk: they are read back, checked, and never cause an error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectrum.costs import cache, count_config, fast
from spectrum.networks import NetworkConfig
from tests.damage import damaged

TINY = NetworkConfig(name="tiny", segments="5", width=0.1)
SHAPE = (3, 8, 8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "spectrum"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The input shapes of all counts that weren't taken from the cache."""
    calls: list[tuple[int, ...]] = []
    count = fast.count_on_meta

    def counting(network: torch.nn.Module, shape: tuple[int, int, int]) -> fast.Costs:
        calls.append(shape)
        return count(network, shape)

    monkeypatch.setattr(fast, "count_on_meta", counting)
    return calls


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_count_is_read_back(folder: Path, counted: list[object]) -> None:
    first, again = count_config(TINY, SHAPE), count_config(TINY, list(SHAPE))
    assert len(counted) == 1
    assert first == again
    assert len(files(folder)) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: count_config(TINY.model_copy(update={"segments": "6"}), SHAPE),
        lambda patch: count_config(TINY.model_copy(update={"num_classes": 9}), SHAPE),
        lambda patch: count_config(TINY, (3, 8, 9)),
        lambda patch: patch.setattr(cache, "_hash_of_sources", lambda: "other"),
        lambda patch: patch.setattr(torch, "__version__", "0.0"),
    ],
    ids=["segments", "classes", "input", "sources", "torch"],
)
def test_each_count_has_its_own_file(
    change: Callable[[pytest.MonkeyPatch], object],
    folder: Path,
    counted: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count_config(TINY, SHAPE)
    change(monkeypatch)
    if len(counted) == 1:
        count_config(TINY, SHAPE)
    assert len(counted) == len(files(folder)) == 2


def test_the_hashed_sources_are_all_that_a_count_depends_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(cache.spectrum.__file__).parent
    copied = [p for pattern in cache._SOURCES for p in package.glob(pattern)]
    assert {"segments.py", "spatial.py", "xception.py", "count.py"} <= {p.name for p in copied}
    for path in copied:
        target = tmp_path / path.relative_to(package)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    expected = cache._hash_of_sources.__wrapped__()
    monkeypatch.setattr(cache.spectrum, "__file__", str(tmp_path / "__init__.py"))
    assert cache._hash_of_sources.__wrapped__() == expected
    (tmp_path / "layers" / "spatial.py").write_text("changed")
    assert cache._hash_of_sources.__wrapped__() != expected


@given(data=st.data())
def test_a_damaged_file_is_counted_again_and_replaced(
    folder: Path,
    counted: list[object],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    data: st.DataObject,
) -> None:
    expected = count_config(TINY, SHAPE)
    (path,) = files(folder)
    text, before = path.read_text(), len(counted)
    with damaged(data, path), caplog.at_level(logging.INFO):
        caplog.clear()
        is_there = path.exists() or path.is_symlink()
        assert count_config(TINY, SHAPE) == expected
        if len(counted) > before and is_there:
            assert str(path) in caplog.text
            assert {record.levelname for record in caplog.records} == {"INFO"}
            assert path.is_dir() or path.read_text() == text
        assert capfd.readouterr() == ("", "")


def test_a_file_under_another_name_is_counted_again(
    folder: Path, counted: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    other = TINY.model_copy(update={"segments": "6"})
    expected = count_config(other, SHAPE)
    (path,) = files(folder)
    count_config(TINY, SHAPE)
    (wrong,) = (file for file in files(folder) if file != path)
    path.write_bytes(wrong.read_bytes())
    with caplog.at_level(logging.INFO):
        assert count_config(other, SHAPE) == expected
    assert f"{path} is damaged: it is the count of something else" in caplog.text
    assert len(counted) == 3


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path,
    counted: list[object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.INFO):
        assert count_config(TINY, SHAPE).params > 0
        assert count_config(TINY, SHAPE).params > 0
    assert len(counted) == 2
    assert "can't be cached" in caplog.text


def test_a_failed_write_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    assert count_config(TINY, SHAPE).params > 0
    assert files(folder) == []


def test_without_a_folder_of_its_own_the_cache_is_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        count_config(TINY, SHAPE)
    assert len(files(tmp_path / ".cache" / "spectrum")) == 1
    assert len(files(tmp_path)) == 1


def test_without_a_home_nothing_is_cached(
    counted: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", fail)
    count_config(TINY, SHAPE)
    count_config(TINY, SHAPE)
    assert len(counted) == 2
