"""Training a supernet as a run of the store: its id, its files, and its resumption when killed."""

from __future__ import annotations

import importlib
import io
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from rich.console import Console

from spectrum import DataConfig, Recipe, Supernet, evaluate, load_data, load_run, score
from spectrum.executors.local import LocalEngine
from spectrum.executors.progress import ProgressDisplay
from spectrum.networks import NetworkConfig
from spectrum.runs import RunConfig, SharedTraining, Store
from spectrum.runs.events import RunEvent, execute_run
from tests.forked import FORKED
from tests.runs.test_resume import die_at_step
from tests.small_studies import weights

DATA = DataConfig()
RECIPE = Recipe(epochs=2, batch_size=256, precise_bn=256)
SHARED = SharedTraining(segments=("1", "C"), widths=(0.1, 0.2))


def run(**changes: Any) -> RunConfig:
    network = NetworkConfig(name="tiny", num_classes=10, in_channels=1, dropout=0.3)
    fingerprint = load_data(DATA).fingerprint
    fields = {"network": network, "data": DATA, "recipe": RECIPE, "seed": 1, "shared": SHARED}
    return RunConfig(**{"fingerprint": fingerprint, **fields, **changes})


def execute(given: RunConfig, root: Path) -> dict[str, Any]:
    events: list[RunEvent] = []
    execute_run(given, Store(root), "cpu", events.append)
    assert not [event for event in events if event.kind == "note"]
    return events[-1].values


def execute_killed(given: RunConfig, root: Path) -> None:
    """Execute a run that saves its state after each step and dies in its second epoch."""
    torch.set_num_threads(1)
    loop: Any = importlib.import_module("spectrum.training.fit")
    loop._SAVE_EVERY = 0.0
    die_at_step(7)  # of four steps an epoch
    execute(given, root)


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unstopped")
    assert execute(run(), root)["status"] == "done"
    return root


def test_a_killed_run_ends_as_one_never_killed(unstopped: Path, tmp_path: Path) -> None:
    process = FORKED.Process(target=execute_killed, args=(run(), tmp_path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    saved = torch.load(Store(tmp_path).checkpoint_path(run().id), weights_only=True)
    assert (len(saved["curve"]), saved["unfinished"]["step"]) == (1, 2)
    result = execute(run(), tmp_path)
    assert weights(tmp_path) == weights(unstopped)
    assert result["test_loss"] == execute(run(), unstopped)["test_loss"]


def test_the_files_hold_the_supernet(unstopped: Path) -> None:
    folder = Store(unstopped).folder(run().id)
    network, data = load_run(folder), load_data(DATA)
    assert isinstance(network, Supernet)
    assert ([*map(str, network.segments)], network.widths) == (["1", "C"], (0.2, 0.1))
    result = execute(run(), unstopped)
    # Test images are judged by the first candidate at the largest width.
    assert evaluate(network.extract("1"), data.test).top1 == result["test_top1"]
    of_all = [score(network, s, None, data, RECIPE, seed=1).top1 for s in ("1", "C")]
    assert result["val_top1"] == sum(of_all) / 2
    network.set("C")
    assert evaluate(network, data.test).top1 != result["test_top1"]


def test_a_worker_trains_it_as_this_process_does(unstopped: Path, tmp_path: Path) -> None:
    text, store = io.StringIO(), Store(tmp_path)
    display = ProgressDisplay(Console(file=text), total=1, done=0)
    display.expect(run().id, "shared", RECIPE.epochs)
    engine = LocalEngine(["cpu"], workers=1, threads=1)
    with display.progress, engine.make_executor(store) as executor:
        executor.submit(run())
        while executor.unfinished:
            event = executor.next_event()
            assert event is not None
            display.report(event)
    assert "[1/1] shared: test top-1" in text.getvalue()
    assert weights(tmp_path) == weights(unstopped)


@pytest.mark.parametrize("field", ["segments", "widths", "members", "distill", "budget"])
def test_what_is_shared_names_the_run(field: str) -> None:
    others = {"segments": ("1", "4"), "widths": None, "members": 3, "distill": False, "budget": 9}
    assert run(shared=SHARED.model_copy(update={field: others[field]})).id != run().id
    assert SharedTraining(segments=(1, "C"), widths=[0.1, 0.2], members=2) == SHARED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shared": SHARED, "start": "weights"}, "start.*must not be given to train a Supernet"),
        ({"shared": {"segments": []}}, "segments"),
        ({"shared": {"segments": ["1", "1"]}}, "must name each once"),
        ({"shared": {"segments": ["x"]}}, "must be a whole number from 1"),
        ({"shared": {"segments": ["1"], "widths": [0]}}, "greater than 0"),
        ({"shared": {"segments": ["1"], "members": -1}}, "greater than or equal to 0"),
    ],
)
def test_bad_fields_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        run(**changes)


def test_a_width_without_room_for_the_candidates_fails_with_one_line(tmp_path: Path) -> None:
    shared = SharedTraining(segments=("1", "8"), widths=(0.05, 0.5))
    result = execute(run(shared=shared), tmp_path)
    assert result["status"] == "failed"
    assert "widths (=0.05) must leave one channel per segment" in result["error"]
