from pathlib import Path

import pytest
import torch

from spectrum.costs.memory import max_memory_allocated, memory_available, memory_trace
from spectrum.machine import is_out_of_memory

GIB = 2**30


def test_the_trace_follows_allocations_and_releases() -> None:
    def call() -> None:
        a = torch.empty(1000)
        b = torch.empty(500)
        del a
        c = torch.empty(100)
        del b, c

    assert memory_trace(call) == [0, 4000, 6000, 2000, 2400, 400, 0]
    assert max_memory_allocated(call, torch.device("cpu")) == 6000
    assert memory_trace(int) == [0]


def test_the_profiler_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    memory_trace(lambda: torch.empty(1))
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The files of a system that reports 8 GiB available and has no control groups."""
    proc = tmp_path / "proc" / "self"
    proc.mkdir(parents=True)
    (proc.parent / "meminfo").write_text(
        f"MemTotal: {16 * 2**20} kB\nMemAvailable:  {8 * 2**20} kB\nCached: 1 kB\n"
    )
    return tmp_path


def group(folder: Path, limit: str, used: int, caches: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {caches}\nactive_file 7\n")


def test_available_memory_is_what_the_system_reports(system: Path) -> None:
    assert memory_available(system / "proc", system / "groups") == 8 * GIB


def test_a_control_group_limits_the_memory(system: Path) -> None:
    group(system / "groups", str(4 * GIB), 3 * GIB, 2 * GIB)
    assert memory_available(system / "proc", system / "groups") == 3 * GIB
    group(system / "groups", str(4 * GIB), 5 * GIB)
    assert memory_available(system / "proc", system / "groups") == 0
    group(system / "groups", "max", 3 * GIB)
    assert memory_available(system / "proc", system / "groups") == 8 * GIB
    group(system / "groups", str(64 * GIB), 1 * GIB)
    assert memory_available(system / "proc", system / "groups") == 8 * GIB


def test_the_limits_of_parent_groups_hold(system: Path) -> None:
    (system / "proc" / "self" / "cgroup").write_text("0::/users/me/shell\n")
    groups = system / "groups"
    group(groups / "users" / "me" / "shell", "max", GIB)
    group(groups / "users" / "me", str(6 * GIB), GIB)
    group(groups / "users" / "you", str(2 * GIB), GIB)
    assert memory_available(system / "proc", groups) == 5 * GIB
    group(groups / "users", str(4 * GIB), GIB)
    assert memory_available(system / "proc", groups) == 3 * GIB


def test_a_system_that_reports_nothing_has_all_its_memory(tmp_path: Path) -> None:
    assert memory_available(tmp_path, tmp_path) > 2**20
    assert 0 < memory_available() <= memory_available(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("error", "ran_out"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("sizes must match"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_out_of_memory_errors_are_recognised(error: Exception, ran_out: bool) -> None:
    assert is_out_of_memory(error) == ran_out
