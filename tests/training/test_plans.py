"""A training keeps to the plans that it began with, whatever is tuned on the way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from spectrum import Recipe, build, fit
from spectrum.files import write_checked_json
from spectrum.kernels import keep_plans, name_plans
from spectrum.kernels.plans import forget_plans
from spectrum.training.checkpoint import load_checkpoint, save_checkpoint
from spectrum.training.fit import CheckpointMismatch
from tests.training.conftest import dataset, same

RECIPE = Recipe(epochs=2, batch_size=16, lr=0.01)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "spectrum").mkdir(parents=True)
    forget_plans()
    yield tmp_path / "cache" / "spectrum" / "plans.json"
    forget_plans()


def train(**options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    network = build("tiny", 4, num_classes=3, in_channels=2, width=0.15)
    return fit(network, dataset(), RECIPE, **options).network


def stop(line: dict[str, Any]) -> None:
    raise KeyboardInterrupt


def tune_all(cache: Path, plans: dict[str, str]) -> None:
    """Store another plan for every kind of call, as tuning might."""
    other = {call: "merged" if plan == "native" else "native" for call, plan in plans.items()}
    write_checked_json(cache, other)
    forget_plans()


def test_a_resumed_training_keeps_its_plans_though_others_were_tuned(
    cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "state.pt"
    with keep_plans({}) as never_stopped:
        expected = train()
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint=path, on_evaluation=stop)
    saved = load_checkpoint(path)
    assert saved is not None
    assert saved["plans"] == never_stopped
    tune_all(cache, never_stopped)
    with keep_plans({}) as resumed:
        assert same(train(checkpoint=path), expected)
    assert resumed == never_stopped
    with keep_plans({}) as tuned:
        train()
    assert tuned != never_stopped


def test_plans_are_named_by_how_many_kinds_of_layers_were_trained_by_each() -> None:
    with keep_plans({}) as plans:
        train()
    training = [plan for call, plan in plans.items() if call.startswith("training ")]
    assert training
    assert len(training) < len(plans)  # the validation's are not counted
    assert name_plans(plans) == ", ".join(
        f"{plan} {training.count(plan)}" for plan in sorted(set(training))
    )
    assert name_plans({}) == "native"


@pytest.mark.parametrize("plans", [{"training a": "fast"}, {1: "native"}, ["native"], None])
def test_foreign_plans_in_a_checkpoint_are_refused(plans: object, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint=path, on_evaluation=stop)
    saved = load_checkpoint(path)
    assert saved is not None
    save_checkpoint(path, {**saved, "plans": plans})
    with pytest.raises(CheckpointMismatch, match="must be of the same training: "):
        train(checkpoint=path)


def test_an_earlier_checkpoint_without_plans_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint=path, on_evaluation=stop)
    saved = load_checkpoint(path)
    assert saved is not None
    del saved["plans"]
    save_checkpoint(path, saved)
    assert same(train(checkpoint=path), train())
