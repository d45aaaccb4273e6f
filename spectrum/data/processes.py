"""Work on many images in several processes, with a bar where it takes long."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.connection import wait as wait_for_end
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

__all__ = ["in_processes", "processors"]

Numbers = npt.NDArray[np.int64]
Work = Callable[[Numbers], npt.NDArray[Any]]

_AT_ONCE = 32  # images that a process is given at a time
_FEW = 128  # that processes aren't worth starting for
_QUIET = 1.0  # seconds before a bar is shown

_work: Work  # of a process that was started here


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(
    work: Work, numbers: Numbers, *, title: str, processes: int | None = None
) -> Iterator[tuple[Numbers, npt.NDArray[Any]]]:
    """Apply a function to some numbers at a time, until all had their turn.

    Args:
        work: what is done; it can be pickled, and so can what it returns.
        numbers: of images.
        title: of the progress bar.
        processes: how many at a time; None for as many as there are processors.

    Yields:
        Some of the numbers and what was returned for them, as they come.

    Raises:
        BrokenProcessPool: a process died. What ``work`` raises is raised here.
    """
    chunks = [numbers[i : i + _AT_ONCE] for i in range(0, len(numbers), _AT_ONCE)]
    count = min(processors() if processes is None else processes, len(chunks))
    with _Bar(title, len(numbers)) as bar:
        results = (
            _here(work, chunks)
            if count < 2 or len(numbers) <= _FEW
            else _elsewhere(work, chunks, count)
        )
        for chunk, result in results:
            yield chunk, result
            bar.advance(len(chunk))


def _here(work: Work, chunks: list[Numbers]) -> Iterator[tuple[Numbers, npt.NDArray[Any]]]:
    for chunk in chunks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of odd files that it reads all the same
            result = work(chunk)
        yield chunk, result


def _elsewhere(
    work: Work, chunks: list[Numbers], count: int
) -> Iterator[tuple[Numbers, npt.NDArray[Any]]]:
    # A fork shares the names of a million images; elsewhere than on Linux it isn't safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(count, context, _begin, (work,)) as pool:
        pending: dict[Future[npt.NDArray[Any]], Numbers] = {}
        left = iter(chunks)
        try:
            while True:
                for chunk in left:
                    pending[pool.submit(_call, chunk)] = chunk
                    if len(pending) >= 3 * count:
                        break
                if not pending:
                    return
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    yield pending.pop(future), future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(work: Work) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started this process ends it
    warnings.simplefilter("ignore")
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        os._exit(1)


def _call(chunk: Numbers) -> npt.NDArray[Any]:
    return _work(chunk)


class _Bar:
    """Progress on a terminal's standard error, once it takes long."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._began, self._shown = time.monotonic(), False
        self._progress = Progress(console=Console(stderr=True), transient=True)

    def __enter__(self) -> _Bar:
        return self

    def advance(self, n: int) -> None:
        self._done += n
        if not self._shown:
            if not sys.stderr.isatty() or time.monotonic() < self._began + _QUIET:
                return
            self._progress.start()
            self._task = self._progress.add_task(self._title, total=self._total)
            self._shown = True
        self._progress.update(self._task, completed=self._done)

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._progress.stop()
