"""Training a supernet: its steps against plain networks, its draws, and what is refused."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spectrum import (
    FieldError,
    Recipe,
    Sandwich,
    Supernet,
    build,
    count_costs,
    evaluate,
    fit,
    score,
)
from spectrum.layers import SegmentedConv
from spectrum.layers.spatial import plain_convs
from spectrum.networks import NetworkConfig
from spectrum.training import CheckpointMismatch
from spectrum.training.method import Batch
from tests.training.conftest import dataset, same
from tests.training.together import several_labels

CONFIG = NetworkConfig(name="tiny", width=0.15, num_classes=3, in_channels=2)
SEGMENTS = ["1", "3", "C/4", "C"]
SHAPE = (2, 8, 8)
RECIPE = Recipe(epochs=2, batch_size=16, lr=0.01, precise_bn=32)


def supernet(segments: Any = SEGMENTS, widths: Any = (0.1, 0.15), **fields: Any) -> Supernet:
    torch.manual_seed(0)
    return Supernet(CONFIG.model_copy(update=fields), segments, widths)


def test_one_network_alone_is_trained_as_a_plain_one() -> None:
    network = supernet(["1"], None, dropout=0.2)
    expected = fit(network.extract("1"), dataset(), RECIPE, seed=3)
    found = fit(network, dataset(), RECIPE, seed=3, method=Sandwich())
    for line in (*expected.curve, *found.curve):
        del line["seconds"]
    assert found.curve == expected.curve
    assert isinstance(found.network, Supernet)
    assert same(found.network.extract("1"), expected.network)


@pytest.mark.parametrize(
    ("name", "distill", "budget"),
    [("tiny", True, None), ("tiny", False, None), ("inception_v3", True, None), ("tiny", False, 1)],
)
def test_the_gradient_of_a_step_is_the_sum_of_those_of_plain_networks(
    name: str, distill: bool, budget: int | None
) -> None:
    """Weights of a plain network are linear in shared ones, so gradients are compared by them."""
    side = 8
    network, segments = supernet(), SEGMENTS
    if name == "inception_v3":  # has an auxiliary head
        side, segments = 299, ["1", "C"]
        given = NetworkConfig(name=name, width=0.05, num_classes=3, in_channels=2, aux_logits=True)
        network = Supernet(given, segments, [0.04, 0.05])
    network = network.double().train()
    images, labels = torch.randn(4, 2, side, side).double(), torch.tensor([0, 1, 2, 0])
    method = Sandwich(3 if budget else 1, distill, budget)
    direction = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in direction.parameters():
            parameter.normal_()
    members = method.networks(network, 5, 7, images.shape[1:])
    assert len(members) == 3
    plain = [network.extract(list(schedule), width) for schedule, width in members]
    moved = [direction.extract(list(schedule), width) for schedule, width in members]

    def log_probabilities(logits: Tensor) -> Tensor:
        # Logits are rounded to float32, in which fit computes losses.
        return logits.float().log_softmax(1)

    expected = 0.0
    targets = torch.eye(3)[labels] * 0.9 + 0.1 / 3
    first_loss = None
    for member, step in zip(plain, moved, strict=True):
        output = member(images)
        heads = [log_probabilities(x) for x in (output if isinstance(output, tuple) else (output,))]
        if first_loss is None:
            losses = [-(targets * head).sum(1).mean() for head in heads]
            loss = first_loss = losses[0] + sum(0.4 * head for head in losses[1:])
            kept = heads[0].detach().exp()
        else:
            loss = -((kept if distill else targets) * heads[0]).sum(1).mean()
        loss.backward()
        directions = {name: p.detach() for name, p in step.named_parameters()}
        expected += sum(
            float((parameter.grad * directions[name]).sum())
            for name, parameter in member.named_parameters()
            if parameter.grad is not None
        )
    loss = method.backward(network, Batch(images, labels, RECIPE, "float32", 5, 7))
    found = sum(
        float((parameter.grad * step.detach()).sum())
        for parameter, step in zip(network.parameters(), direction.parameters(), strict=True)
        if parameter.grad is not None
    )
    assert first_loss is not None
    assert float(loss) == pytest.approx(float(first_loss.detach()), rel=1e-6)
    assert found == pytest.approx(expected, rel=1e-4)


def test_every_layer_draws_each_candidate_as_often() -> None:
    network, method, steps = supernet(), Sandwich(members=3), 240
    first, last = ("1",) * 9, ("C",) * 9
    drawn: list[tuple[tuple[str, ...], float]] = []
    for step in range(steps):
        texts = [(tuple(map(str, s)), w) for s, w in method.networks(network, 1, step, SHAPE)]
        assert texts[:2] == [(first, 0.15), (last, 0.1)]
        drawn += texts[2:]
    assert len(drawn) == 3 * steps
    for layer in range(network.layer_count):
        assert set(Counter(s[layer] for s, _ in drawn).values()) == {3 * steps / 4}
    # Layers and widths are drawn independently.
    pairs = Counter((s[i], s[j]) for s, _ in drawn for i in range(9) for j in range(i))
    assert len(pairs) == 16
    assert min(pairs.values()) > 0.8 * max(pairs.values())
    with_widths = Counter((s[0], w) for s, w in drawn)
    assert len(with_widths) == 8
    assert min(with_widths.values()) > 0.5 * max(with_widths.values())
    assert method.networks(network, 1, 0, SHAPE) != method.networks(network, 2, 0, SHAPE)


@pytest.mark.parametrize("match", ["params", "macs"])
def test_with_a_budget_networks_have_the_width_that_meets_it_best(match: Any) -> None:
    network = supernet(widths=(0.1, 0.12, 0.15, 0.2, 0.3))
    budget = getattr(count_costs(network.extract("C/4", 0.15), SHAPE), match)
    drawn = []
    for step in range(8):
        found = Sandwich(2, False, budget, match).networks(network, 1, step, SHAPE)
        assert len(found) == 2  # and no other network
        drawn += found
        for schedule, width in found:
            costs = {
                w: getattr(count_costs(network.extract([*schedule], w), SHAPE), match)
                for w in network.widths
            }
            nearest = min(costs, key=lambda w: max(costs[w] / budget, budget / costs[w]))
            assert width == nearest
    for layer in range(network.layer_count):
        assert set(Counter(str(s[layer]) for s, _ in drawn).values()) == {4}
    assert len({width for _, width in drawn}) > 1


def test_with_a_budget_schedules_lean_towards_each_candidate() -> None:
    network, method = supernet(), Sandwich(4, False, 9000)
    drawn = [s for step in range(200) for s, _ in method.networks(network, 1, step, SHAPE)]
    most = [max(Counter(map(str, schedule)).items(), key=lambda c: c[1]) for schedule in drawn]
    # Independent layers would lean so far in one of 1,000 schedules, by the binomial distribution.
    far = Counter(name for name, count in most if count >= 8)
    assert set(far) == set(SEGMENTS)
    assert sum(far.values()) > 0.1 * len(drawn)
    assert sum(count <= 4 for _, count in most) > 0.3 * len(drawn)


def test_a_network_is_executed_once_in_a_step() -> None:
    network = supernet(["1"], [0.1, 0.12, 0.15])
    drawn = Sandwich(members=50).networks(network, 0, 0, SHAPE)
    assert [width for _, width in drawn] == [0.15, 0.1, 0.12]


@pytest.fixture(scope="module")
def trained() -> Any:
    return fit(supernet(), dataset(), RECIPE, seed=4, method=Sandwich())


def test_the_curve_is_the_mean_of_the_candidates(trained: Any) -> None:
    network = copy.deepcopy(trained.network)
    assert network.schedule == "1"
    assert network.width == 0.15
    kept = evaluate(network, dataset().validation)
    scores = {s: score(network, s, None, dataset(), RECIPE, seed=4) for s in reversed(SEGMENTS)}
    assert scores["1"].loss == kept.loss
    line = trained.curve[-1]
    assert line["val_loss"] == fmean(metrics.loss for metrics in scores.values())
    assert line["val_top1"] == fmean(metrics.top1 for metrics in scores.values())
    assert len({metrics.loss for metrics in scores.values()}) == 4
    assert line["val_loss"] < trained.curve[0]["val_loss"]


def test_a_score_is_that_of_the_plain_network(trained: Any) -> None:
    network = copy.deepcopy(trained.network)
    schedule = ["1", "C", "3", "C/4", "1", "C", "3", "C/4", "1"]
    found = score(network, schedule, 0.12, dataset(), RECIPE)
    plain = network.extract(schedule, 0.12)
    train, validation = dataset().train, dataset().validation
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a mean over all batches
    with torch.no_grad():
        for first in (0, 16):
            plain.train()(train.images[first : first + 16])
        logits = plain.eval()(validation.images)
    loss = nn.functional.cross_entropy(logits, validation.labels)
    assert found.loss == pytest.approx(float(loss), rel=1e-5)
    assert found.correct.equal(logits.argmax(1) == validation.labels)


def test_all_kernels_that_may_run_are_known_before() -> None:
    def shapes(network: nn.Module) -> set[tuple[int, ...]]:
        layers = [module for module in network.modules() if isinstance(module, SegmentedConv)]
        return {tuple(c.weight.shape) for layer in layers for c in plain_convs(layer.spatial)}

    expected = set()
    for segments in SEGMENTS:
        for width in (0.1, 0.15):
            expected |= shapes(
                build(CONFIG.model_copy(update={"segments": segments, "width": width}))
            )
    assert shapes(Sandwich().layers(supernet())) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments": ["1", "C"]}, r"segments \(=1,3,C/4,C\) must be 1,C"),
        ({"widths": [0.12, 0.15]}, r"widths \(=0.15,0.1\) must be 0.15,0.12"),
        ({"method": Sandwich(members=1)}, r"members \(=2\) must be 1"),
        ({"method": Sandwich(distill=False)}, r"distill \(=True\) must be False"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path, short = tmp_path / "checkpoint.pt", RECIPE.model_copy(update={"epochs": 1})
    fit(supernet(), dataset(), short, method=Sandwich(), checkpoint=path)
    options = {"method": Sandwich(), "checkpoint": path, **change}
    network = supernet(options.pop("segments", SEGMENTS), options.pop("widths", (0.1, 0.15)))
    with pytest.raises(CheckpointMismatch, match=message):
        fit(network, dataset(), short, **options)


def test_a_checkpoint_of_one_schedule_is_refused(tmp_path: Path) -> None:
    path, short = tmp_path / "checkpoint.pt", RECIPE.model_copy(update={"epochs": 1})
    fit(supernet(), dataset(), short, checkpoint=path)
    with pytest.raises(CheckpointMismatch, match=r"segments \(=None\) must be 1,3,C/4,C"):
        fit(supernet(), dataset(), short, method=Sandwich(), checkpoint=path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sandwich(members=-1), r"members \(=-1\) must be at least 0"),
        (lambda: Sandwich(0, False, 100), r"members \(=0\) must be at least 1"),
        (lambda: Sandwich(budget=100), r"distill \(=True\) must be False with a budget"),
        (lambda: Sandwich(2, False, 0), r"budget \(=0\) must be a whole number from 1"),
        (lambda: Sandwich(match="macs"), r"match \(='macs'\) must not be given without a budget"),
        (
            lambda: Sandwich(2, False, 100, "flops"),  # type: ignore[arg-type]
            r"match \(='flops'\) must be one of params, macs, activations",
        ),
        (
            lambda: fit(build(CONFIG), dataset(), RECIPE, method=Sandwich()),
            r"network \(='Xception'\) must be a Supernet",
        ),
        (
            lambda: fit(supernet(), dataset(), Recipe(), method=Sandwich()),
            r"recipe\.precise_bn \(=0\) must be at least 1",
        ),
        (
            lambda: fit(supernet(), several_labels(), RECIPE, method=Sandwich()),
            "must have one class per image",
        ),
        (
            lambda: score(supernet(), "2", None, dataset(), RECIPE),
            r"schedule \(='2'\) must be one of the candidates",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(FieldError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
