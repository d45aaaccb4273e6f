"""Compiling kernels on the user's machine, once."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numba import cfunc, types

__all__ = ["compiled", "kernel", "run"]


def compiled(signature: Any) -> Callable[[Callable[..., None]], Any]:
    """A decorator: compile a function to machine code, kept on disk for the next process.

    Args:
        signature: Numba's, of a function that returns nothing.
    """

    def compile_(function: Callable[..., None]) -> Any:
        with _kept() as kept:
            return cfunc(signature, cache=kept)(function)

    return compile_


@cache
def kernel(function: Callable[..., None], dtype: torch.dtype) -> Any:
    """A kernel for ``run``, compiled for images of a type.

    Args:
        function: of one argument, that points to what ``run`` is given. Its type is the images'
            kind, as ``spectrum.layers.kernels.simd`` understands it.
        dtype: float32 or bfloat16.
    """
    kind = types.uint16 if dtype == torch.bfloat16 else types.float32
    return compiled(types.void(types.CPointer(kind)))(function)


@contextmanager
def _kept() -> Iterator[bool]:
    """Have Numba keep what it compiles in a folder of these very sources; whether it can.

    Numba itself notices a change in the file of a function, not in those of what it calls.
    """
    folder = _folder()
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = folder
    try:
        yield bool(folder)
    finally:
        numba.config.CACHE_DIR = before


@cache
def _folder() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {torch.__version__}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "spectrum" / "kernels" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return str(folder) if os.access(folder, os.W_OK) else ""


def run(function: Callable[..., None], dtype: torch.dtype, numbers: Sequence[int]) -> None:
    """Run a kernel on torch's threads at once, each taking tasks until there are none.

    Args:
        function: as ``kernel`` takes it.
        dtype: of the images.
        numbers: addresses, counts and steps; what the function's argument points to are two
            counters, zero at first, and these.
    """
    given = np.array([0, 0, *numbers], dtype=np.int64)
    address = kernel(function, dtype).address
    threads = torch.get_num_threads()
    openmp = _openmp()
    if openmp is not None and threads > 1:
        # torch's own threads: they are awake, and no others compete with them.
        openmp(address, given.ctypes.data, threads, 0)
        return
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
    if threads == 1:
        call(given.ctypes.data)
        return
    calls = [_threads(threads).submit(call, given.ctypes.data) for _ in range(threads)]
    for one in calls:
        one.result()


@cache
def _openmp() -> Any:
    """GNU's entry to the OpenMP that torch brings along; None where it is of another kind."""
    for library in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        start = ctypes.CDLL(str(library)).GOMP_parallel
        start.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        return start
    return None


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="spectrum-kernel")
