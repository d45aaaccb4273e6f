"""The executor that runs jobs of a Slurm cluster, which it submits through submitit.

Each job (``slurm_worker``) executes one run, and reads and writes the store on a file system that
all nodes share. Its events come back through a file, in a folder of its own within the run's. A job
that is lost or reaches its time limit is followed by another, as ``RetryPolicy`` says. One that
Slurm puts back in its queue, as it does with preempted jobs, stays the same job.
"""

from __future__ import annotations

import errno
import io
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectrum.errors import FieldError
from spectrum.executors.base import EngineConfig, Executor, Output, Worker
from spectrum.executors.local import import_paths, worker_variables
from spectrum.executors.slurm_config import SlurmConfig
from spectrum.executors.slurm_worker import EVENTS, STOP, execute_job
from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.store import Store

_COMMANDS = ("sbatch", "srun", "squeue", "scancel")
_DEFAULT_WORKERS = 16
_READ_INTERVAL = 1  # seconds between reads of a job's events
_QUEUE_INTERVAL = 15  # seconds between looks at Slurm's queue


@dataclass(frozen=True)
class SlurmEngine:
    """A Slurm cluster as an engine.

    Attributes:
        workers: the most jobs at the same time, those that wait in Slurm's queue included.
        threads: the CPU threads of each run.
        device: the device of each run, ``cpu`` or ``cuda``.
        parameters: what each job asks for, as ``submitit.SlurmExecutor`` takes it.
    """

    workers: int
    threads: int
    device: str
    parameters: dict[str, Any]

    def make_executor(self, store: Store, retry_writes: bool = False) -> SlurmExecutor:
        """Make an executor of jobs, to be entered as a context."""
        return SlurmExecutor(self, store, retry_writes)


def open_slurm(config: EngineConfig) -> SlurmEngine:
    """Check that jobs can be submitted here as a study or search asks for.

    Raises:
        ValueError: submitit or a command of Slurm is missing, or ``sbatch`` doesn't accept what the
            jobs ask for.
    """
    try:
        import submitit
    except ImportError:
        needed = "needs submitit: pip install 'segment-spectrum[slurm]'"
        raise FieldError("engine", "slurm", needed) from None
    for command in _COMMANDS:
        if shutil.which(command) is None:
            needed = f"needs Slurm's command {command}, as the cluster's login nodes have it"
            raise FieldError("engine", "slurm", needed)
    slurm = config.slurm or SlurmConfig()
    parameters = _parameters(slurm, config.threads, config.device)
    with tempfile.TemporaryDirectory() as folder:
        executor = submitit.SlurmExecutor(folder)
        executor.update_parameters(**parameters)
        script = executor._make_submission_file_text("true", "")
    test = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True)
    if test.returncode:
        reason = test.stderr.strip().splitlines()[0].removeprefix("sbatch: ")
        given = slurm.model_dump(exclude_defaults=True)
        field, value = ("slurm", given) if given else ("engine", "slurm")
        raise FieldError(field, value, f"isn't accepted by sbatch: {reason}")
    workers = config.workers or _DEFAULT_WORKERS
    return SlurmEngine(workers, config.threads, config.device, parameters)


def _parameters(slurm: SlurmConfig, threads: int, device: str) -> dict[str, Any]:
    """What each job asks for, as ``submitit.SlurmExecutor`` takes it."""
    cpus = slurm.cpus_per_task or threads
    exports = [
        f"export {name}={shlex.quote(value)}" for name, value in worker_variables(threads).items()
    ]
    parameters = {
        **slurm.model_dump(include={"partition", "account", "qos", "constraint", "gres"}),
        "time": slurm.timeout_min,
        "mem": None if slurm.mem_gb is None else f"{round(slurm.mem_gb * 1024)}M",
        "cpus_per_task": cpus,
        "srun_args": [f"--cpus-per-task={cpus}"],  # srun doesn't take it from sbatch
        "gpus_per_node": 1 if device == "cuda" and slurm.gres is None else None,
        "setup": [*exports, *slurm.setup],
        "additional_parameters": slurm.options,
    }
    return {name: value for name, value in parameters.items() if value is not None}


class SlurmExecutor(Executor[SlurmEngine, "_JobWorker"]):
    """Executes each run in a job of its own. Leaving its context cancels the jobs.

    Args:
        engine: what each job asks for.
        store: where the files of runs go, on a file system that all nodes share.
        retry_writes: whether runs whose files couldn't be written are retried.
    """

    def __init__(self, engine: SlurmEngine, store: Store, retry_writes: bool = False) -> None:
        super().__init__(engine, store, retry_writes)
        self._jobs = _JobNames()

    def _new_worker(self) -> _JobWorker:
        return _JobWorker(self._engine, self._store, self._jobs, self._output)

    def _receive(self, worker: _JobWorker, message: Any) -> None:
        super()._receive(worker, message)
        if worker.run is None and worker in self._pool:  # its job ends with its run
            self._remove(worker)


