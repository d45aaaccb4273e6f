"""Runs on a real Ray cluster of several nodes, whose nodes and processes are killed for real."""

import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spectrum import StudyConfig, run_study
from spectrum.search.__main__ import main
from spectrum.study.actors import ActorTeam
from spectrum.study.cluster import _look_over
from spectrum.study.engine import open_engine
from spectrum.study.events import Event
from spectrum.study.plan import RunConfig, make_plan
from spectrum.study.run import attempt
from spectrum.study.store import Store
from spectrum.study.study import Interrupted
from tests.search.processes import wait_for
from tests.study.conftest import FIELDS, weights

pytest.importorskip("ray", reason="there is no Ray")

from ray.cluster_utils import Cluster

EPOCHS = 40  # about a second, long enough to be struck in the middle
FIGURES = ["run_id", "val_top1", "test_top1", "test_top5", "test_loss", "epochs", "status"]
# Lost nodes are noticed within two seconds, not twenty.
WATCHFUL = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that executes nothing, and two nodes of one CPU each; whoever kills one adds one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": WATCHFUL}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=1)
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture
def on_cluster(
    cluster: Cluster, small_study: Callable[..., StudyConfig]
) -> Callable[..., StudyConfig]:
    """A small study on the cluster."""

    def make(**changes: Any) -> StudyConfig:
        return small_study(**{"engine": "ray", "address": cluster.address, **changes})

    return make


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one longer run that nothing has disturbed."""
    runs = tmp_path_factory.mktemp("undisturbed")
    (run,) = planned(StudyConfig(**{**FIELDS, "segments": "C", "epochs": EPOCHS}))
    assert attempt(run, Store(runs), "cpu", lambda _: None)["status"] == "done"
    return runs


def planned(config: StudyConfig) -> list[RunConfig]:
    return [run for _, run in make_plan(config).runs()]


def performers(cluster: Cluster) -> dict[int, Any]:
    """The processes that execute runs, each with its node."""
    found = {}
    for node in cluster.worker_nodes:
        raylet = raylet_of(node)
        for task in Path(f"/proc/{raylet}/task").glob("*/children"):
            for child in map(int, task.read_text().split()):
                line = Path(f"/proc/{child}/cmdline")
                if line.exists() and b"Performer" in line.read_bytes():
                    found[child] = node
    return found


def raylet_of(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def next_of(team: ActorTeam, *kinds: str) -> Event:
    """The next event of some kind."""
    while True:
        event = team.next_event(120)
        assert event is not None
        if event.kind in kinds:
            return event


def told_until(team: ActorTeam, kind: str = "evaluation", epoch: int = 0) -> list[Event]:
    """All events up to one of a kind, of an epoch at least."""
    told = [next_of(team, "started", "evaluation", "note", "finished")]
    while told[-1].kind != kind or told[-1].values.get("epoch", 0) < epoch:
        told.append(next_of(team, "started", "evaluation", "note", "finished"))
    return told


def lines_of(told: list[Event]) -> list[dict[str, Any]]:
    """The learning curve in events, from where the run was begun last."""
    begun = max(i for i, event in enumerate(told) if event.kind == "started")
    return [event.values for event in told[begun:] if event.kind == "evaluation"]


def files_of(runs: Path) -> dict[str, list[str]]:
    return {f.name: sorted(path.name for path in f.iterdir()) for f in runs.iterdir()}


def test_a_study_on_a_cluster_is_the_study_on_this_machine(
    on_cluster: Callable[..., StudyConfig],
    small_study: Callable[..., StudyConfig],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # Weights to start from travel along; with so large a rate the second of the rates diverges.
    fields = {"recipe": {"batch_size": 256, "lr": [0.01, 1e30]}, "epochs": 2}
    here = small_study(**fields, out=tmp_path / "local", runs=tmp_path / "local" / "runs")
    local = run_study(here)
    config = on_cluster(**fields, workers=None)
    results = run_study(config)
    assert results["status"].tolist() == ["done", "done", "diverged", "diverged"]
    assert results[FIGURES].equals(local[FIGURES])
    assert results["error"].tolist() == local["error"].tolist()
    assert weights(config.runs) == weights(here.runs)
    assert files_of(config.runs) == files_of(here.runs)
    said = capfd.readouterr()
    assert "ray" not in (said.out + said.err).lower()
    assert run_study(small_study(**fields))["run_id"].tolist() == results["run_id"].tolist()
    assert capfd.readouterr().err == ""  # nothing is left for this machine to do


def test_a_run_whose_process_and_then_node_is_lost_goes_on_from_its_last_epoch(
    cluster: Cluster, on_cluster: Callable[..., StudyConfig], long_run: Path
) -> None:
    config = on_cluster(segments="C", epochs=EPOCHS)
    store = Store(config.runs)
    (run,) = planned(config)
    with open_engine(config) as engine, engine.crew(store) as team:
        team.submit(run)
        first = told_until(team, epoch=3)
        ((process, _),) = performers(cluster).items()
        os.kill(process, signal.SIGKILL)
        second = told_until(team, epoch=8)
        ((_, node),) = performers(cluster).items()
        os.kill(raylet_of(node), signal.SIGKILL)
        third = told_until(team, "finished")
    cluster.remove_node(node)
    cluster.add_node(num_cpus=1)
    for before, after in ((first, second), (second, third)):
        (note,) = [event.values["text"] for event in after if event.kind == "note"]
        assert note.endswith("; it goes on from its last epoch")
        assert "lost" in note or "has died" in note
        # The epochs that were trained before are those of the checkpoint, to the time they took.
        trained, known = lines_of(before), lines_of(after)
        assert known[: len(trained)] == trained
    assert third[-1].values["status"] == "done"
    assert weights(config.runs) == weights(long_run)
    assert store.curve(run.id) == lines_of(third)
    assert not store.checkpoint(run.id).exists()


def test_runs_stop_at_the_end_of_an_epoch_or_before_they_begin(
    cluster: Cluster, on_cluster: Callable[..., StudyConfig], long_run: Path
) -> None:
    config = on_cluster(segments="C,1", epochs=EPOCHS)
    store = Store(config.runs)
    run, waiting = planned(config)
    with open_engine(config) as engine, engine.crew(store) as team:
        team.submit(run)
        team.submit(waiting)
        assert team.unfinished == 2
        team.stop(waiting.id)
        assert next_of(team, "finished").run_id == waiting.id
        next_of(team, "evaluation")
        team.stop(run.id)
        stopped = next_of(team, "finished")
        assert (stopped.run_id, stopped.values["status"]) == (run.id, "stopped")
        assert team.unfinished == 0
        ((process, _),) = performers(cluster).items()
        assert team.next_event(1) is None
        wait_for(lambda: not performers(cluster))  # its place is given up
    assert not list(Path(tempfile.gettempdir()).glob(f"spectrum-{process}-*"))
    assert store.result(run.id) is None
    assert store.checkpoint(run.id).exists()
    epochs: list[float] = []
    result = attempt(run, store, "cpu", lambda line: epochs.append(line["seconds"]))
    assert result["status"] == "done"  # on this machine it goes on
    assert weights(config.runs) == weights(long_run)


def test_an_interrupted_study_ends_at_once_and_goes_on_without_the_cluster(
    cluster: Cluster,
    on_cluster: Callable[..., StudyConfig],
    small_study: Callable[..., StudyConfig],
    long_run: Path,
) -> None:
    fields = {"segments": "C", "epochs": EPOCHS}
    config = on_cluster(**fields)

    def interrupt() -> None:
        wait_for(lambda: list(config.runs.glob("*/checkpoint.pt")))
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(Interrupted, match="interrupted, 0 of 1 runs are done"):
        run_study(config)
    other.join()
    wait_for(lambda: not performers(cluster))
    assert run_study(small_study(**fields))["status"].tolist() == ["done"]
    assert weights(config.runs) == weights(long_run)


MODEL = """
import os
from pathlib import Path
from torch import nn

