"""Runs in jobs of a real Slurm on this machine, whose processes are really killed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spectrum import StudyConfig, run_study
from spectrum.executors import slurm
from spectrum.executors.base import Executor
from spectrum.executors.engines import open_engine
from spectrum.executors.slurm_config import SlurmConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.store import Store
from tests.executors.planned_runs import planned, train_undisturbed
from tests.forked import start_forked, wait_for
from tests.held import Hold, execute_held_job
from tests.small_studies import weights

FIGURES = ["run_id", "val_top1", "test_top1", "test_top5", "test_loss", "epochs", "status"]
EPOCHS = 6
STEPS = 4  # of an epoch
CONFIGURATION = """
ClusterName=tested
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=1
SchedulerParameters=batch_sched_delay=0,sched_interval=1
JobAcctGatherType=jobacct_gather/none
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=one Default=YES State=UP
"""

needs_slurm = pytest.mark.skipif(
    shutil.which("slurmctld") is None or shutil.which("slurmd") is None, reason="there is no Slurm"
)
pytest.importorskip("submitit", reason="there is no submitit")


def ask(*command: str) -> str:
    """What a command of Slurm prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def jobs() -> list[str]:
    """The names of the jobs that wait or run."""
    return ask("squeue", "--noheader", "--format=%j").split()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm of one node, without accounting."""
    folder = tmp_path_factory.mktemp("slurm")
    with socket.create_server(("", 0)) as first, socket.create_server(("", 0)) as second:
        ports = [server.getsockname()[1] for server in (first, second)]
    user = ask("id", "--user", "--name")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().partition(".")[0]
    path = folder / "slurm.conf"
    path.write_text(CONFIGURATION.format(host=host, ports=ports, user=user, folder=folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(path))
        daemons = [
            subprocess.Popen([*command, "-D"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for command in (["slurmctld"], ["slurmd", "-N", "one"])
        ]
        try:
            command = ["sinfo", "--noheader", "--format=%T"]
            wait_for(lambda: subprocess.run(command, capture_output=True).stdout == b"idle\n")
            yield
        finally:
            for daemon in daemons:
                daemon.terminate()
            for daemon in daemons:
                daemon.wait()


@pytest.fixture
def on_slurm(
    cluster: None, small_study: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., StudyConfig]:
    """Makes a small study on the cluster, which is looked at more often than usual."""
    monkeypatch.setattr(slurm, "_READ_INTERVAL", 0.05)
    monkeypatch.setattr(slurm, "_QUEUE_INTERVAL", 1)

    def make(**changes: Any) -> StudyConfig:
        return small_study(**{"engine": "slurm", "workers": 2, **changes})

    return make


@pytest.fixture
def hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hold:
    """Holds training in jobs."""
    hold = Hold(tmp_path / "hold", STEPS // 2)
    monkeypatch.setenv("HELD", str(hold.folder))
    monkeypatch.setattr(slurm, "execute_job", execute_held_job)
    return hold


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a longer run that wasn't disturbed."""
    return train_undisturbed(tmp_path_factory.mktemp("undisturbed"), EPOCHS)


def events_until(executor: Executor[Any, Any], kind: str, epoch: int = 0) -> list[RunEvent]:
    """All events up to the first of a kind that is of this epoch or a later one."""
    events: list[RunEvent] = []
    while not events or events[-1].kind != kind or events[-1].values.get("epoch", epoch) < epoch:
        event = executor.next_event(120)
        assert event is not None
        events.append(event)
    return events


@needs_slurm
def test_a_study_in_jobs_gives_the_results_of_this_machine(
    on_slurm: Callable[..., StudyConfig],
    small_study: Callable[..., StudyConfig],
    tmp_path: Path,
) -> None:
    here = small_study(out=tmp_path / "local", runs=tmp_path / "local" / "runs")
    local = run_study(here)
    options = {"comment": "a study", "nice": 7}
    setup = ["export OF_THE_USER=1"]
    config = on_slurm(slurm={"mem_gb": 0.5, "timeout_min": 9, "setup": setup, "options": options})
    results = run_study(config)
    assert results[FIGURES].equals(local[FIGURES])
    assert weights(config.runs) == weights(here.runs)
    for run_id in results["run_id"]:
        (script,) = (config.runs / run_id / "slurm").glob("*/*_submission.sh")
        lines = script.read_text().splitlines()
        name = f"--job-name=spectrum-{run_id}-{script.parent.name}"
        asked = ("--cpus-per-task=1", "--mem=512M", "--time=9", "--comment='a study'", "--nice=7")
        assert {f"#SBATCH {option}" for option in (*asked, name)} < set(lines)
        (command,) = (line for line in lines if line.startswith("srun"))
        assert "--cpus-per-task=1" in command.split()
        assert lines.index("export OMP_NUM_THREADS=1") < lines.index(*setup) < lines.index(command)
    wait_for(lambda: not jobs())


