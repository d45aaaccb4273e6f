"""What happens to runs, and one run executed in this process with all that happens reported."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from spectrum.study.plan import RunConfig
from spectrum.study.run import attempt
from spectrum.study.store import Store

__all__ = ["Event", "Report", "execute_one"]

Kind: TypeAlias = Literal["started", "evaluation", "note", "finished"]


@dataclass(frozen=True)
class Event:
    """Something that happened to a run.

    Attributes:
        kind: ``started``, ``evaluation`` (a line of the curve), ``note`` (``text``) or
            ``finished`` (the result).
        run_id: the run.
        values: what the kind brings.
    """

    kind: Kind
    run_id: str
    values: dict[str, Any] = field(default_factory=dict)


Report: TypeAlias = Callable[[Event], None]


def execute_one(run: RunConfig, store: Store, device: str, report: Report) -> None:
    """Execute a run in this process and report all that happens, what is logged included."""
    report(Event("started", run.id))
    with _logged(lambda text: report(Event("note", run.id, {"text": text}))):
        result = attempt(
            run, store, device, lambda line: report(Event("evaluation", run.id, dict(line)))
        )
    report(Event("finished", run.id, result))


@contextmanager
def _logged(say: Callable[[str], None]) -> Iterator[None]:
    """Hand the package's warnings to ``say`` instead of the standard error."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    logger, handler = logging.getLogger("spectrum"), Handler(logging.WARNING)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
