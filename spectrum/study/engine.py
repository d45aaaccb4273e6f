"""Where runs execute: here, in local processes, in torchrun's, or on the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import torch

from spectrum.command import is_shared
from spectrum.data.processes import processors
from spectrum.study.cluster import open_cluster
from spectrum.study.events import Event, Report, execute_one
from spectrum.study.grid import GridConfig
from spectrum.study.plan import RunConfig
from spectrum.study.ranks import open_shared
from spectrum.study.store import Store
from spectrum.study.team import Team

__all__ = [
    "Crew",
    "Engine",
    "Local",
    "available_devices",
    "execute_runs",
    "how_many",
    "open_engine",
]


class Crew(Protocol):
    """What executes runs as they are submitted, as ``Team`` does; used as a context."""

    workers: int

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    @property
    def unfinished(self) -> int:
        """How many runs are waiting or being executed."""

    def submit(self, run: RunConfig) -> None:
        """Execute a run as soon as there is a place for it."""

    def stop(self, run_id: str) -> None:
        """Ask for a run to be stopped at the end of its epoch, with its checkpoint."""

    def next_event(self, timeout: float | None = None) -> Event | None:
        """The next thing that happened to a run; None when ``timeout`` seconds have passed."""


class Engine(Protocol):
    """Where runs execute."""

    def crew(self, store: Store) -> Crew:
        """What executes them, with their files in a store."""


@dataclass(frozen=True)
class Local:
    """This machine.

    Attributes:
        devices: shared out among the processes in turn.
        workers: processes; None for one a core, or one a GPU.
        threads: CPU threads of a run.
    """

    devices: Sequence[str]
    workers: int | None
    threads: int

    def crew(self, store: Store) -> Team:
        """Local processes, to be entered as a context."""
        workers = how_many(self.workers, self.devices, self.threads)
        return Team(store, self.devices, workers, self.threads)


@contextmanager
def open_engine(config: GridConfig) -> Iterator[Engine]:
    """The engine that a study or search asks for, reached and looked over.

    Raises:
        ValueError: it isn't there, or hasn't the device that is asked for.
    """
    if is_shared():
        yield open_shared(config)
    elif config.engine == "ray":
        with open_cluster(config) as cluster:
            yield cluster
    else:
        yield Local(available_devices(config.device), config.workers, config.threads)


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
    engine: Engine,
    report: Report,
) -> None:
    """Execute every run once and report what happens; failures are results, not exceptions.

    The number of workers changes no result: each run has threads of its own.

    Args:
        runs: different ones, in the order to begin them.
        store: where their files go.
        engine: where they execute; a single local worker is this process.
        report: called in this process with every event.
    """
    if isinstance(engine, Local):
        workers = how_many(engine.workers, engine.devices, engine.threads)
        if min(workers, len(runs)) <= 1:
            _execute_here(runs, store, engine.devices[0], engine.threads, report)
            return
    with engine.crew(store) as crew:
        for run in runs:
            crew.submit(run)
        while crew.unfinished:
            event = crew.next_event()
            assert event is not None
            report(event)


def how_many(workers: int | None, devices: Sequence[str], threads: int) -> int:
    """The processes to use: as given, or one a core (or a GPU) where that is None."""
    if workers is not None:
        return workers
    return max(processors() // threads, 1) if devices[0] == "cpu" else len(devices)


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
