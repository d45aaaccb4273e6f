"""How much memory a call holds at its peak, and how much there is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import torch
from torch.autograd.profiler import profile

__all__ = ["held_in_call", "is_out_of_memory", "memory_available", "peak_in_call"]

_LOG_LEVEL = "KINETO_LOG_LEVEL"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; on the CPU torch has no exception of its own for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error) for words in ("allocate memory", "out of memory"))
    )


def peak_in_call(call: Callable[[], object], device: torch.device) -> int:
    """The most bytes that torch's allocator holds during a call, beyond what it held before it.

    On the CPU this is the highest of ``held_in_call``. On a GPU it is torch's own count, where
    sizes are rounded up to 512 bytes.
    """
    if device.type != "cuda":
        return max(held_in_call(call))
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def held_in_call(call: Callable[[], object]) -> list[int]:
    """The bytes that torch's allocator holds on the CPU in the course of a call.

    It is the running sum of what torch's profiler sees allocated and freed, from 0 at the start
    on: the storages of all tensors, with their exact sizes. Not seen is what was
    there before and is freed in the call, and what libraries take for themselves, such as the
    reordered weights of oneDNN.
    """
    with _quiet(), profile(profile_memory=True, use_kineto=False) as profiled:
        call()
    seen = [e for e in profiled.kineto_results.events() if e.name() == "[memory]"]
    in_order = sorted(seen, key=lambda event: event.start_ns())
    return list(accumulate((event.nbytes() for event in in_order), initial=0))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the profiler from saying on the standard error that it begins and ends."""
    before = os.environ.get(_LOG_LEVEL)
    os.environ.setdefault(_LOG_LEVEL, "6")
    try:
        yield
    finally:
        if before is None:
            del os.environ[_LOG_LEVEL]


def memory_available(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of main memory that this process can still take without anything being swapped.

    What the system says is available, or what is left of the limit of the process's control group
    or of a group above it, where that is less; file caches count as free. Where neither can be
    read, all memory that is there.

    Args:
        proc: where the system tells of memory and of this process's group.
        cgroups: where version 2 of the control groups is mounted.
    """
    found = [left for left in _left_in_groups(proc, cgroups) if left is not None]
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return max(min(found), 0)


def _left_in_groups(proc: Path, cgroups: Path) -> Iterator[int | None]:
    """What is left of the limit of each group that this process is in."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        lines = []
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), "")
    group = Path(own)
    for folder in dict.fromkeys([group, *group.parents, Path()]):
        yield _left(cgroups / folder)


def _left(group: Path) -> int | None:
    try:
        limit = int((group / "memory.max").read_text())  # "max" where there is none
        used = int((group / "memory.current").read_text())
        stat = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    caches = next((int(value) for key, value in stat if key == "inactive_file"), 0)
    return limit - (used - caches)
