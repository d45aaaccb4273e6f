"""The user's cache folder: what is written there, and by whom it may have been written."""

import os
import stat
from pathlib import Path

import pytest

from spectrum.files import cache_folder, check_private, write_cached


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a file in a cache folder that doesn't exist yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = cache_folder("one", "two")
    assert folder == tmp_path / "cache" / "spectrum" / "one" / "two"
    return folder / "file"


@pytest.mark.parametrize("umask", [0, 0o002, 0o022, 0o077])
def test_what_is_made_in_the_cache_is_for_the_user_alone(cached: Path, umask: int) -> None:
    check_private(cached)  # nothing is there
    before = os.umask(umask)
    try:
        assert write_cached(cached, lambda file: file.write(b"content"))
    finally:
        os.umask(before)
    assert cached.read_bytes() == b"content"
    assert stat.S_IMODE(cached.stat().st_mode) == 0o600
    assert {stat.S_IMODE(path.stat().st_mode) for path in list(cached.parents)[:4]} == {0o700}
    check_private(cached)


@pytest.mark.parametrize("depth", range(4))
@pytest.mark.parametrize("mode", [0o720, 0o770, 0o702, 0o777, 0o722])
def test_what_others_can_write_is_refused(cached: Path, mode: int, depth: int) -> None:
    write_cached(cached, lambda file: file.write(b"content"))
    part = (cached, *cached.parents)[depth]
    part.chmod(mode)
    with pytest.raises(OSError, match="can be written by other users") as caught:
        check_private(cached)
    assert caught.value.filename == str(part)


@pytest.mark.parametrize("depth", range(4))
@pytest.mark.parametrize("target", ["moved", "missing"])
def test_links_are_refused(cached: Path, target: str, depth: int) -> None:
    write_cached(cached, lambda file: file.write(b"content"))
    part = (cached, *cached.parents)[depth]
    part.rename(part.with_name("moved"))
    part.symlink_to(target)
    with pytest.raises(OSError, match="is a link") as caught:
        check_private(cached)
    assert caught.value.filename == str(part)


@pytest.mark.parametrize("depth", range(4))
def test_what_belongs_to_another_user_is_refused(
    cached: Path, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cached(cached, lambda file: file.write(b"content"))
    part, lstat = (cached, *cached.parents)[depth], Path.lstat

    def of_another(path: Path) -> os.stat_result:
        status = list(lstat(path))
        status[stat.ST_UID] += path == part
        return os.stat_result(status)

    monkeypatch.setattr(Path, "lstat", of_another)
    with pytest.raises(OSError, match="belongs to another user"):
        check_private(cached)


def test_the_user_may_have_a_link_to_the_whole_cache(cached: Path) -> None:
    elsewhere = cached.parents[4] / "elsewhere"
    elsewhere.mkdir()
    cached.parents[3].symlink_to(elsewhere)
    assert write_cached(cached, lambda file: file.write(b"content"))
    check_private(cached)


@pytest.mark.parametrize("depth", range(1, 5))
@pytest.mark.parametrize("way", ["file", "dangling link", "a link to itself"])
def test_a_cache_that_cannot_be_written_is_no_error(cached: Path, way: str, depth: int) -> None:
    part = cached.parents[depth - 1]
    part.parent.mkdir(parents=True, exist_ok=True)
    if way == "file":
        part.touch()
    else:
        part.symlink_to("missing/folder" if way == "dangling link" else part)
    assert not write_cached(cached, lambda file: file.write(b"content"))


def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    for home in ("relative", "./x"):
        monkeypatch.setenv("HOME", home)
        assert cache_folder() is None
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert cache_folder() is None
