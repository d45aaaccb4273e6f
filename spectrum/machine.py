"""What this machine has to compute with: CPU cores, processes, devices, memory."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
_KEPT_BYTES = 1 << 30


def cpu_count() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def started_by_torchrun() -> bool:
    """Returns whether ``torchrun`` has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def cpu_threads(threads: int | None) -> Iterator[None]:
    """Sets torch's number of CPU threads for a ``with`` block; None leaves it as it is."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Keep the memory that this process frees, for what it allocates next.

    A training step frees what the next one needs again. The C library of Linux would give it back
    to the system in between, and each of its pages would cost a fault when it returns.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # only the GNU C library has it
        for parameter in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(parameter, _KEPT_BYTES)


def device_name(device: str) -> str:
    """Returns the model of a torch device; for a CPU, also its number of cores."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores"


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an exception says that the memory of the CPU or of a GPU ran out."""
    import torch

    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error) for words in ("allocate memory", "out of memory"))
    )
