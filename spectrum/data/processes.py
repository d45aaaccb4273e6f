"""Applies a function to many images in worker processes, with a progress bar."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

from rich.progress import Progress

from spectrum.data.source import Numbers
from spectrum.machine import cpu_count
from spectrum.terminal import make_console

Work = Callable[[Numbers], Any]

_CHUNK = 32  # images per call
_MAX_WITHOUT_POOL = 128  # so few images aren't worth starting processes for
_BAR_DELAY = 1.0  # seconds before the progress bar is shown

_work: Work  # the function of this worker process


def map_in_processes(
    work: Work, numbers: Numbers, *, title: str, processes: int | None = None
) -> Iterator[tuple[Numbers, Any]]:
    """Call a function with chunks of numbers, in worker processes if there are many numbers.

    Args:
        work: the function; it and its results can be pickled.
        numbers: of images.
        title: of the progress bar.
        processes: how many worker processes; None for as many as there are CPU cores.

    Yields:
        A chunk of the numbers and the function's result for it, in their order.

    Raises:
        OSError: a worker process died. What ``work`` raises is raised here too.
    """
    chunks = [numbers[i : i + _CHUNK] for i in range(0, len(numbers), _CHUNK)]
    count = min(cpu_count() if processes is None else processes, len(chunks))
    results = (
        _map_here(work, chunks)
        if count < 2 or len(numbers) <= _MAX_WITHOUT_POOL
        else _map_in_pool(work, chunks, count)
    )
    bar = Progress(console=make_console(stderr=True), transient=True)
    task = bar.add_task(title, total=len(numbers))
    shown_after = time.monotonic() + _BAR_DELAY
    try:
        for chunk, result in results:
            yield chunk, result
            bar.advance(task, len(chunk))
            if sys.stderr.isatty() and time.monotonic() >= shown_after:
                bar.start()
    except BrokenProcessPool:
        reason = "a process that decodes images has died, perhaps of too little memory"
        raise OSError(errno.ECHILD, reason) from None
    finally:
        bar.live.stop()  # unlike stop(), this prints nothing if the bar wasn't shown


def _map_here(work: Work, chunks: list[Numbers]) -> Iterator[tuple[Numbers, Any]]:
    for chunk in chunks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd files that it can read
            result = work(chunk)
        yield chunk, result


def _map_in_pool(work: Work, chunks: list[Numbers], count: int) -> Iterator[tuple[Numbers, Any]]:
    # A forked process shares the names of a million images. Forking is safe on Linux only.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    with ProcessPoolExecutor(count, context, _initialize_worker, (work,)) as pool:
        try:
            yield from zip(chunks, pool.map(_call_work, chunks), strict=True)
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
        wait([parent.sentinel])
        os._exit(1)


def _call_work(chunk: Numbers) -> Any:
    return _work(chunk)
