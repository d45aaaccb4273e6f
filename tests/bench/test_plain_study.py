"""The plain script does the same work as the default study: network, images, average, schedule."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from spectrum import StudyConfig, load_data
from spectrum.networks import NetworkConfig, build
from spectrum.study.plan import make_plan
from spectrum.training import Recipe
from spectrum.training.optimizer import make_optimizer, make_schedule
from spectrum.training.state import averaged_model

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "plain_study.py"
POINTS = {"1": 0.3701, "4": 0.6275, "32": 0.9419, "C": 1.0}


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_study", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_order(network: nn.Module) -> Iterator[nn.Module]:
    """The modules with weights in the order in which a network runs them, shortcuts last."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear) and "shortcut" not in name:
            yield module
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d) and "shortcut" in name:
            yield module


def test_it_imports_nothing_of_the_package() -> None:
    assert "spectrum" not in {
        line.split()[1].split(".")[0]
        for line in SCRIPT.read_text().splitlines()
        if line.startswith(("import ", "from "))
    }


def test_its_widths_are_those_that_the_default_study_solves(plain: ModuleType) -> None:
    solved = {p.network.segments: p.network.width for p in make_plan(StudyConfig()).points}
    assert solved == POINTS
    written = dict(point.split("=") for point in plain.WIDTHS.split(","))
    assert {point: float(width) for point, width in written.items()} == POINTS


@pytest.mark.parametrize("segments", POINTS)
def test_its_network_is_ours(plain: ModuleType, segments: str) -> None:
    width = POINTS[segments]
    theirs = plain.tiny_xception(segments, width)
    config = NetworkConfig(
        name="tiny", segments=segments, width=width, num_classes=10, in_channels=1
    )
    ours = build(config)
    for mine, other in zip(in_order(ours), in_order(theirs), strict=True):
        mine.load_state_dict(other.state_dict())
    images = torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(ours(images), theirs(images))
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


def test_its_images_are_ours(plain: ModuleType) -> None:
    dataset, theirs = load_data("digits"), plain.load_splits()
    for name, ours in (("train", dataset.train), ("val", dataset.validation)):
        torch.testing.assert_close(theirs[name].tensors, (ours.images, ours.labels))
    torch.testing.assert_close(theirs["test"].tensors, (dataset.test.images, dataset.test.labels))


def test_its_average_is_ours(plain: ModuleType) -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    ours = averaged_model(network, Recipe().average)
    theirs = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=plain.moving_average(0.98), use_buffers=True
    )
    for _ in range(12):
        network(torch.randn(5, 3))
        with torch.no_grad():
            network[0].weight.add_(1)
        ours.update_parameters(network)
        theirs.update_parameters(network)
    torch.testing.assert_close(dict(theirs.state_dict()), dict(ours.state_dict()))


def test_its_optimiser_and_schedule_are_ours(
    plain: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[float, float, tuple[float, float]]] = []
    step = torch.optim.AdamW.step

    def noting(self: torch.optim.AdamW, *given: object) -> object:
        group = self.param_groups[0]
        taken.append((group["lr"], group["weight_decay"], group["betas"]))
        return step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    row = plain.run("C", 0.1, 0, 2, plain.load_splits())
    assert 0 < row["test_top1"] <= 1
    recipe = Recipe(epochs=2)
    steps = len(load_data("digits").train) // recipe.batch_size
    assert len(taken) == 2 * steps
    optimizer = make_optimizer(nn.Linear(1, 1), recipe)
    schedule = make_schedule(optimizer, recipe, steps, recipe.batch_size)
    for lr, decay, betas in taken:
        group = optimizer.param_groups[0]
        assert (lr, decay) == pytest.approx((group["lr"], group["weight_decay"]))
        assert betas == pytest.approx(group["betas"])
        optimizer.zero_grad()
        schedule.optimizer._opt_called = True  # type: ignore[attr-defined]
        schedule.step()