@needs_slurm
def test_a_run_whose_job_is_killed_or_out_of_time_goes_on_from_its_last_epoch(
    on_slurm: Callable[..., StudyConfig], long_run: Path, hold: Hold
) -> None:
    # Submitit takes the signal for that of the time limit, which is nearer than ten minutes.
    config = on_slurm(segments="C", epochs=EPOCHS, slurm={"timeout_min": 9})
    store = Store(config.runs)
    (run,) = planned(config)
    hold.hold_at(2 * STEPS + 2)
    with open_engine(config) as engine, engine.make_executor(store) as executor:
        executor.submit(run)
        first = events_until(executor, "evaluation", 2)
        (process,) = hold.wait()
        os.kill(process, signal.SIGKILL)
        second = events_until(executor, "evaluation", 4)
        hold.wait()
        ask("scancel", "--signal=USR2", f"--name={jobs()[0]}")
        hold.release()
        third = events_until(executor, "finished")
    for before, after in ((first, second), (second, third)):
        note = next(event.values["text"] for event in after if event.kind == "note")
        assert note.startswith("its Slurm job ended with FAILED (see ")
        assert note.endswith("; it continues from its last checkpoint")
        # Earlier epochs come from the checkpoint, including their durations.
        trained = [event for event in before if event.kind == "evaluation"]
        restored = [event for event in after if event.kind == "evaluation"]
        assert restored[: len(trained)] == trained
    assert third[-1].values["status"] == "done"
    assert weights(config.runs) == weights(long_run)


@needs_slurm
def test_runs_stop_at_the_end_of_an_epoch_or_while_their_job_waits(
    on_slurm: Callable[..., StudyConfig], hold: Hold
) -> None:
    config = on_slurm(segments="C,1", epochs=EPOCHS, slurm={"options": {"exclusive": True}})
    store = Store(config.runs)
    run, waiting = planned(config)
    with open_engine(config) as engine, engine.make_executor(store) as executor:
        executor.submit(run)
        events_until(executor, "started")
        executor.submit(waiting)  # both ask for the only node
        assert len(jobs()) == 2
        executor.stop(waiting.id)
        stopped = events_until(executor, "finished")[-1]
        assert (stopped.run_id, stopped.values["status"]) == (waiting.id, "stopped")
        executor.stop(run.id)
        hold.hold_at(STEPS + 2)
        stopped = events_until(executor, "finished")[-1]
        assert (stopped.run_id, stopped.values["status"]) == (run.id, "stopped")
    wait_for(lambda: not jobs())
    assert store.checkpoint_path(run.id).exists()


@needs_slurm
def test_an_interrupted_study_cancels_its_jobs_and_goes_on_later(
    on_slurm: Callable[..., StudyConfig], long_run: Path, hold: Hold, tmp_path: Path
) -> None:
    toml, log = tmp_path / "tested.toml", tmp_path / "log"
    folders = f'out = "{tmp_path / "out"}"\nruns = "{tmp_path / "runs"}"'
    toml.write_text(
        f'segments = "C"\nseeds = 1\nmatch = "none"\nepochs = {EPOCHS}\ndevice = "cpu"\n{folders}\n'
        '[network]\nname = "tiny"\nwidth = 0.2\ndropout = 0.3\n[recipe]\nbatch_size = 256\n'
    )
    hold.hold_at(2 * STEPS + 2)
    command = start_forked(
        "spectrum.study", log, toml, "--engine", "slurm", before=use_held_jobs(hold.folder)
    )
    (job,) = hold.wait()
    os.kill(command.pid or 0, signal.SIGINT)
    command.join()
    assert command.exitcode == 130
    assert "run the same command to continue" in log.read_text()
    wait_for(lambda: not jobs() and not Path(f"/proc/{job}").exists())
    assert run_study(on_slurm(segments="C", epochs=EPOCHS, engine="local"))["status"][0] == "done"
    assert weights(tmp_path / "runs") == weights(long_run)


def use_held_jobs(folder: Path) -> Callable[[], None]:
    return _Held(os.environ["SLURM_CONF"], folder)


