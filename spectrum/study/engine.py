"""Where runs execute: in this process, or in local processes that are handed one run at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from spectrum.study.events import Report, execute_one
from spectrum.study.plan import RunConfig
from spectrum.study.store import Store
from spectrum.study.team import Team

__all__ = ["available_devices", "execute_runs", "how_many"]


def available_devices(device: str) -> list[str]:
    """The devices that ``device`` stands for: ``auto`` and ``cuda`` are all GPUs, if any.

    Raises:
        ValueError: this machine doesn't have it.
    """
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if device == "auto":
        return gpus or ["cpu"]
    if device == "cuda" and gpus:
        return gpus
    if device == "cpu" or device in gpus:
        return [device]
    raise ValueError(f"device (={device!r}) must be one of auto, {', '.join(['cpu', *gpus])} here")


def execute_runs(
    runs: Sequence[RunConfig],
    store: Store,
    *,
    devices: Sequence[str],
    workers: int | None,
    threads: int,
    report: Report,
) -> None:
    """Execute every run once and report what happens; failures are results, not exceptions.

    The number of workers changes no result: each run has ``threads`` threads of its own.

    Args:
        runs: different ones, in the order to begin them.
        store: where their files go.
        devices: shared out among the workers in turn.
        workers: processes; 1 executes in this process, None is one a core, or one a GPU.
        threads: CPU threads of a run.
        report: called in this process with every event.
    """
    workers = min(how_many(workers, devices, threads), len(runs))
    if workers <= 1:
        _execute_here(runs, store, devices[0], threads, report)
        return
    with Team(store, devices, workers, threads) as team:
        for run in runs:
            team.submit(run)
        while team.unfinished:
            event = team.next_event()
            assert event is not None
            report(event)


def how_many(workers: int | None, devices: Sequence[str], threads: int) -> int:
    """The processes to use: as given, or one a core (or a GPU) where that is None."""
    if workers is not None:
        return workers
    return max(_cores() // threads, 1) if devices[0] == "cpu" else len(devices)


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _execute_here(
    runs: Sequence[RunConfig], store: Store, device: str, threads: int, report: Report
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for run in runs:
            execute_one(run, store, device, report)
    finally:
        torch.set_num_threads(before)
