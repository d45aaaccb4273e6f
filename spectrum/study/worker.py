"""The process that executes runs for the engine: ``python -m spectrum.study.worker``.

A line of standard input is a run, or asks for one to be stopped at the end of its epoch; a line of
standard output is an event; all as JSON. The process ends when its standard input does, so that
none outlives the one that started it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from dataclasses import asdict

import torch

from spectrum.study.events import Event, execute_one
from spectrum.study.plan import RunConfig
from spectrum.study.run import Stopped
from spectrum.study.store import Store

__all__ = ["serve"]


def serve(store: Store, device: str, threads: int) -> None:
    """Execute the runs of standard input until it ends."""
    # Whatever else is printed must not stand between the events.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # A process that is forked from this one closes its standard input, which would wait for ever
    # for a thread that reads from it.
    messages = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8")
    sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    torch.set_num_threads(threads)
    inbox: queue.Queue[RunConfig] = queue.Queue()
    unwanted: set[str] = set()

    def read() -> None:
        for line in messages:
            message = json.loads(line)
            if "stop" in message:
                unwanted.add(message["stop"])
            else:
                run = RunConfig(**message["run"])
                unwanted.discard(run.id)
                inbox.put(run)
        os._exit(0)  # in the middle of a run too: its checkpoint is whole

    threading.Thread(target=read, daemon=True).start()

    while True:
        run = inbox.get()

        def report(event: Event, last: int = run.recipe.epochs) -> None:
            events.write(json.dumps(asdict(event)) + "\n")
            stops = event.kind == "evaluation" and event.run_id in unwanted
            if stops and event.values["epoch"] < last:  # a run at its end is worth its result
                raise Stopped

        execute_one(run, store, device, report)


if __name__ == "__main__":
    # A user's own model is imported from where the study's process found it, after all else.
    sys.path += [path for path in json.loads(sys.argv[4]) if path not in sys.path]
    serve(Store(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
