"""The worker process of ``LocalExecutor``: ``python -m spectrum.executors.local_worker``.

It executes one run at a time. Each line of its standard input is JSON, a run to execute or the id
of a run to stop at the end of its epoch. Each line of its standard output is an event as JSON. It
ends when its standard input does, so it never outlives the process that started it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from dataclasses import asdict

import torch

from spectrum.executors.base import execute_until_stopped
from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.store import Store


def serve(store: Store, device: str, threads: int) -> None:
    """Execute the runs that arrive on standard input until it ends.

    Args:
        store: where the files of runs go.
        device: the device to train on.
        threads: the CPU threads of each run.
    """
    if sys.stderr is None:  # the command was started without one
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    # Only events may reach the original standard output. All other output goes to standard error.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # A process that is forked from this one closes sys.stdin. That would block for ever while a
    # thread of this process reads from it, so the thread reads from a copy.
    messages = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8")
    sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    torch.set_num_threads(threads)
    runs: queue.Queue[RunConfig] = queue.Queue()
    to_stop: set[str] = set()

    def read() -> None:
        for line in messages:
            if not line.endswith("\n"):  # the process that wrote it was killed
                break
            message = json.loads(line)
            if "stop" in message:
                to_stop.add(message["stop"])
            else:
                run = RunConfig(**message["run"])
                to_stop.discard(run.id)
                runs.put(run)
        os._exit(0)  # even during a run: its checkpoint is always complete

    threading.Thread(target=read, daemon=True).start()

    def report(event: RunEvent) -> None:
        try:
            events.write(json.dumps(asdict(event)) + "\n")
        except BrokenPipeError:  # the process that started this one has ended
            os._exit(0)

    while True:
        execute_until_stopped(runs.get(), store, device, report, to_stop)


if __name__ == "__main__":
    # A user's own model is found where the study's process found it, after everything else.
    sys.path += [path for path in json.loads(sys.argv[4]) if path not in sys.path]
    serve(Store(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
