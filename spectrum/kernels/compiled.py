"""Compiling Numba functions on the user's machine and running them on torch's threads.

Machine code is cached on disk (``cache.py``), by the function, a hash of this package's sources,
the versions of what compiles, and the processor. So a process compiles a kernel only if no process
did before it. Numba's own cache isn't used: it consists of pickles and machine code that it reads
unchecked, and it notices only changes in the file of the function itself.
"""

from __future__ import annotations

import ctypes
import hashlib
import inspect
import logging
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
import torch
from numba import cfunc, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from spectrum.kernels.availability import KernelMissing, give_up
from spectrum.kernels.cache import MachineCode, load_code, store_code

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compiled:
    """A compiled function.

    Attributes:
        address: where its machine code is in memory.
        library: Numba's library, whose end would free that memory.
    """

    address: int
    library: Any


def compile_function(signature: Any) -> Callable[[Callable[..., None]], Compiled]:
    """A decorator that compiles a function to machine code, or takes that from the cache.

    A problem with the cache is logged, and the function is compiled.

    Args:
        signature: Numba's signature of the function, which returns nothing.

    Raises:
        KernelMissing: the function can't be compiled on this machine.
    """

    def decorate(function: Callable[..., None]) -> Compiled:
        try:
            key = _key(function, signature)
            code = load_code(key)
            compiled = None if code is None else _link(code)
            return _compile(function, signature, key) if compiled is None else compiled
        except Exception as error:
            give_up(error)
            raise KernelMissing from error

    return decorate


def _key(function: Callable[..., None], signature: Any) -> str:
    """Everything that the machine code of a function depends on, as text."""
    closure = inspect.getclosurevars(function).nonlocals
    return "\n".join(
        map(
            str,
            (
                f"{function.__module__}.{function.__qualname__}",
                sorted(closure.items()),
                signature,
                _hash_of_sources(),
                numba.__version__,
                llvmlite.__version__,
                platform.python_version(),
                _target(),
            ),
        )
    )


def targets_avx512() -> bool:
    """Whether functions are compiled for a processor with AVX-512."""
    return "+avx512f" in _target()[2].split(",")


@cache
def _target() -> tuple[str, ...]:
    """The kind of processor that functions are compiled for: its triple, name and features."""
    target: tuple[str, ...] = cpu_target.target_context.codegen().magic_tuple()
    return target


@cache
def _hash_of_sources() -> str:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _link(code: MachineCode) -> Compiled | None:
    """Make machine code of the cache executable; None if this Numba can't."""
    context = cpu_target.target_context
    try:
        context.refresh()  # makes the functions known that the code may call
        with global_compiler_lock:
            state = (code.library, "object", (code.object_code, code.bitcode))
            library = context.codegen().unserialize_library(state)
            address = library.get_pointer_to_function(code.symbol)
    except Exception as error:
        _LOG.info("a cached kernel can't be used: %s", error)
        return None
    return Compiled(address, library) if address else None


def _compile(function: Callable[..., None], signature: Any, key: str) -> Compiled:
    """Compile a function and store its machine code."""
    compiled = cfunc(signature)(function)
    library = compiled._library
    try:
        if not library.has_dynamic_globals:  # those are addresses of this process
            name, _, (object_code, bitcode) = library.serialize_using_object_code()
            store_code(key, MachineCode(name, compiled.native_name, object_code, bitcode))
    except Exception as error:
        _LOG.info("a kernel can't be cached: %s", error)
    return Compiled(compiled.address, library)


@cache
def compile_kernel(function: Callable[..., None], dtype: torch.dtype) -> Compiled:
    """A kernel for ``run_kernel``, compiled for images of a type.

    Args:
        function: takes one argument, a pointer to the integers that ``run_kernel`` passes. The
            type of the pointer tells ``spectrum.kernels.simd`` the type of the images.
        dtype: float32 or bfloat16.

    Raises:
        KernelMissing: it can't be compiled on this machine.
    """
    pointed = types.uint16 if dtype == torch.bfloat16 else types.float32
    return compile_function(types.void(types.CPointer(pointed)))(function)


def run_kernel(function: Callable[..., None], dtype: torch.dtype, values: Sequence[int]) -> None:
    """Run a kernel on all of torch's threads at once.

    The work is divided into tasks. Each thread takes the next task from a shared counter until
    none is left.

    Args:
        function: the kernel, as ``compile_kernel`` takes it.
        dtype: of the images.
        values: addresses, counts and strides. The kernel's argument points to an array of 64-bit
            integers: two counters, which start at zero, then these values.

    Raises:
        KernelMissing: the kernel can't be compiled on this machine.
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
