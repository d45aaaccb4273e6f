"""Compiling Numba functions on the user's machine and running them on torch's threads.

Machine code is cached on disk, in a folder named by a hash of this package's sources and of the
versions of Numba and torch. So a process compiles a kernel only if no process did before it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numba import cfunc, types

from spectrum.files import cache_folder


def compile_function(signature: Any) -> Callable[[Callable[..., None]], Any]:
    """A decorator that compiles a function to machine code and caches it on disk.

    Numba's cache is this package's folder meanwhile. Numba itself notices only changes in the file
    of the function that it compiles, not in the files of the functions that this one calls.

    Args:
        signature: Numba's signature of the function, which returns nothing.
    """

    def decorate(function: Callable[..., None]) -> Any:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = _cache_directory()
        try:
            return cfunc(signature, cache=bool(_cache_directory()))(function)
        finally:
            numba.config.CACHE_DIR = before

    return decorate


@cache
def compile_kernel(function: Callable[..., None], dtype: torch.dtype) -> Any:
    """A kernel for ``run_kernel``, compiled for images of a type.

    Args:
        function: takes one argument, a pointer to the integers that ``run_kernel`` passes. The
            type of the pointer tells ``spectrum.kernels.simd`` the type of the images.
        dtype: float32 or bfloat16.
    """
    pointed = types.uint16 if dtype == torch.bfloat16 else types.float32
    return compile_function(types.void(types.CPointer(pointed)))(function)


@cache
def _cache_directory() -> str:
    """The folder of the machine code; empty where there is none to write to."""
    digest = hashlib.sha256(f"{numba.__version__} {torch.__version__}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    folder = cache_folder("kernels", digest.hexdigest()[:16])
    if folder is None:
        return ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""
    return str(folder) if os.access(folder, os.W_OK) else ""


def run_kernel(function: Callable[..., None], dtype: torch.dtype, values: Sequence[int]) -> None:
    """Run a kernel on all of torch's threads at once.

    The work is divided into tasks. Each thread takes the next task from a shared counter until
    none is left.

    Args:
        function: the kernel, as ``compile_kernel`` takes it.
        dtype: of the images.
        values: addresses, counts and strides. The kernel's argument points to an array of 64-bit
            integers: two counters, which start at zero, then these values.
    """
    args = np.array([0, 0, *values], dtype=np.int64)
    address = compile_kernel(function, dtype).address
    threads = torch.get_num_threads()
    gomp_parallel = _gomp_parallel()
    if gomp_parallel is not None and threads > 1:
        # torch's own threads are awake already, and no other threads compete with them.
        gomp_parallel(address, args.ctypes.data, threads, 0)
        return
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
    if threads == 1:
        call(args.ctypes.data)
    else:
        list(_thread_pool(threads).map(call, [args.ctypes.data] * threads))


@cache
def _gomp_parallel() -> Any:
    """The entry point of the GNU OpenMP library that torch ships; None if it ships another."""
    for library in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        start = ctypes.CDLL(str(library)).GOMP_parallel
        start.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        return start
    return None


@cache
def _thread_pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="spectrum-kernel")
