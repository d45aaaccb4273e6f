"""The events of a run, from its start to its result.

Every executor's worker calls ``execute_run``. Its events are what the executor passes on to the
study or search.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from spectrum.runs.config import RunConfig
from spectrum.runs.execute import execute_safely
from spectrum.runs.store import Store

Kind: TypeAlias = Literal["started", "evaluation", "note", "finished"]


@dataclass(frozen=True)
class RunEvent:
    """Something that happened to a run.

    Attributes:
        kind: the kind of event.
        run_id: the id of the run.
        values: empty for ``started``, a line of the learning curve for ``evaluation``, the key
            ``text`` for ``note``, and the result of the run for ``finished``.
    """

    kind: Kind
    run_id: str
    values: dict[str, Any] = field(default_factory=dict)


OnEvent: TypeAlias = Callable[[RunEvent], None]


def execute_run(run: RunConfig, store: Store, device: str, report: OnEvent) -> None:
    """Execute a run in this process.

    Args:
        run: the run.
        store: where its files go.
        device: the device to train on.
        report: called with every event: one ``started``, then evaluations and notes, and one
            ``finished`` at the end, whatever goes wrong. Logged warnings become notes. It may
            raise ``RunStopped`` at an evaluation to stop the run.
    """
    report(RunEvent("started", run.id))
    with _warnings_sent_to(lambda text: report(RunEvent("note", run.id, {"text": text}))):
        result = execute_safely(
            run, store, device, lambda line: report(RunEvent("evaluation", run.id, dict(line)))
        )
    report(RunEvent("finished", run.id, result))


@contextmanager
def _warnings_sent_to(receive: Callable[[str], None]) -> Iterator[None]:
    """Pass the warnings that this package logs to ``receive`` instead of standard error."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            receive(record.getMessage())

    logger, handler = logging.getLogger("spectrum"), Handler(logging.WARNING)
    propagate_before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate_before