def network(num_classes, in_channels):
    told = Path(__file__).with_name("told")
    if told.exists():
        if told.read_text() == "die":
            os.kill(os.getpid(), 9)
        raise RuntimeError("a mistake in it")
    return nn.Sequential(nn.Conv2d(in_channels, 4, 8), nn.Flatten(), nn.Linear(4, num_classes))
"""


def test_failures_are_told_and_kept(
    on_cluster: Callable[..., StudyConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_a_user.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    config = on_cluster(network="of_a_user:network", segments="1", epochs=1, recipe="small")
    store = Store(config.runs)
    (run,) = planned(config)
    with open_engine(config) as engine, engine.crew(store) as team:
        (tmp_path / "told").write_text("fail")
        team.submit(run)
        failed = next_of(team, "finished")
        assert failed.values["status"] == "failed"
        assert "RuntimeError: a mistake in it" in failed.values["error"]
        assert failed.values["error"].endswith(f"(see {store.error(run.id)})")
        assert "in network" in store.error(run.id).read_text()
        monkeypatch.setattr("spectrum.study.actors._ATTEMPTS", 2)
        (tmp_path / "told").write_text("die")
        team.submit(run)
        told = [next_of(team, "note", "finished") for _ in range(2)]
        assert [event.kind for event in told] == ["note", "finished"]
        assert told[-1].values["status"] == "failed"
        assert told[-1].values["error"] == "its process on the cluster has died"


def test_a_run_that_another_process_trains_is_waited_for(
    cluster: Cluster, on_cluster: Callable[..., StudyConfig], long_run: Path
) -> None:
    config = on_cluster(segments="C", epochs=EPOCHS)
    store, other = Store(config.runs), Store(config.runs)
    (run,) = planned(config)
    with open_engine(config) as engine, engine.crew(store) as team:
        with other.lock(run.id):
            team.submit(run)
            assert "another process trains this run" in next_of(team, "note").values["text"]
            assert team.next_event(1) is None
            result = json.loads((long_run / run.id / "result.json").read_text())
            other.finish(run.id, result)
        assert next_of(team, "finished").values == result
        assert not performers(cluster)


def test_a_search_on_a_cluster(
    cluster: Cluster,
    tmp_path: Path,
    small_study: Callable[..., StudyConfig],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    toml = tmp_path / "searched.toml"
    toml.write_text(
        f"""
        segments = "1,C"
        per = "network"
        sampler = "random"
        trials = 2
        finalists = 1
        seeds = 1
        match = "none"
        epochs = 2
        workers = 1
        device = "cpu"
        out = "{tmp_path / "found"}"
        runs = "{tmp_path / "runs"}"
        [network]
        name = "tiny"
        width = 0.2
        dropout = 0.3
        [recipe]
        batch_size = 256
        """
    )
    typed = ["spectrum.search", str(toml), "--engine", "ray", "--address", cluster.address]
    monkeypatch.setattr(sys, "argv", typed)
    monkeypatch.setattr("spectrum.search.outputs._draw", lambda *_: {})
    status = main()
    said = capsys.readouterr()
    assert status == 0, said.err
    assert "trials:" in said.out
    local = small_study(epochs=2, seeds=2, runs=tmp_path / "local")
    run_study(local)
    assert weights(tmp_path / "runs") == weights(local.runs)


WRONG = [
    (["--address", "head:6379"], "--address (='head:6379') needs engine 'ray', not 'local'"),
    (["--gpus", "0.5"], "--gpus (=0.5) needs engine 'ray', not 'local'"),
    (["--engine", "slurm"], "--engine (='slurm') must be 'local' or 'ray'"),
    (["--engine", "ray", "--gpus", "2"], "--gpus (='2') must be less than or equal to 1"),
    (
        ["--engine", "ray", "--device", "cuda:1"],
        "--device (='cuda:1') must be auto, cpu or cuda with engine 'ray', which chooses the GPU",
    ),
    (["--engine", "ray", "--gpus", "0.5"], "--gpus (=0.5) must be 0 with device (='cpu')"),
    (
        ["--engine", "ray", "--address", "127.0.0.1:1"],
        "--address (='127.0.0.1:1') can't be reached: Connection refused",
    ),
    (
        ["--engine", "ray", "--address", "ray://head:10001"],
        "--address (='ray://head:10001') must be HOST:PORT of the cluster's head",
    ),
]


@pytest.mark.parametrize(("flags", "line"), WRONG)
def test_what_cannot_be_is_told_in_a_line_before_anything_is_trained(
    flags: list[str], line: str, small_toml: Path, spectrum_study: Callable[..., tuple[int, str]]
) -> None:
    assert spectrum_study(small_toml, *flags) == (2, f"error: {line}\n")


def test_what_listens_but_is_no_cluster_is_told(
    small_toml: Path,
    spectrum_study: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spectrum.study.cluster._ANSWER", 3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        line = (
            f"error: address (={address!r}, of RAY_ADDRESS) can't be reached: no Ray cluster "
            "answers there\n"
        )
        assert spectrum_study(small_toml, "--engine", "ray") == (2, line)


def test_what_a_cluster_has_not_is_told(
    cluster: Cluster, small_toml: Path, spectrum_study: Callable[..., tuple[int, str]]
) -> None:
    reached = (small_toml, "--engine", "ray", "--address", cluster.address, "--device", "auto")
    told = spectrum_study(*reached, "--gpus", "0.5")
    assert told == (2, "error: --gpus (=0.5) must be 0, the cluster has none\n")
    told = spectrum_study(*reached[:-1], "cuda")
    assert told == (
        2,
        "error: --device (='cuda') must be auto or cpu, the cluster has no GPUs\n",
    )
    told = spectrum_study(*reached, "--threads", "2")
    assert told[1].startswith("error: --threads (=2) must be at most 1, the CPUs of the largest")


def test_without_ray_its_extra_is_named(
    small_toml: Path,
    spectrum_study: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    told = spectrum_study(small_toml, "--engine", "ray")
    line = "error: --engine (='ray') needs Ray: pip install 'spectrum[ray]'\n"
    assert told == (2, line)


def test_the_engine_is_no_part_of_a_run(small_study: Callable[..., StudyConfig]) -> None:
    config = small_study()
    there = small_study(engine="ray", address="head:6379", gpus=0.0)
    assert [run.id for run in planned(config)] == [run.id for run in planned(there)]


def nodes_of(*rooms: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"Alive": True, "Resources": {"CPU": cpus, "GPU": gpus}} for cpus, gpus in rooms]


# A head without CPUs, and machines as they stand in a cluster: CPUs and GPUs of each.
CPUS, GPUS = nodes_of((0, 0), (5, 0), (3, 0)), nodes_of((8, 0), (16, 4), (3, 1))


@pytest.mark.parametrize(
    ("nodes", "fields", "workers", "gpus"),
    [
        (CPUS, {}, 8, 0),
        (CPUS, {"threads": 2}, 3, 0),
        (CPUS, {"workers": 2}, 2, 0),
        (GPUS, {}, 5, 1),
        (GPUS, {"gpus": 0.5}, 10, 0.5),
        (GPUS, {"gpus": 0.5, "threads": 2}, 9, 0.5),
        (GPUS, {"threads": 4}, 4, 1),
        (GPUS, {"device": "cpu"}, 27, 0),
        (GPUS, {"gpus": 0}, 27, 0),
        ([*CPUS, {**GPUS[1], "Alive": False}], {}, 8, 0),
    ],
)
def test_as_many_runs_at_once_as_the_cluster_holds(
    nodes: list[dict[str, Any]],
    fields: dict[str, Any],
    workers: int,
    gpus: float,
    small_study: Callable[..., StudyConfig],
) -> None:
    config = small_study(**{"engine": "ray", "device": "auto", "workers": None, **fields})
    found = _look_over(nodes, config)
    assert (found.workers, found.threads, found.gpus) == (workers, config.threads, gpus)


def test_no_node_with_the_cpus_and_the_gpu_of_a_run(
    small_study: Callable[..., StudyConfig],
) -> None:
    config = small_study(engine="ray", device="auto", threads=4)
    with pytest.raises(ValueError, match=r"threads \(=4\) must be fewer: no node .* beside a GPU"):
        _look_over(nodes_of((8, 0), (2, 1)), config)
