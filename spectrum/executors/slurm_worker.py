"""The function that a Slurm job of ``SlurmExecutor`` calls, to execute one run."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from spectrum.executors.base import execute_until_stopped
from spectrum.executors.local import available_devices
from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.execute import status_and_reason
from spectrum.runs.store import Store

EVENTS = "events.jsonl"
"""The file that a job appends its events to, each as a line of JSON."""
STOP = "stop"
"""The file that is empty until its run is to be stopped at the end of the current epoch."""


def execute_job(
    run_id: str,
    fields: dict[str, Any],
    store: str,
    folder: str,
    device: str,
    threads: int,
    paths: Sequence[str],
) -> None:
    """Execute a run in a job, or continue it from its checkpoint.

    Args:
        run_id: the id of the run.
        fields: the fields of its ``RunConfig``.
        store: the folder of the store, which all nodes share.
        folder: the folder of the job, with the files ``EVENTS`` and ``STOP``.
        device: ``cpu`` or ``cuda``.
        threads: the CPU threads.
        paths: folders appended to ``sys.path``, for a user's own model.
    """
    sys.path += [path for path in paths if path not in sys.path]
    torch.set_num_threads(threads)
    _end_before_the_time_limit()
    to_stop: set[str] = set()
    # The first line ends one that a job left incomplete which Slurm has put back in its queue.
    with (Path(folder) / EVENTS).open("a", encoding="utf-8") as events:
        events.write("\n")

        def report(event: RunEvent) -> None:
            events.write(json.dumps(asdict(event)) + "\n")
            events.flush()
            os.fsync(events.fileno())  # other nodes see what has been written to the disk
            if (Path(folder) / STOP).read_text():
                to_stop.add(run_id)

        try:
            run = RunConfig(**fields)
            (name, *_) = available_devices(device)
            execute_until_stopped(run, Store(store), name, report, to_stop)
        except Exception as error:  # before or after the training
            status, reason = status_and_reason(error)
            report(RunEvent("finished", run_id, {"status": status, "error": reason}))


def _end_before_the_time_limit() -> None:
    """End this process when Slurm says that its time is over.

    Submitit's handler puts a preempted job back in the queue. At the time limit it raises an
    exception, which would be the run's failure.
    """
    requeue_or_raise = signal.getsignal(signal.SIGUSR2)

    def end(number: int, frame: FrameType | None) -> None:
        try:
            if callable(requeue_or_raise):
                requeue_or_raise(number, frame)
        except Exception:
            os._exit(1)

    signal.signal(signal.SIGUSR2, end)
