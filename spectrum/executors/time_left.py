"""How long runs will still take, and how that is said."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from spectrum.errors import counted
from spectrum.runs.events import RunEvent


class EpochClock:
    """Measures how long an epoch takes, from the events of runs that are executed side by side.

    Attributes:
        epochs: how many epochs were trained.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.epochs = 0
        self._clock = clock
        self._seconds = 0.0  # of all runs, from one event to the next
        self._running: dict[str, tuple[float, float]] = {}

    def add(self, event: RunEvent) -> None:
        """Take an event into account."""
        now = self._clock()
        last, trained = self._running.get(event.run_id, (now, 0.0))
        if event.kind == "started":
            self._running[event.run_id] = now, 0.0
        elif event.kind == "evaluation":
            seconds = float(event.values["seconds"])
            # The evaluations in a checkpoint are reported again, at once.
            if now - last >= (seconds - trained) / 2:
                self.epochs += 1
                self._seconds += now - last
            self._running[event.run_id] = now, seconds
        elif event.kind == "finished" and event.run_id in self._running:
            self._seconds += now - last
            del self._running[event.run_id]

    def seconds_left(self, epochs: float) -> float | None:
        """About how many seconds a number of epochs takes, with as many runs side by side as now.

        None before the first epoch has been trained.
        """
        if not self.epochs:
            return None
        return epochs * self._seconds / self.epochs / max(len(self._running), 1)


def describe_time_left(seconds: float, now: datetime) -> str:
    """Says how long something still takes and when it ends, such as ``5 min left, ETA 16:42``.

    Args:
        seconds: how long it takes.
        now: the time.
    """
    end = now + timedelta(seconds=seconds)
    at = f"{end:%H:%M}" if end.date() == now.date() else f"{end:%Y-%m-%d %H:%M}"
    return f"{_duration(seconds)} left, ETA {at}"


def _duration(seconds: float) -> str:
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = round(seconds / 3600)
    if hours < 24:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{counted(hours // 24, 'day')} {hours % 24} h"
