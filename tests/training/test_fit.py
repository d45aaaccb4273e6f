"""What training gives, the effect of each part of the recipe, and training that is resumed."""

import math
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from spectrum import Dataset, Diverged, Recipe, Split, evaluate, fit
from spectrum.training import CheckpointMismatch
from spectrum.training.checkpoint import save_checkpoint
from tests.training.conftest import RECIPE, dataset, network, same, train


class WithAuxiliary(nn.Module):
    """A network with a second head in training mode only, as Inception has it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.main = nn.Linear(2 * 64, 3)
        self.auxiliary = nn.Linear(2 * 64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        x = x.flatten(1)
        return (self.main(x), self.auxiliary(x)) if self.training else self.main(x)


def test_an_auxiliary_head_adds_four_tenths_of_its_loss() -> None:
    start = WithAuxiliary()
    data = dataset(16)
    images, labels = data.train.images.flatten(1), data.train.labels
    losses = [
        F.cross_entropy(head(images), labels, label_smoothing=0.1).item()
        for head in (start.main, start.auxiliary)
    ]
    fitted = fit(start, data, RECIPE.model_copy(update={"epochs": 1, "label_smoothing": 0.1}))
    assert fitted.curve[0]["train_loss"] == pytest.approx(losses[0] + 0.4 * losses[1])
    assert not torch.equal(fitted.network.auxiliary.weight, WithAuxiliary().auxiliary.weight)
    right = fitted.network.main(data.test.images.flatten(1)).argmax(1) == data.test.labels
    assert evaluate(fitted.network, data.test).top1 == pytest.approx(right.float().mean().item())


@pytest.mark.parametrize("precise_bn", [0, 64])
def test_the_curve_is_that_of_the_network_it_returns(precise_bn: int) -> None:
    fitted = train(precise_bn=precise_bn)
    measured = evaluate(fitted.network, dataset().validation)
    assert fitted.curve[-1]["val_top1"] == measured.top1
    assert fitted.curve[-1]["val_loss"] == pytest.approx(measured.loss, abs=1e-6)


def test_averaged_weights_are_the_moving_average() -> None:
    seen: list[dict[str, torch.Tensor]] = []
    raw = network()

    def stepped(*_: object) -> None:
        seen.append({k: v.clone() for k, v in raw.named_parameters()})

    hook = register_optimizer_step_post_hook(stepped)
    try:
        fitted = fit(raw, dataset(), RECIPE.model_copy(update={"average": 0.7}))
    finally:
        hook.remove()
    expected = seen[0]
    for n, weights in enumerate(seen[1:], start=1):
        decay = min(0.7, (1 + n) / (10 + n))
        expected = {k: decay * expected[k] + (1 - decay) * w for k, w in weights.items()}
    for name, parameter in fitted.network.named_parameters():
        assert torch.allclose(parameter, expected[name], atol=1e-6), name
    assert not same(fitted.network, raw)


# What the training is, and the one change that must make it end elsewhere.
SGD = {"optimizer": "sgd", "momentum": 0.5}
FALLING = {"schedule": "exponential", "decay": 0.5, "decay_every": 1.0}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "epochs": ({}, {"epochs": 2}),
    "batch_size": ({}, {"batch_size": 20}),
    "optimizer": ({}, {"optimizer": "sgd"}),
    "lr": ({}, {"lr": 0.02}),
    "momentum": (SGD, {"momentum": 0.6}),
    "schedule": ({}, {"schedule": "exponential"}),
    "warmup": ({}, {"warmup": 0.5}),
    "decay": (FALLING, {"decay": 0.6}),
    "decay_every": (FALLING, {"decay_every": 2.0}),
    "decay_unit": (FALLING | {"decay_every": 20.0}, {"decay_unit": "samples"}),
    "weight_decay": ({}, {"weight_decay": 0.2}),
    "label_smoothing": ({}, {"label_smoothing": 0.0}),
    "average": ({}, {"average": 0.0}),
    "precise_bn": ({}, {"precise_bn": 32}),
    "clip": ({}, {"clip": 0.1}),
    "crop": ({}, {"crop": 1}),
    "flip": ({}, {"flip": True}),
    "cutout": ({}, {"cutout": 3}),
    "seed": ({}, {"seed": 1}),
    "precision": ({}, {"precision": "bfloat16"}),
    "dropout": ({}, {"dropout": 0.5}),
    "rmsprop": ({"optimizer": "sgd"}, {"optimizer": "rmsprop"}),
    "momentum of rmsprop": ({"optimizer": "rmsprop"}, {"momentum": 0.5}),
    "weight decay of sgd": (SGD, {"weight_decay": 0.2}),
    "weight decay of rmsprop": ({"optimizer": "rmsprop"}, {"weight_decay": 0.2}),
}


trained = lru_cache(lambda *options: train(**dict(options)).network)


@pytest.mark.parametrize("option", CHANGES)
def test_each_option_alone_changes_the_weights(option: str) -> None:
    base, changes = CHANGES[option]
    first, second = trained(*base.items()), train(**{**base, **changes}).network
    assert not same(first, second)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    weights_alike = all(torch.equal(x, y) for x, y in pairs)
    assert weights_alike == (option == "precise_bn")  # which is about statistics alone


def test_the_memory_layout_is_that_asked_for() -> None:
    weight = "stem.0.conv.weight"
    for layout in (True, False):
        tensor = train(channels_last=layout).network.get_parameter(weight)
        assert tensor.is_contiguous(memory_format=torch.channels_last) == layout


def test_every_option_of_the_recipe_is_tested() -> None:
    # The last two have an effect on streamed images and on training in several processes.
    untested = {"name", "channels_last", "crop_area", "batch_norm"}
    assert set(Recipe.model_fields) - set(CHANGES) == untested


def test_the_same_seed_gives_the_same_weights_and_leaves_no_trace() -> None:
    fields = {"dropout": 0.3, "precise_bn": 40, "seed": 2}
    network()  # sets torch's seed, as train does
    state = torch.get_rng_state()
    first = train(**fields).network
    assert torch.equal(torch.get_rng_state(), state)
    model = network(dropout=0.3)
    torch.manual_seed(99)
    again = fit(model, dataset(), Recipe(**RECIPE.model_dump() | {"precise_bn": 40}), seed=2)
    assert same(first, again.network)


@pytest.mark.parametrize("average", [0.5, 0.0])
def test_the_network_that_is_returned_is_a_copy_if_weights_are_averaged(average: float) -> None:
    given = network().eval()
    start = {name: tensor.clone() for name, tensor in given.state_dict().items()}
    returned = fit(given, dataset(), RECIPE.model_copy(update={"average": average})).network
    assert (returned is given) == (average == 0)
    assert given.training
    assert returned.training == (average == 0)  # a copy keeps the mode that it was made in
    assert not torch.equal(given.state_dict()["stem.0.conv.weight"], start["stem.0.conv.weight"])


def test_the_test_split_is_never_read() -> None:
    data = dataset()
    hidden = Split(torch.full_like(data.test.images, math.nan), data.test.labels)
    blind = Dataset(data.train, data.validation, hidden, data.classes, data.shape, "made up")
    assert same(fit(network(), blind, RECIPE).network, train().network)


def test_a_loss_that_is_not_finite_raises_diverged() -> None:
    with pytest.raises(Diverged, match="loss is nan in epoch 1 of 3"):
        train(lr=1e12)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precise_bn": 40, "average": 0.0},
        {"name": "imagenet", "epochs": 3, "batch_size": 16},
        {"name": "jft", "epochs": 3, "batch_size": 16, "decay_every": 70},
    ],
    ids=str,
)
def test_training_resumes_from_a_checkpoint(changes: dict[str, Any], tmp_path: Path) -> None:
    whole = train(dropout=0.3, **changes)
    path = tmp_path / "state.pt"

    class Stop(Exception):
        pass

    def stop(line: dict[str, float]) -> None:
        if line["epoch"] == 2:
            raise Stop

    with pytest.raises(Stop):
        train(dropout=0.3, checkpoint=path, on_evaluation=stop, **changes)
    lines: list[dict[str, float]] = []
    resumed = train(dropout=0.3, checkpoint=path, on_evaluation=lines.append, **changes)
    assert same(whole.network, resumed.network)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert resumed.curve == lines
    untimed = [[{**line, "seconds": 0} for line in fitted.curve] for fitted in (whole, resumed)]
    assert untimed[0] == untimed[1]


def test_a_training_stopped_within_an_epoch_repeats_none_of_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"dropout": 0.3, "flip": True, "crop": 1, "average": 0.9}
    whole = train(**changes)
    loop = sys.modules["spectrum.training.fit"]
    monkeypatch.setattr(loop, "_SAVE_EVERY", 0.0)
    saved: list[tuple[int, int]] = []

    def save(path: Path, state: dict[str, Any]) -> None:
        save_checkpoint(path, state)
        saved.append((len(state["curve"]), state["unfinished"].get("step", 0)))
        if len(saved) in (3, 6):
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", save)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(checkpoint=tmp_path / "state.pt", **changes)
    resumed = train(checkpoint=tmp_path / "state.pt", **changes)
    assert same(whole.network, resumed.network)
    # Of each epoch three steps are saved within it and the fourth at its end, each once.
    assert saved == [
        *[(0, 1), (0, 2), (0, 3)],
        *[(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3), (3, 0)],
    ]
    for ours, theirs in zip(whole.curve, resumed.curve, strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    seconds = [line["seconds"] for line in resumed.curve]
    assert seconds == sorted(seconds)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "state.pt")
    train(epochs=1, checkpoint=path)
    for field, value in {"lr": 0.02, "epochs": 4, "seed": 1, "precision": "bfloat16"}.items():
        with pytest.raises(CheckpointMismatch, match=rf"must be of the same training: {field} \(="):
            train(**{"epochs": 1, field: value}, checkpoint=path)
    with pytest.raises(CheckpointMismatch, match=r"identity \(=''\) must be 'another'"):
        train(epochs=1, checkpoint=path, identity="another")


@pytest.mark.parametrize(("epochs", "warmup"), [(3, 0.25), (9, 0.1), (1, 0.5), (1, 0.01)])
def test_a_warmup_of_any_length_works(epochs: int, warmup: float) -> None:
    fitted = train(epochs=epochs, warmup=warmup, batch_size=2000)
    assert len(fitted.curve) == epochs


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    fitted = fit(network(), dataset(n=9), RECIPE)
    assert [line["samples"] for line in fitted.curve] == [9, 18, 27]
