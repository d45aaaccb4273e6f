"""Passes the events of a study or search to its trackers and to the user's ``on_event``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from spectrum.errors import FieldError, printable
from spectrum.tracking.events import (
    OnStudyEvent,
    RunEvaluated,
    RunFinished,
    RunStarted,
    StudyEvent,
    StudyFinished,
)
from spectrum.tracking.tracker import Tracker, pass_on


def check_installed(names: Sequence[str]) -> None:
    """Checks that the packages of trackers are installed.

    Raises:
        FieldError: one isn't; the message says how to install it.
    """
    for name in names:
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a folder of that name isn't the package
            allowed = f"needs a package: pip install 'segment-spectrum[{name}]'"
            raise FieldError("track", name, allowed)


@contextmanager
def open_listeners(
    names: Sequence[str],
    study: str,
    folder: Path,
    on_event: OnStudyEvent | None,
    warn: Callable[[str], None],
) -> Iterator[OnStudyEvent]:
    """Open the trackers of a study, and close them at the end.

    What is yielded takes the events of runs in any number of attempts, and passes on each start,
    each epoch and each end of a run once. A tracker that fails gets no further events, and the
    study goes on.

    Args:
        names: the names of the trackers.
        study: the name of the study.
        folder: its folder.
        on_event: the user's own listener.
        warn: called with one line for each listener that fails.
    """
    listeners = _Listeners(warn)
    if on_event:
        listeners.called["on_event"] = on_event
    trackers: dict[str, Tracker] = {}

    def open_tracker(name: str) -> None:
        trackers[name] = tracker = _make_tracker(name, study, folder)
        listeners.called[name] = partial(pass_on, tracker, {})

    for name in dict.fromkeys(names):
        listeners.attempt(name, partial(open_tracker, name))
    try:
        yield listeners
    finally:
        for name, tracker in trackers.items():
            listeners.attempt(name, tracker.close)


def _make_tracker(name: str, study: str, folder: Path) -> Tracker:
    if name == "tensorboard":
        from spectrum.tracking.tensorboard import TensorBoardTracker

        return TensorBoardTracker(folder)
    if name == "mlflow":
        from spectrum.tracking.mlflow import MlflowTracker

        return MlflowTracker(study, folder)
    from spectrum.tracking.wandb import WandbTracker

    return WandbTracker(study, folder)


class _Listeners:
    """Calls listeners until they fail.

    Attributes:
        called: the listeners by name.

    Args:
        warn: called with one line for each that fails.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.called: dict[str, OnStudyEvent] = {}
        self._warn = warn
        self._failed: set[str] = set()
        self._epochs: dict[str, int] = {}  # passed on, of the runs that have started
        self._over: set[str] = set()

    def __call__(self, event: StudyEvent) -> None:
        """Pass on an event that is new."""
        if self._is_new(event):
            for name, listener in self.called.items():
                self.attempt(name, partial(listener, event))

    def attempt(self, name: str, work: Callable[[], None]) -> None:
        """Do something for a listener, unless it has failed before."""
        if name in self._failed:
            return
        try:
            work()
        except Exception as error:  # training goes on, whatever is wrong with a tracker
            self._failed.add(name)
            text = next(iter(str(error).splitlines()), "")
            reason = re.sub(r"//[^/@\s]*@", "//***@", f"{type(error).__name__}: {text}")
            self._warn(f"{name} gets no further events, since it failed: {printable(reason)}")

    def _is_new(self, event: StudyEvent) -> bool:
        if isinstance(event, StudyFinished):
            return True
        if isinstance(event, RunStarted):
            if event.run_id in self._epochs or event.run_id in self._over:
                return False
            self._epochs[event.run_id] = 0
            return True
        if event.run_id not in self._epochs:
            return False
        if isinstance(event, RunEvaluated):
            epoch = int(event.values["epoch"])
            if epoch <= self._epochs[event.run_id]:
                return False
            self._epochs[event.run_id] = epoch
        elif isinstance(event, RunFinished):
            del self._epochs[event.run_id]
            if event.is_final:
                self._over.add(event.run_id)
        return True
