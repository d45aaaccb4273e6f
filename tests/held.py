"""Training that waits at a step, so that no run ends before a test has killed or interrupted it.

``python -m tests.held FOLDER MODULE ARGUMENTS`` executes a module with training held.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from spectrum.executors import base, local, ray_worker, slurm_worker


class Hold:
    """Holds training in the processes that are started with its folder.

    A process that is asked to stop its run goes on to the end of its epoch.

    Args:
        folder: a folder for its files.
        steps: how many steps of its optimiser each process takes before it waits.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder = folder
        folder.mkdir()
        self.hold_at(steps)

    def hold_at(self, steps: int) -> None:
        """Let each process take so many steps, counted from its start."""
        (self.folder / "new").write_text(str(steps))
        (self.folder / "new").replace(self.folder / "steps")

    def processes(self) -> list[int]:
        """The processes that wait."""
        return [int(path.name) for path in self.folder.glob("[0-9]*") if _is_alive(path.name)]

    def wait(self, count: int = 1) -> list[int]:
        """Wait until so many processes wait, and return them."""
        from tests.forked import wait_for  # it imports much, which held processes don't need

        wait_for(lambda: len(self.processes()) == count)
        return self.processes()

    @property
    def workers(self) -> Callable[[], None]:
        """Holds the training of the workers of a process, in which it is called."""
        return partial(_hold_workers, self.folder)

    def release(self) -> None:
        """Let all training go on to its end."""
        self.hold_at(10**9)


def _hold_workers(folder: Path) -> None:
    local.WORKER_MODULE = ("tests.held", str(folder), *local.WORKER_MODULE)


def hold_training(folder: Path) -> None:
    """Hold the training of this process."""
    take_step, execute = torch.nn.utils.clip_grad_norm_, base.execute_until_stopped
    allowed, own_file = folder / "steps", folder / str(os.getpid())
    taken, to_stop = 0, set[str]()

    def step(*arguments: Any, **options: Any) -> Any:
        nonlocal taken
        while taken >= int(allowed.read_text()) and not to_stop:
            own_file.touch()
            time.sleep(0.01)
        own_file.unlink(missing_ok=True)
        taken += 1
        return take_step(*arguments, **options)

    def execute_held(*arguments: Any) -> None:
        nonlocal to_stop
        to_stop = arguments[-1]
        execute(*arguments)

    torch.nn.utils.clip_grad_norm_ = step
    base.execute_until_stopped = execute_held
    ray_worker.execute_until_stopped = execute_held
    slurm_worker.execute_until_stopped = execute_held


class HeldRayWorker(ray_worker.RayWorker):
    """A worker of a Ray cluster that is held by the folder in ``HELD``."""

    def __init__(self, *arguments: Any) -> None:
        hold_training(Path(os.environ["HELD"]))
        super().__init__(*arguments)


def execute_held_job(*arguments: Any) -> None:
    """The function of a Slurm job that is held by the folder in ``HELD``."""
    hold_training(Path(os.environ["HELD"]))
    slurm_worker.execute_job(*arguments)


def _is_alive(process: str) -> bool:
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())  # that of a zombie is empty
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    _, folder, module, *sys.argv[1:] = sys.argv
    hold_training(Path(folder))
    runpy.run_module(module, run_name="__main__", alter_sys=True)
