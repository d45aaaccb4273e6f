"""Runs on a real Ray cluster, whose nodes and processes are really killed."""

import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spectrum import SearchConfig, StudyConfig, run_search, run_study
from spectrum.executors.engines import open_engine
from spectrum.executors.ray_cluster import _make_engine
from spectrum.runs.events import RunEvent
from spectrum.runs.execute import execute_safely
from spectrum.runs.result import FILES_OF
from spectrum.runs.store import Store
from tests.executors.planned_runs import planned, train_undisturbed
from tests.forked import wait_for
from tests.held import HeldRayWorker, Hold
from tests.small_studies import FIELDS, weights

pytest.importorskip("ray", reason="there is no Ray")

from ray.cluster_utils import Cluster

from spectrum.executors import ray as ray_module
from spectrum.executors.ray import RayExecutor

EPOCHS = 10
STEPS = 4  # of an epoch
FIGURES = ["run_id", "val_top1", "test_top1", "test_top5", "test_loss", "epochs", "status"]
# Ray notices lost nodes within two seconds, not twenty.
FAST_HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that executes nothing, and two nodes of one CPU; a test that kills one adds one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": FAST_HEALTH_CHECKS}
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
    """Makes a small study on the cluster."""

    def make(**changes: Any) -> StudyConfig:
        return small_study(**{"engine": "ray", "address": cluster.address, **changes})

    return make