class _Held:
    """Lets the jobs of a process, in which it is called, be held."""

    def __init__(self, configuration: str, folder: Path) -> None:
        self.variables = {"SLURM_CONF": configuration, "HELD": str(folder)}

    def __call__(self) -> None:
        os.environ.update(self.variables)
        slurm.execute_job = execute_held_job


WRONG = [
    (["--slurm", "qos=a"], "--slurm (=SlurmConfig(qos='a')) needs engine 'slurm', not 'local'"),
    (
        ["--engine", "slurm", "--device", "auto"],
        "--device (='auto') must be cpu or cuda with engine 'slurm', whose jobs get what they ask "
        "for",
    ),
    (
        ["--engine", "slurm", "--slurm", "gpu"],
        "--slurm (='gpu') must be fields such as partition=gpu,timeout_min=240",
    ),
    (
        ["--engine", "slurm", "--slurm", "qos=a,timeout_min=1"],
        "--slurm (='qos=a,timeout_min=1') is wrong: timeout_min (='1') must be greater than or "
        "equal to 5",
    ),
    (
        ["--engine", "slurm", "--slurm", "partion=gpu"],
        "--slurm (='partion=gpu') is wrong: partion (='gpu') is not a known field; known: account, "
        "constraint, cpus_per_task, gres, mem_gb, options, partition, qos, setup, timeout_min",
    ),
]
REFUSED = [
    ("partition=gpu", {"partition": "gpu"}, "error: invalid partition specified: gpu"),
    ("gres=gpu:1", {"gres": "gpu:1"}, "error: Invalid generic resource (gres) specification"),
]


@pytest.mark.parametrize(("flags", "line"), WRONG)
def test_bad_flags_are_reported_in_one_line_before_training(
    flags: list[str], line: str, small_toml: Path, spectrum_study: Callable[..., tuple[int, str]]
) -> None:
    assert spectrum_study(small_toml, *flags) == (2, f"error: {line}\n")


@needs_slurm
@pytest.mark.parametrize(("given", "fields", "reason"), REFUSED)
def test_what_the_cluster_does_not_have_is_reported_before_training(
    cluster: None,
    given: str,
    fields: dict[str, str],
    reason: str,
    small_toml: Path,
    spectrum_study: Callable[..., tuple[int, str]],
) -> None:
    line = f"error: --slurm (={fields}) isn't accepted by sbatch: {reason}\n"
    assert spectrum_study(small_toml, "--engine", "slurm", "--slurm", given) == (2, line)


def test_a_bad_field_of_a_file_is_named(
    small_toml: Path, spectrum_study: Callable[..., tuple[int, str]]
) -> None:
    small_toml.write_text(small_toml.read_text() + '\n[slurm]\nsetup = "module load cuda"\n')
    line = "slurm.setup (='module load cuda') must be a valid tuple"
    assert spectrum_study(small_toml, "--engine", "slurm") == (2, f"error: {small_toml}: {line}\n")


def test_without_submitit_the_error_names_its_extra(
    small_toml: Path,
    spectrum_study: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    line = "--engine (='slurm') needs submitit: pip install 'segment-spectrum[slurm]'"
    assert spectrum_study(small_toml, "--engine", "slurm") == (2, f"error: {line}\n")


def test_without_slurm_the_error_names_its_command(
    small_toml: Path,
    spectrum_study: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    line = "--engine (='slurm') needs Slurm's command sbatch, as the cluster's login nodes have it"
    assert spectrum_study(small_toml, "--engine", "slurm") == (2, f"error: {line}\n")


@pytest.mark.parametrize(
    ("fields", "device", "asked"),
    [
        ({}, "cpu", {}),
        ({}, "cuda", {"gpus_per_node": 1}),
        ({"gres": "gpu:a100:1"}, "cuda", {"gres": "gpu:a100:1"}),
    ],
)
def test_a_job_on_a_gpu_asks_for_it(
    fields: dict[str, Any], device: str, asked: dict[str, Any]
) -> None:
    found = slurm._parameters(SlurmConfig(**fields), 4, device)
    assert {name: found[name] for name in found if name in ("gpus_per_node", "gres")} == asked
    assert (found["cpus_per_task"], found["srun_args"]) == (4, ["--cpus-per-task=4"])


def test_the_engine_changes_no_run_id(small_study: Callable[..., StudyConfig]) -> None:
    config = small_study()
    in_jobs = small_study(engine="slurm", slurm={"partition": "gpu"})
    assert [run.id for run in planned(config)] == [run.id for run in planned(in_jobs)]
