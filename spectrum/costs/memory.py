"""The memory that a call allocates, and the memory that is available."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import torch
from torch.autograd.profiler import profile

_LOG_LEVEL = "KINETO_LOG_LEVEL"


def max_memory_allocated(call: Callable[[], object], device: torch.device) -> int:
    """The most bytes that a call has allocated at once, beyond what was allocated before it.

    On the CPU this is the maximum of ``memory_trace``. On a GPU it is torch's own count, which
    rounds sizes up to 512 bytes.
    """
    if device.type != "cuda":
        return max(memory_trace(call))
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def memory_trace(call: Callable[[], object]) -> list[int]:
    """The bytes allocated on the CPU after each allocation and release of a call, 0 first.

    This is the running sum of what torch's profiler records: the storages of all tensors, with
    their exact sizes. It doesn't include memory from before the call that the call releases, and
    memory that libraries allocate for themselves, such as oneDNN's reordered weights.
    """
    with _silence_profiler(), profile(profile_memory=True, use_kineto=False) as profiled:
        call()
    events = [e for e in profiled.kineto_results.events() if e.name() == "[memory]"]
    in_order = sorted(events, key=lambda event: event.start_ns())
    return list(accumulate((event.nbytes() for event in in_order), initial=0))


@contextmanager
def _silence_profiler() -> Iterator[None]:
    """Keep torch's profiler from writing to standard error when it starts and stops."""
    before = os.environ.get(_LOG_LEVEL)
    os.environ.setdefault(_LOG_LEVEL, "6")
    try:
        yield
    finally:
        if before is None:
            del os.environ[_LOG_LEVEL]


def memory_available(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of main memory that this process can still allocate without swapping.

    This is what the system reports as available, or what is left of the limit of the process's
    control group, or of a group above it, if that is less. File caches count as free. If the
    system reports nothing, it is all memory of the machine.

    Args:
        proc: the folder where the system reports its memory and this process's control group.
        cgroups: the folder where control groups, version 2, are mounted.
    """
    available = [left for left in _left_in_groups(proc, cgroups) if left is not None]
    try:
        lines = (proc / "meminfo").read_text().splitlines()
        available += [
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")
        ]
    except OSError:
        available.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return max(min(available), 0)


def _left_in_groups(proc: Path, cgroups: Path) -> Iterator[int | None]:
    """The bytes left of the limit of each control group of this process; None without a limit."""
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
        limit = int((group / "memory.max").read_text())  # "max" if there is no limit
        used = int((group / "memory.current").read_text())
        stat = (line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    caches = next((int(value) for key, value in stat if key == "inactive_file"), 0)
    return limit - (used - caches)
