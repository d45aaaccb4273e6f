"""Opens the engine that a study or search asks for, and executes runs on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from spectrum.errors import FieldError
from spectrum.executors.base import Engine, EngineConfig
from spectrum.executors.distributed import open_torchrun
from spectrum.executors.local import LocalEngine, available_devices, worker_count
from spectrum.executors.ray_cluster import open_ray
from spectrum.executors.slurm import open_slurm
from spectrum.machine import cpu_threads, started_by_torchrun
from spectrum.runs.config import RunConfig
from spectrum.runs.events import OnEvent, execute_run
from spectrum.runs.store import Store

_MOST = 1024  # threads of a run, and workers; OpenMP ends a process that asks for far more


@contextmanager
def open_engine(config: EngineConfig) -> Iterator[Engine]:
    """Open the engine that a study or search asks for, and check that it has what is needed.

    Raises:
        ValueError: the engine can't be reached or doesn't have the requested device, or a number
            is far beyond any machine.
    """
    for field, value in (("threads", config.threads), ("workers", config.workers or 1)):
        if value > _MOST:
            raise FieldError(field, value, f"must be at most {_MOST}")
    if started_by_torchrun():
        yield open_torchrun(config)
    elif config.engine == "ray":
        with open_ray(config) as engine:
            yield engine
    elif config.engine == "slurm":
        yield open_slurm(config)
    else:
        devices = available_devices(config.device)
        workers = worker_count(config.workers, devices, config.threads)
        yield LocalEngine(devices, workers, config.threads)


def execute_runs(
    runs: Sequence[RunConfig],
    store: Store,
    engine: Engine,
    report: OnEvent,
) -> None:
    """Execute every run once and report all events. A failure is a result, not an exception.

    The number of workers changes no result, since each run has its own threads.

    Args:
        runs: distinct runs, in the order in which to start them.
        store: where their files go.
        engine: where they execute. If one local worker is enough, it is this process.
        report: called in this process with every event.
    """
    if isinstance(engine, LocalEngine) and min(engine.workers, len(runs)) <= 1:
        with cpu_threads(engine.threads):
            for run in runs:
                execute_run(run, store, engine.devices[0], report)
        return
    with engine.make_executor(store) as executor:
        for run in runs:
            executor.submit(run)
        while executor.unfinished:
            event = executor.next_event()
            assert event is not None
            report(event)
