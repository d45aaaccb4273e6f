"""What executes runs on a node of a cluster: each in a scratch store that only the node sees.

What happens to a run, and the files that it leaves, are handed on as plain values and bytes.
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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from spectrum.study.events import Event, execute_one
from spectrum.study.plan import RunConfig
from spectrum.study.run import Stopped, explain
from spectrum.study.store import Store

__all__ = ["CHECKPOINT", "News", "Performer"]

CHECKPOINT = "checkpoint.pt"
_PREFIX = "spectrum-"
_LOOK = 30  # seconds until a checkpoint is looked for that came without an event


@dataclass(frozen=True)
class News:
    """What is new of a run.

    Attributes:
        run_id: the run.
        event: None where there are only files.
        files: their content by name; of a finished run all that it leaves.
    """

    run_id: str
    event: Event | None
    files: Mapping[str, bytes] = field(default_factory=dict)


class Performer:
    """Executes one run at a time; ``execute`` and ``news`` are called by threads of their own.

    Args:
        folder: to work in, where this machine has it; relative paths of data begin there.
        paths: where to import a user's own model from, after all else.
        threads: CPU threads of a run.
        device: where to train.
    """

    def __init__(self, folder: str, paths: Sequence[str], threads: int, device: str) -> None:
        with suppress(OSError):
            os.chdir(folder)
        sys.path += [path for path in paths if path not in sys.path]
        _clear_abandoned()
        self._root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        self._threads = threads
        self._device = device
        self._alone = threading.Lock()
        self._outbox: queue.Queue[News] = queue.Queue()
        self._unwanted: set[str] = set()
        self._sent: tuple[str, int] | None = None  # the run and the time of the last checkpoint
        self._at_work: str | None = None

    def execute(
        self,
        run_id: str,
        fields: dict[str, Any],
        home: str,
        checkpoint: bytes | None,
        start: bytes | None,
    ) -> None:
        """Execute a run; ``news`` gives all that happens, a finish always among it.

        Args:
            run_id: the run.
            fields: of its ``RunConfig``.
            home: the folder of the store that the files go to in the end.
            checkpoint: the file to go on from, if there is one.
            start: the file of the weights to start from, if the run has such.
        """
        with self._alone:  # the files of the last run may still be being removed
            self._execute(run_id, fields, home, checkpoint, start)

    def _execute(
        self,
        run_id: str,
        fields: dict[str, Any],
        home: str,
        checkpoint: bytes | None,
        start: bytes | None,
    ) -> None:
        store = Store(self._root)
        self._unwanted.discard(run_id)
        torch.set_num_threads(self._threads)

        def report(event: Event) -> None:
            if event.kind == "finished":
                self._at_work = None
                self._outbox.put(_farewell(event, store, home))
                return
            self._outbox.put(News(run_id, event, self._fresh(run_id)))
            stops = event.kind == "evaluation" and run_id in self._unwanted
            if stops and event.values["epoch"] < fields["recipe"]["epochs"]:
                raise Stopped

        try:
            run = RunConfig(**fields)
            store.folder(run_id).mkdir()
            if checkpoint is not None:
                store.checkpoint(run_id).write_bytes(checkpoint)
                self._fresh(run_id)
            if start is not None:
                store.keep_start(run.start, safetensors.torch.load(start))
            self._at_work = run_id
            execute_one(run, store, self._device, report)
        except Exception as error:  # outside of the training, as where there is no room for files
            status, reason = explain(error)
            event = Event("finished", run_id, {"status": status, "error": reason})
            self._outbox.put(News(run_id, event))
        finally:
            self._at_work = None
            shutil.rmtree(store.folder(run_id), ignore_errors=True)

    def news(self) -> list[News]:
        """What has happened since the last call, waited for; of checkpoints only the newest.

        In a long epoch it may be a checkpoint alone, or nothing.
        """
        try:
            found = [self._outbox.get(timeout=_LOOK)]
        except queue.Empty:
            run_id = self._at_work
            files = self._fresh(run_id) if run_id else {}
            return [News(run_id, None, files)] if run_id and files else []
        with suppress(queue.Empty):
            while True:
                found.append(self._outbox.get_nowait())
        newest = max((i for i, news in enumerate(found) if CHECKPOINT in news.files), default=0)
        return [
            news if i >= newest or CHECKPOINT not in news.files else replace(news, files={})
            for i, news in enumerate(found)
        ]

    def stop(self, run_id: str) -> None:
        """Ask for a run to be stopped at the end of its epoch, unless that is its last."""
        self._unwanted.add(run_id)

    def leave(self) -> None:
        """End this process at once, and leave nothing behind."""
        shutil.rmtree(self._root, ignore_errors=True)
        os._exit(0)

    def _fresh(self, run_id: str) -> dict[str, bytes]:
        """The checkpoint of a run, if it is another than the one that was sent last."""
        path = Store(self._root).checkpoint(run_id)
        with suppress(FileNotFoundError):
            written = (run_id, path.stat().st_mtime_ns)
            if written != self._sent:
                self._sent = written
                return {CHECKPOINT: path.read_bytes()}
        return {}


def _farewell(event: Event, store: Store, home: str) -> News:
    """The end of a run with its files; where a reason names one, it is the one in its store."""
    values = dict(event.values)
    if values["status"] == "failed":
        values["error"] = values["error"].replace(str(store.root), home)
    names = ("curve.jsonl", "predictions.npz", "weights.safetensors", "error.txt", "result.json")
    folder = store.folder(event.run_id)
    files = {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}
    return News(event.run_id, Event("finished", event.run_id, values), files)


def _clear_abandoned() -> None:
    """Remove what processes that were killed on this machine have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}[0-9]*-*"):
        try:
            os.kill(int(folder.name.split("-")[1]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, OSError):
            pass  # of somebody else
