"""Schedules and optimisers against their definitions, written out in plain loops."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from spectrum import Recipe, fit
from spectrum.training.optimizer import make_optimizer
from tests.training.conftest import dataset, network, train


@contextmanager
def at_every_step(field: str) -> Iterator[list[float]]:
    """What a field of the optimiser is at every step that is taken meanwhile."""
    seen: list[float] = []
    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: seen.append(optimizer.param_groups[0][field])
    )
    try:
        yield seen
    finally:
        hook.remove()


def rates(recipe: Recipe, n: int = 70) -> list[float]:
    """The learning rate of every step of a training."""
    with at_every_step("lr") as seen:
        fit(nn.Sequential(nn.Flatten(), nn.Linear(128, 3)), dataset(n), recipe)
    return seen


def staircase(recipe: Recipe, n: int = 70) -> list[float]:
    """The same by counting images and epochs."""
    rate, since, expected = recipe.lr, 0.0, []
    for _ in range(recipe.epochs):
        for _ in range(n // recipe.batch_size):
            expected.append(rate)
            epochs = recipe.decay_unit == "epochs"
            since += 1 / (n // recipe.batch_size) if epochs else recipe.batch_size
            while since >= recipe.decay_every - 1e-9:
                since -= recipe.decay_every
                rate *= recipe.decay
    return expected


@pytest.mark.parametrize("every", [1, 2, 3, 0.5, 1.5])
def test_imagenets_rate_falls_every_so_many_epochs(every: float) -> None:
    recipe = Recipe(name="imagenet", epochs=7, batch_size=16, decay_every=every)
    assert rates(recipe) == pytest.approx(staircase(recipe), rel=1e-12)
    if every == 2:  # 4 steps an epoch
        assert rates(recipe) == pytest.approx([0.045 * 0.94 ** (i // 8) for i in range(28)])


@pytest.mark.parametrize("every", [16, 100, 33.3, 5, 10_000])
def test_jfts_rate_falls_every_so_many_samples(every: float) -> None:
    recipe = Recipe(name="jft", epochs=4, batch_size=16, decay_every=every)
    assert rates(recipe) == pytest.approx(staircase(recipe), rel=1e-12)
    if every == 100:
        seen = [16 * i // 100 for i in range(16)]
        assert rates(recipe) == pytest.approx([0.001 * 0.9**times for times in seen])


def test_a_single_smaller_batch_counts_its_own_images() -> None:
    recipe = Recipe(name="jft", epochs=6, batch_size=32, decay_every=18)
    assert rates(recipe, n=9) == pytest.approx([0.001 * 0.9 ** (i // 2) for i in range(6)])


def test_the_curve_has_the_learning_rate_after_the_epoch() -> None:
    fitted = train(name="imagenet", epochs=4, batch_size=16, lr=0.01)
    rate = [line["lr"] for line in fitted.curve]
    assert rate == pytest.approx([0.01, 0.0094, 0.0094, 0.01 * 0.94**2])


def test_a_cycle_under_sgd_leaves_the_momentum_alone() -> None:
    with at_every_step("momentum") as seen:
        train(optimizer="sgd", momentum=0.7)
    assert set(seen) == {0.7}
    rising = rates(Recipe(optimizer="sgd", epochs=3, batch_size=16))
    assert max(rising) == pytest.approx(4e-3, rel=0.02)
    assert rising[0] == pytest.approx(4e-3 / 25)


def plain(recipe: Recipe, decayed: float, seed: int) -> nn.Module:
    """The same training in a plain loop, the optimisers by their definitions.

    SGD as Sutskever et al. with torch's velocity, RMSprop as Hinton's with momentum.
    """
    data, model = dataset(), network()
    state: dict[Tensor, tuple[Tensor, Tensor]] = {}
    step = 0
    for epoch in range(1, recipe.epochs + 1):
        torch.manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(70)
        model.train()
        for i in range(4):
            batch = order[16 * i : 16 * (i + 1)]
            rate = recipe.lr * decayed ** (step // 4)
            loss = F.cross_entropy(model(data.train.images[batch]), data.train.labels[batch])
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for p in model.parameters():
                    assert p.grad is not None
                    gradient = p.grad + recipe.weight_decay * p
                    velocity, square = state.get(p, (torch.zeros_like(p), torch.zeros_like(p)))
                    if recipe.optimizer == "rmsprop":
                        square = 0.99 * square + 0.01 * gradient**2
                        gradient = gradient / (square.sqrt() + 1e-8)
                    velocity = recipe.momentum * velocity + gradient
                    p -= rate * velocity
                    state[p] = velocity, square
            step += 1
    return model


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("name", "lr"), [("imagenet", 0.045), ("jft", 0.001)])
def test_the_papers_optimisers_are_the_plain_loop(name: Any, lr: float, momentum: float) -> None:
    recipe = Recipe(
        **{"name": name, "epochs": 2, "batch_size": 16, "average": 0.0, "precise_bn": 0},
        **{"momentum": momentum, "weight_decay": 0.05, "decay": 0.5, "channels_last": False},
        decay_every=1 if name == "imagenet" else 64,
    )
    assert recipe.lr == lr
    fitted = fit(network(), dataset(), recipe, seed=5).network.state_dict()
    for key, tensor in plain(recipe, 0.5, seed=5).state_dict().items():
        torch.testing.assert_close(tensor, fitted[key], atol=1e-4, rtol=1e-3, msg=key)


def test_the_steps_and_the_state_are_those_of_torchs_optimisers() -> None:
    kinds = {
        "sgd": lambda p: torch.optim.SGD(p, 0.01, 0.7, weight_decay=0.1, fused=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.7, weight_decay=0.1),
        "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1, fused=True),
    }
    for name, kind in kinds.items():
        momentum = {} if name == "adamw" else {"momentum": 0.7}
        ours, theirs = network(), network()
        recipe = Recipe(optimizer=name, lr=0.01, weight_decay=0.1, **momentum)
        optimizers = make_optimizer(ours, recipe), kind(theirs.parameters())
        images, labels = dataset().train.images, dataset().train.labels
        for step in range(4):
            for model, optimizer in zip((ours, theirs), optimizers, strict=True):
                torch.manual_seed(step)
                optimizer.zero_grad()
                F.cross_entropy(model(images), labels).backward()
                optimizer.step()
            if step == 1:  # each goes on from the state of the other
                states = [optimizer.state_dict() for optimizer in optimizers]
                for optimizer, state in zip(optimizers, reversed(states), strict=True):
                    optimizer.load_state_dict(state)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)


def test_training_does_not_load_torchs_compiler() -> None:
    code = (
        "import sys, torch; from spectrum import Recipe; from spectrum.training import optimizer\n"
        "from spectrum.training.averaging import averaged_model\n"
        "for name in ('sgd', 'rmsprop', 'adamw'):\n"
        "    layer, recipe = torch.nn.Linear(2, 1), Recipe(optimizer=name)\n"
        "    made = optimizer.make_optimizer(layer, recipe)\n"
        "    schedule = optimizer.make_schedule(made, recipe, 4, 2)\n"
        "    averaged = averaged_model(layer, 0.9)\n"
        "    made.zero_grad(); layer(torch.ones(1, 2)).sum().backward(); made.step()\n"
        "    schedule.step(); averaged.update_parameters(layer)\n"
        "    made.load_state_dict(made.state_dict())\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()
