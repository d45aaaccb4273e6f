"""The interfaces of engines and executors.

A study or search opens the engine that its configuration names, and the engine makes an executor.
Runs are submitted to the executor, which passes on their events until each has finished.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.store import Store

__all__ = ["Engine", "EngineConfig", "Executor"]


class EngineConfig(Protocol):
    """The fields of a study or search that say where its runs execute.

    ``spectrum.study.grid.GridConfig`` declares and describes them.
    """

    @property
    def engine(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def threads(self) -> int: ...  # noqa: D102
    @property
    def workers(self) -> int | None: ...  # noqa: D102
    @property
    def address(self) -> str | None: ...  # noqa: D102
    @property
    def gpus(self) -> float | None: ...  # noqa: D102


class Executor(Protocol):
    """Executes runs as they are submitted. Used as a context.

    Leaving the context ends the worker processes that the executor has started, and a run whose
    worker process dies is retried from its checkpoint (see ``spectrum.executors.local``). A
    ``DistributedExecutor`` starts no processes: an unfinished run ends with the command, and when a
    rank dies ``next_event`` raises ``RanksOutOfStep``.

    Attributes:
        workers: the most runs that it executes at the same time.
    """

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
        """The number of submitted runs whose ``finished`` event hasn't been returned yet."""

    def submit(self, run: RunConfig) -> None:
        """Execute a run as soon as a worker is free."""

    def stop(self, run_id: str) -> None:
        """Stop a run at the end of its current epoch and keep its checkpoint.

        It finishes with the status ``stopped``, unless it is already in its last epoch.
        """

    def next_event(self, timeout: float | None = None) -> RunEvent | None:
        """Wait for the next event of any run; None after ``timeout`` seconds without one.

        Raises:
            RanksOutOfStep: a run has ended on some ranks only; under ``torchrun`` alone.
        """


class Engine(Protocol):
    """A place where runs can execute, as ``--engine`` names it."""

    def make_executor(self, store: Store) -> Executor:
        """Make an executor that keeps the files of runs in a store."""