class _JobNames:
    """The names of this user's jobs that wait or run, looked up once for all workers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looked = 0.0  # when, in monotonic time
        self._names: set[str] | None = None

    def may_have(self, name: str) -> bool:
        """Whether a job waited or ran at the last look, or Slurm couldn't say."""
        with self._lock:
            if time.monotonic() - self._looked >= _QUEUE_INTERVAL:
                self._looked = time.monotonic()
                command = ["squeue", "--me", "--noheader", "--format=%j"]
                listed = subprocess.run(command, capture_output=True, text=True)
                self._names = None if listed.returncode else set(listed.stdout.split())
            return self._names is None or name in self._names


class _JobWorker(Worker):
    """A job, which may still wait in Slurm's queue.

    Args:
        engine: what the job asks for.
        store: where the files of runs go.
        jobs: says which jobs Slurm has.
        output: receives its messages.
    """

    def __init__(self, engine: SlurmEngine, store: Store, jobs: _JobNames, output: Output) -> None:
        super().__init__(output)
        self._engine = engine
        self._store = store
        self._jobs = jobs
        self._name = ""
        self._folder = Path()
        self._read = 0  # bytes of the file of events
        self._is_over = False
        self._ended = threading.Event()

    def execute(self, run: RunConfig) -> None:
        import submitit

        root = self._store.root.absolute()
        # The job's name is known before it is submitted, so that it can always be cancelled.
        attempt = uuid.uuid4().hex[:8]
        self._name = f"spectrum-{run.id}-{attempt}"
        self._folder = root / run.id / "slurm" / attempt
        self._folder.mkdir(parents=True)
        # A node would long remember of a shared file system that a file doesn't exist.
        (self._folder / EVENTS).touch()
        (self._folder / STOP).touch()
        # -P: a file in the current folder must not be imported in place of a module.
        executor = submitit.SlurmExecutor(self._folder, python=f"{shlex.quote(sys.executable)} -P")
        executor.update_parameters(**self._engine.parameters, job_name=self._name)
        arguments = (str(root), str(self._folder), self._engine.device, self._engine.threads)
        fields = run.model_dump(mode="json")
        self.is_queued = True
        try:
            with redirect_stderr(io.StringIO()):  # submitit prints what sbatch says
                executor.submit(execute_job, run.id, fields, *arguments, import_paths())
        except submitit.core.utils.FailedJobError as error:
            reason = next(iter(str(error).splitlines()), "the job can't be submitted")
            raise OSError(errno.EIO, reason, "sbatch") from None
        self._listener.start()

    def _listen(self) -> None:
        heard = time.monotonic()
        while not self._ended.wait(_READ_INTERVAL):
            # A job that is gone may have written its last events before it was.
            if time.monotonic() - heard > _QUEUE_INTERVAL and not self._jobs.may_have(self._name):
                self._is_over = True
            for event in self._new_events():
                heard = time.monotonic()
                self._send(event)
                if event.kind == "finished":
                    self._is_over = True
                    return
            if self._is_over:
                self._send(f"its Slurm job ended{self._final_state()} (see {self._folder})")
                return

    def _new_events(self) -> list[RunEvent]:
        with (self._folder / EVENTS).open("rb") as file:  # an open file wouldn't show its new end
            file.seek(self._read)
            lines = file.read().rpartition(b"\n")[0]
        self._read += len(lines) + bool(lines)
        events = []
        for line in lines.splitlines():
            with suppress(ValueError):  # a job was killed while it wrote it
                events.append(RunEvent(**json.loads(line)))
        return events

    def _final_state(self) -> str:
        """How the job ended in Slurm's words, such as `` with TIMEOUT``; "" if it doesn't say."""
        command = ["squeue", "--me", "--states=all", f"--name={self._name}"]
        listed = subprocess.run(
            [*command, "--noheader", "--format=%T"], capture_output=True, text=True
        )
        state = listed.stdout.strip()
        return f" with {state}" if state else ""

    def stop(self, run_id: str) -> None:
        (self._folder / STOP).write_text(run_id)

    def end(self) -> None:
        self._ended.set()
        if self._listener.ident is not None:
            self._listener.join()
        if self._name and not self._is_over:
            subprocess.run(["scancel", f"--name={self._name}"], capture_output=True)
