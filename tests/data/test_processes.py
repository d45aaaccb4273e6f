"""Every chunk is processed once, and only a terminal shows a progress bar."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spectrum.data import processes
from spectrum.data.processes import map_in_processes


def doubled(numbers: Any) -> Any:
    return 2 * numbers


def with_process(numbers: Any) -> Any:
    return np.full(len(numbers), os.getpid())


def failing(numbers: Any) -> Any:
    if 170 in numbers:
        raise OSError("170 can't be read")
    return numbers


@pytest.mark.parametrize(("n", "count"), [(0, None), (5, None), (200, 1), (200, 2), (1000, 3)])
def test_every_number_is_processed_once(n: int, count: int | None) -> None:
    numbers = np.arange(n) + 7
    results = list(map_in_processes(doubled, numbers, title="doubling", processes=count))
    assert sorted(i for chunk, _ in results for i in chunk) == numbers.tolist()
    for chunk, result in results:
        assert np.array_equal(result, 2 * chunk)


def test_few_images_need_no_worker_processes() -> None:
    for n, is_own in ((100, True), (200, False)):
        found = map_in_processes(with_process, np.arange(n), title="asking", processes=2)
        assert all(bool(result[0] == os.getpid()) == is_own for _, result in found)


def test_a_workers_error_is_raised_and_leaves_no_process() -> None:
    with pytest.raises(OSError, match=r"\A170 can't be read\Z"):
        list(map_in_processes(failing, np.arange(400), title="failing", processes=2))
    assert not multiprocessing.active_children()


def test_stopping_early_leaves_no_process() -> None:
    for _ in map_in_processes(doubled, np.arange(10_000), title="doubling", processes=2):
        break
    assert not multiprocessing.active_children()


def show(path: str) -> None:
    with open(path, "w") as sys.stderr:
        list(map_in_processes(doubled, np.arange(300), title="doubling", processes=2))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a terminal's file")
def test_a_progress_bar_appears_on_a_terminal_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(path: str) -> None:
        process = multiprocessing.get_context("fork").Process(target=show, args=(path,))
        process.start()
        process.join()
        assert process.exitcode == 0

    ours, terminal = os.openpty()
    os.set_blocking(ours, False)
    shown(os.ttyname(terminal))
    with pytest.raises(BlockingIOError):  # it was done at once
        os.read(ours, 1)
    monkeypatch.setattr(processes, "_BAR_DELAY", 0)
    shown(os.ttyname(terminal))
    assert b"doubling" in os.read(ours, 10_000)
    os.close(ours)
    os.close(terminal)
    (tmp_path / "file").touch()
    shown(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == ""
