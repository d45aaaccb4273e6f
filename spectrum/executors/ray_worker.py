"""The worker of ``RayExecutor``, a Ray actor that executes one run at a time on its node.

The run's files are in a temporary store on the node. The executor polls the worker for updates:
events with the checkpoint, and at the end the result with all files, as plain values and bytes.
"""

from __future__ import annotations

import os
import queue
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from spectrum.executors.base import execute_until_stopped
from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.execute import status_and_reason
from spectrum.runs.store import Store

_CHECKPOINT = "checkpoint.pt"
# The files of a run in the order in which they are written; result.json says that it is finished.
_FILES = (
    _CHECKPOINT,
    "config.json",
    "curve.jsonl",
    "predictions.npz",
    "weights.safetensors",
    "error.txt",
    "result.json",
)
_PREFIX = "spectrum-"  # of the temporary stores' names
_POLL_INTERVAL = 30  # seconds without an event after which a new checkpoint is looked for


@dataclass(frozen=True)
class RunUpdate:
    """An event of a run, new files of it, or both.

    Attributes:
        event: the event; None if there are only files.
        files: the content of files by name: a new checkpoint, or all files of a finished run.
    """

    event: RunEvent | None
    files: Mapping[str, bytes] = field(default_factory=dict)


class RayWorker:
    """Executes one run at a time. Ray calls ``execute`` and ``updates`` in different threads.

    Args:
        folder: the working directory, if the node has it; relative paths of data start there.
        paths: folders appended to ``sys.path``, for a user's own model.
        threads: the CPU threads of each run.
        device: the device to train on.
    """

    def __init__(self, folder: str, paths: Sequence[str], threads: int, device: str) -> None:
        with suppress(OSError):
            os.chdir(folder)
        sys.path += [path for path in paths if path not in sys.path]
        _remove_abandoned_stores()
        self._root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        self._threads = threads
        self._device = device
        self._lock = threading.Lock()
        self._outbox: queue.Queue[RunUpdate] = queue.Queue()
        self._to_stop: set[str] = set()
        self._sent: tuple[str, int] | None = None  # the run and mtime of the last checkpoint sent
        self._current_run: str | None = None

    def execute(
        self,
        run_id: str,
        fields: dict[str, Any],
        final_store: str,
        checkpoint: bytes | None,
        initial_weights: bytes | None,
    ) -> None:
        """Execute a run. ``updates`` returns its events, of which the last is ``finished``.

        Args:
            run_id: the id of the run.
            fields: the fields of its ``RunConfig``.
            final_store: the folder of the executor's store, which receives the files.
            checkpoint: the content of the checkpoint to continue from, if there is one.
            initial_weights: the content of the file of initial weights, if the run has given ones.
        """
        store = Store(self._root)

        def report(event: RunEvent) -> None:
            files: dict[str, bytes] = {}
            if event.kind == "finished":
                self._current_run = None
                event, files = _final_update(event, store, final_store)
            self._outbox.put(RunUpdate(event, files))

        with self._lock:  # the files of the previous run may not have been removed yet
            self._to_stop.discard(run_id)
            torch.set_num_threads(self._threads)
            try:
                run = RunConfig(**fields)
                store.folder(run_id).mkdir()
                if checkpoint is not None:
                    store.checkpoint_path(run_id).write_bytes(checkpoint)
                    self._new_checkpoint(run_id)  # the executor has this one, so it counts as sent
                if initial_weights is not None:
                    store.save_initial_weights(run.start, safetensors.torch.load(initial_weights))
                self._current_run = run_id
                execute_until_stopped(run, store, self._device, report, self._to_stop)
            except Exception as error:  # before or after the training, such as a full disk
                status, reason = status_and_reason(error)
                event = RunEvent("finished", run_id, {"status": status, "error": reason})
                self._outbox.put(RunUpdate(event))
            finally:
                self._current_run = None
                shutil.rmtree(store.folder(run_id), ignore_errors=True)

    def updates(self) -> list[RunUpdate]:
        """Wait for events and return all since the last call; a new checkpoint comes before them.

        After ``_POLL_INTERVAL`` seconds without an event it is a new checkpoint alone, or nothing.
        """
        found = []
        with suppress(queue.Empty):
            found.append(self._outbox.get(timeout=_POLL_INTERVAL))
            while True:
                found.append(self._outbox.get_nowait())
        # It is read after the events were taken, so it holds the epochs that they tell of.
        run_id = self._current_run
        files = self._new_checkpoint(run_id) if run_id else {}
        return [RunUpdate(None, files), *found] if files else found

    def stop(self, run_id: str) -> None:
        """Stop a run at the end of its current epoch, unless that is its last one."""
        self._to_stop.add(run_id)

    def shut_down(self) -> None:
        """Remove the temporary store and end this process at once."""
        shutil.rmtree(self._root, ignore_errors=True)
        os._exit(0)

    def _new_checkpoint(self, run_id: str) -> dict[str, bytes]:
        """The checkpoint of a run as files of an update; {} if it was sent already."""
        path = Store(self._root).checkpoint_path(run_id)
        with suppress(FileNotFoundError):
            version = (run_id, path.stat().st_mtime_ns)
            if version != self._sent:
                self._sent = version
                return {_CHECKPOINT: path.read_bytes()}
        return {}


def _final_update(
    event: RunEvent, store: Store, final_store: str
) -> tuple[RunEvent, dict[str, bytes]]:
    """The ``finished`` event of a run for the executor, and all files of the run.

    Args:
        event: the event.
        store: the temporary store.
        final_store: the folder that replaces the temporary store's in the reason of a failure.
    """
    values = dict(event.values)
    if values["status"] == "failed":
        values["error"] = values["error"].replace(str(store.root), final_store)
    folder = store.folder(event.run_id)
    files = {name: (folder / name).read_bytes() for name in _FILES if (folder / name).exists()}
    return RunEvent("finished", event.run_id, values), files


def _remove_abandoned_stores() -> None:
    """Remove the temporary stores of workers on this machine that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}[0-9]*-*"):
        try:
            os.kill(int(folder.name.split("-")[1]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, OSError):
            pass  # not one of these stores, or one of another user
