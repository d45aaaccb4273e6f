"""Applies a function to many images in worker processes, with a progress bar."""

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
from multiprocessing.connection import wait as wait_for_sentinel
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from spectrum.machine import cpu_count

__all__ = ["map_in_processes"]

Numbers = npt.NDArray[np.int64]
Work = Callable[[Numbers], npt.NDArray[Any]]

_CHUNK = 32  # images per call
_MAX_WITHOUT_POOL = 128  # so few images aren't worth starting processes for
_BAR_DELAY = 1.0  # seconds before the progress bar is shown

_work: Work  # the function of this worker process


def map_in_processes(
    work: Work, numbers: Numbers, *, title: str, processes: int | None = None
) -> Iterator[tuple[Numbers, npt.NDArray[Any]]]:
    """Call a function with chunks of numbers, in worker processes if there are many numbers.

    Args:
        work: the function; it and its results can be pickled.
        numbers: of images.
        title: of the progress bar.
        processes: how many worker processes; None for as many as there are CPU cores.

    Yields:
        A chunk of the numbers and the function's result for it, in the order of completion.

    Raises:
        BrokenProcessPool: a worker process died. What ``work`` raises is raised here too.
    """
    chunks = [numbers[i : i + _CHUNK] for i in range(0, len(numbers), _CHUNK)]
    count = min(cpu_count() if processes is None else processes, len(chunks))
    with _ProgressBar(title, len(numbers)) as bar:
        results = (
            _map_here(work, chunks)
            if count < 2 or len(numbers) <= _MAX_WITHOUT_POOL
            else _map_in_pool(work, chunks, count)
        )
        for chunk, result in results:
            yield chunk, result
            bar.advance(len(chunk))


def _map_here(work: Work, chunks: list[Numbers]) -> Iterator[tuple[Numbers, npt.NDArray[Any]]]:
    for chunk in chunks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd files that it can read
            result = work(chunk)
        yield chunk, result


def _map_in_pool(
    work: Work, chunks: list[Numbers], count: int
) -> Iterator[tuple[Numbers, npt.NDArray[Any]]]:
    # A forked process shares the names of a million images. Forking is safe on Linux only.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(count, context, _initialize_worker, (work,)) as pool:
        pending: dict[Future[npt.NDArray[Any]], Numbers] = {}
        remaining = iter(chunks)
        try:
            while True:
                for chunk in remaining:
                    pending[pool.submit(_call_work, chunk)] = chunk
                    if len(pending) >= 3 * count:
                        break
                if not pending:
                    return
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    yield pending.pop(future), future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _initialize_worker(work: Work) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    warnings.simplefilter("ignore")
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_sentinel([parent.sentinel])
        os._exit(1)


def _call_work(chunk: Numbers) -> npt.NDArray[Any]:
    return _work(chunk)


class _ProgressBar:
    """A progress bar that appears after a second, if standard error is a terminal."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._started, self._shown = time.monotonic(), False
        self._progress = Progress(console=Console(stderr=True), transient=True)

    def __enter__(self) -> _ProgressBar:
        return self

    def advance(self, n: int) -> None:
        self._done += n
        if not self._shown:
            if not sys.stderr.isatty() or time.monotonic() < self._started + _BAR_DELAY:
                return
            self._progress.start()
            self._task = self._progress.add_task(self._title, total=self._total)
            self._shown = True
        self._progress.update(self._task, completed=self._done)

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._progress.stop()