@pytest.fixture
def hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hold:
    """Holds training on the cluster."""
    hold, variables = Hold(tmp_path / "hold", STEPS // 2), ray_module.worker_variables
    monkeypatch.setattr(ray_module, "RayWorker", HeldRayWorker)
    monkeypatch.setattr(
        ray_module,
        "worker_variables",
        lambda threads: {**variables(threads), "HELD": str(hold.folder)},
    )
    return hold


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a longer run that wasn't disturbed."""
    return train_undisturbed(tmp_path_factory.mktemp("undisturbed"), EPOCHS)


def worker_processes(cluster: Cluster) -> dict[int, Any]:
    """The worker processes, each with its node."""
    found = {}
    for node in cluster.worker_nodes:
        raylet = raylet_of(node)
        for task in Path(f"/proc/{raylet}/task").glob("*/children"):
            for child in map(int, task.read_text().split()):
                line = Path(f"/proc/{child}/cmdline")
                if line.exists() and b"RayWorker" in line.read_bytes():
                    found[child] = node
    return found


def raylet_of(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def next_of(executor: RayExecutor, *kinds: str) -> RunEvent:
    """The next event of one of these kinds."""
    while True:
        event = executor.next_event(120)
        assert event is not None
        if event.kind in kinds:
            return event


def events_until(executor: RayExecutor, kind: str = "evaluation", epoch: int = 0) -> list[RunEvent]:
    """All events up to the first of a kind that is of this epoch or a later one."""
    events = [next_of(executor, "started", "evaluation", "note", "finished")]
    while events[-1].kind != kind or events[-1].values.get("epoch", 0) < epoch:
        events.append(next_of(executor, "started", "evaluation", "note", "finished"))
    return events


def lines_of(events: list[RunEvent]) -> list[dict[str, Any]]:
    """The learning curve in events, since the run was last started."""
    start = max(i for i, event in enumerate(events) if event.kind == "started")
    return [event.values for event in events[start:] if event.kind == "evaluation"]


def files_of(runs: Path) -> dict[str, list[str]]:
    return {f.name: sorted(path.name for path in f.iterdir()) for f in runs.iterdir()}


def test_a_study_on_a_cluster_gives_the_results_of_this_machine(
    on_cluster: Callable[..., StudyConfig],
    small_study: Callable[..., StudyConfig],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # The second learning rate is so large that its runs diverge.
    fields = {"recipe": {"batch_size": 256, "lr": [0.01, 1e12]}, "epochs": 2}
    here = small_study(**fields, out=tmp_path / "local", runs=tmp_path / "local" / "runs")
    local = run_study(here)
    config = on_cluster(**fields, workers=None)
    results = run_study(config)
    assert results["status"].tolist() == ["done", "done", "diverged", "diverged"]
    assert results[FIGURES].equals(local[FIGURES])
    assert results["error"].tolist() == local["error"].tolist()
    assert weights(config.runs) == weights(here.runs)
    assert files_of(config.runs) == files_of(here.runs)
    printed = capfd.readouterr()
    assert "ray" not in (printed.out + printed.err).lower()
    assert run_study(small_study(**fields))["run_id"].tolist() == results["run_id"].tolist()
    assert capfd.readouterr().err == ""  # nothing is left for this machine to do


def test_a_run_whose_process_and_then_node_is_lost_goes_on_from_its_last_epoch(
    cluster: Cluster, on_cluster: Callable[..., StudyConfig], long_run: Path, hold: Hold
) -> None:
    config = on_cluster(segments="C", epochs=EPOCHS)
    store = Store(config.runs)
    (run,) = planned(config)
    hold.hold_at(3 * STEPS + 2)
    with open_engine(config) as engine, engine.make_executor(store) as executor:
        executor.submit(run)
        first = events_until(executor, epoch=3)
        ((process, _),) = worker_processes(cluster).items()
        hold.hold_at(4 * STEPS + 2)  # of the next process, which starts after three epochs
        os.kill(process, signal.SIGKILL)
        second = events_until(executor, epoch=7)
        ((_, node),) = worker_processes(cluster).items()
        hold.release()
        os.kill(raylet_of(node), signal.SIGKILL)
        third = events_until(executor, "finished")
    cluster.remove_node(node)
    cluster.add_node(num_cpus=1)
    for before, after in ((first, second), (second, third)):
        (note,) = [event.values["text"] for event in after if event.kind == "note"]
        assert note.endswith("; it continues from its last checkpoint")
        assert "lost" in note or "has died" in note
        # Earlier epochs come from the checkpoint, including their durations.
        trained, restored = lines_of(before), lines_of(after)
        assert restored[: len(trained)] == trained
    assert third[-1].values["status"] == "done"
    assert weights(config.runs) == weights(long_run)
    assert store.curve(run.id) == lines_of(third)
    assert not store.checkpoint_path(run.id).exists()


def test_runs_stop_at_the_end_of_an_epoch_or_before_they_start(
    cluster: Cluster, on_cluster: Callable[..., StudyConfig], long_run: Path, hold: Hold
) -> None:
    hold.hold_at(STEPS + 2)  # until they are asked to stop
    config = on_cluster(segments="C,1", epochs=EPOCHS)
    store = Store(config.runs)
    run, waiting = planned(config)
    with open_engine(config) as engine, engine.make_executor(store) as executor:
        executor.submit(run)
        executor.submit(waiting)
        assert executor.unfinished == 2
        executor.stop(waiting.id)
        assert next_of(executor, "finished").run_id == waiting.id
        next_of(executor, "evaluation")
        executor.stop(run.id)
        stopped = next_of(executor, "finished")
        assert (stopped.run_id, stopped.values["status"]) == (run.id, "stopped")
        assert executor.unfinished == 0
        ((process, _),) = worker_processes(cluster).items()
        assert executor.next_event(1) is None
        wait_for(lambda: not worker_processes(cluster))  # an idle worker is shut down
        assert not list(Path(tempfile.gettempdir()).glob(f"spectrum-{process}-*"))
        assert store.result(run.id) is None
        epochs = len((store.folder(run.id) / "curve.jsonl").read_text().splitlines())
        hold.release()
        executor.submit(run)
        events_until(executor, epoch=epochs + 1)
    wait_for(lambda: not worker_processes(cluster))  # it ends within its context
    assert execute_safely(run, store, "cpu", lambda _: None)["status"] == "done"  # on this machine
    assert weights(config.runs) == weights(long_run)


MODEL = """
from pathlib import Path
from torch import nn

def network(num_classes, in_channels):
    if Path(__file__).with_name("broken").exists():
        raise RuntimeError("a bug")
    return nn.Sequential(nn.Conv2d(in_channels, 4, 8), nn.Flatten(), nn.Linear(4, num_classes))
"""


def test_failures_are_reported_and_their_tracebacks_kept(
    on_cluster: Callable[..., StudyConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_a_user.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    config = on_cluster(network="of_a_user:network", segments="1", epochs=1, recipe="small")
    store = Store(config.runs)
    (run,) = planned(config)
    (tmp_path / "broken").touch()
    with open_engine(config) as engine, engine.make_executor(store) as executor:
        executor.submit(run)
        failed = next_of(executor, "finished")
    assert failed.values["status"] == "failed"
    assert "RuntimeError: a bug" in failed.values["error"]
    assert failed.values["error"].endswith(f"(see {store.traceback_path(run.id)})")
    assert "in network" in store.traceback_path(run.id).read_text()


def test_the_result_of_a_run_that_another_process_trains_is_awaited(
    cluster: Cluster, on_cluster: Callable[..., StudyConfig], long_run: Path
) -> None:
    config = on_cluster(segments="C", epochs=EPOCHS)
    store, other = Store(config.runs), Store(config.runs)
    (run,) = planned(config)
    with open_engine(config) as engine, engine.make_executor(store) as executor:
        with other.lock(run.id):
            executor.submit(run)
            assert "another process trains this run" in next_of(executor, "note").values["text"]
            assert executor.next_event(1) is None
            for name in (*FILES_OF["done"], "result.json"):
                shutil.copy(long_run / run.id / name, other.folder(run.id))
        assert next_of(executor, "finished").values == Store(long_run).result(run.id)
        assert not worker_processes(cluster)


WRONG = [
    (["--address", "head:6379"], "--address (='head:6379') needs engine 'ray', not 'local'"),
    (["--gpus", "0.5"], "--gpus (=0.5) needs engine 'ray', not 'local'"),
    (["--engine", "dask"], "--engine (='dask') must be 'local', 'ray' or 'slurm'"),
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
def test_bad_flags_are_reported_in_one_line_before_training(
    flags: list[str], line: str, small_toml: Path, spectrum_study: Callable[..., tuple[int, str]]
) -> None:
    assert spectrum_study(small_toml, *flags) == (2, f"error: {line}\n")


def test_a_server_that_is_no_cluster_is_reported(
    small_toml: Path,
    spectrum_study: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spectrum.executors.ray_cluster._HEALTH_CHECK_TIMEOUT", 3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        line = f"error: RAY_ADDRESS (={address!r}) can't be reached: no Ray cluster answers there\n"
        assert spectrum_study(small_toml, "--engine", "ray") == (2, line)


def test_without_ray_the_error_names_its_extra(
    small_toml: Path,
    spectrum_study: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    printed = spectrum_study(small_toml, "--engine", "ray")
    line = "error: --engine (='ray') needs Ray: pip install 'segment-spectrum[ray]'\n"
    assert printed == (2, line)


def test_the_engine_changes_no_run_id(small_study: Callable[..., StudyConfig]) -> None:
    config = small_study()
    on_ray = small_study(engine="ray", address="head:6379", gpus=0.0)
    assert [run.id for run in planned(config)] == [run.id for run in planned(on_ray)]


def nodes_of(*resources: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"Alive": True, "Resources": {"CPU": cpus, "GPU": gpus}} for cpus, gpus in resources]


# Nodes by their CPUs and GPUs; the first has none, as a head can.
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
def test_the_default_workers_are_as_many_as_the_cluster_has_room_for(
    nodes: list[dict[str, Any]],
    fields: dict[str, Any],
    workers: int,
    gpus: float,
    small_study: Callable[..., StudyConfig],
) -> None:
    config = small_study(**{"engine": "ray", "device": "auto", "workers": None, **fields})
    found = _make_engine(nodes, config)
    assert (found.workers, found.threads, found.gpus) == (workers, config.threads, gpus)


@pytest.mark.parametrize(
    ("nodes", "fields", "message"),
    [
        (CPUS, {"gpus": 0.5}, r"gpus \(=0.5\) must be 0, the cluster has none"),
        (CPUS, {"device": "cuda"}, r"device \(='cuda'\) must be auto or cpu, the cluster has no"),
        (CPUS, {"threads": 6}, r"threads \(=6\) must be at most 5, the CPUs of the largest"),
        (
            nodes_of((8, 0), (2, 1)),
            {"threads": 4},
            r"threads \(=4\) must be fewer: .* beside a GPU",
        ),
    ],
)
def test_resources_that_the_cluster_lacks_are_named(
    nodes: list[dict[str, Any]],
    fields: dict[str, Any],
    message: str,
    small_study: Callable[..., StudyConfig],
) -> None:
    with pytest.raises(ValueError, match=message):
        _make_engine(nodes, small_study(**{"engine": "ray", "device": "auto", **fields}))


def test_a_search_on_a_cluster(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectrum.search.outputs._draw", lambda *_: {})
    fields = {name: FIELDS[name] for name in ("match", "network", "recipe", "workers", "device")}
    config = SearchConfig(
        **fields,
        segments="1,C",
        per="network",
        sampler="random",
        trials=2,
        finalists=1,
        seeds=1,
        epochs=2,
        engine="ray",
        address=cluster.address,
        out=tmp_path / "found",
        runs=tmp_path / "runs",
    )
    found = run_search(config)
    assert found.trials["state"].tolist() == ["done", "done"]
    assert found.results["status"].tolist() == ["done", "done"]
    assert len(weights(tmp_path / "runs")) == 2 + 2
