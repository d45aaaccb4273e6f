"""Schedules and optimisers against their definitions, written out in plain loops."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from spectrum import Recipe, fit
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


@pytest.mark.parametrize(
    ("name", "every"),
    [*(("imagenet", n) for n in (1, 2, 3, 0.5, 1.5)), *(("jft", n) for n in (16, 100, 33.3, 5))],
)
def test_the_papers_rates_fall_every_so_many_epochs_or_samples(name: Any, every: float) -> None:
    recipe = Recipe(name=name, epochs=7, batch_size=16, decay_every=every)
    assert rates(recipe) == pytest.approx(staircase(recipe), rel=1e-12)


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


def one_cycle(recipe: Recipe, steps: int) -> list[tuple[float, float]]:
    """The learning rate and the first beta of every step, by their definition."""
    total, lr = steps + 1, recipe.lr
    rise = recipe.warmup * total - 1
    rows = []
    for step in range(steps):
        # Cosine from lr / 25 up to lr, then down to lr / 250,000; the beta the other way round.
        start, end, share = lr / 25, lr, step / rise
        if step > rise:
            start, end, share = lr, lr / 25e4, (step - rise) / (total - 1 - rise)
        rate = end + (start - end) * (1 + math.cos(math.pi * share)) / 2
        rows.append((rate, 0.95 - 0.1 * (rate - min(start, end)) / abs(start - end)))
    return rows


def plain(recipe: Recipe, rows: list[tuple[float, float]], seed: int) -> nn.Module:
    """The same training in a plain loop, the optimisers by their definitions.

    AdamW as Loshchilov and Hutter, SGD as Sutskever et al. with torch's velocity, RMSprop as
    Hinton's with momentum.

    Args:
        recipe: the recipe, without averages.
        rows: the learning rate and the momentum, or first beta, of every step.
        seed: of the order of the data.
    """
    data, model = dataset(), network()
    moments = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()}
    for step, (rate, momentum) in enumerate(rows):
        if step % 4 == 0:
            torch.manual_seed(seed * 1_000_003 + step // 4 + 1)
            order = torch.randperm(70)
        batch = order[16 * (step % 4) : 16 * (step % 4 + 1)]
        target = torch.full((16, 3), recipe.label_smoothing / 3)
        target[torch.arange(16), data.train.labels[batch]] += 1 - recipe.label_smoothing
        logits = model.train()(data.train.images[batch])
        gradients = torch.autograd.grad(-(target * logits.log_softmax(1)).sum(1).mean(), [*moments])
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
        scale = min(1.0, recipe.clip / (norm + 1e-6)) if recipe.clip else 1.0
        for p, gradient in zip(moments, gradients, strict=True):
            first, second = moments[p]
            if recipe.optimizer == "adamw":
                decay, change = rate * recipe.weight_decay, gradient * scale
                first = momentum * first + (1 - momentum) * change
                second = 0.999 * second + 0.001 * change**2
                spread = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
                change = first / (1 - momentum ** (step + 1)) / spread
            else:
                decay, change = 0.0, gradient * scale + recipe.weight_decay * p.detach()
                if recipe.optimizer == "rmsprop":
                    second = 0.99 * second + 0.01 * change**2
                    change = change / (second.sqrt() + 1e-8)
                first = change = momentum * first + change
            moments[p] = first, second
            p.data = p.data * (1 - decay) - rate * change
    return model


PAPER = {"epochs": 2, "precise_bn": 0, "momentum": 0.9, "weight_decay": 0.05, "decay": 0.5}


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({"epochs": 3, "lr": 0.01, "clip": 0.5}, one_cycle(Recipe(lr=0.01), 12)),
        ({"name": "imagenet", **PAPER, "decay_every": 1}, [(0.045, 0.9)] * 4 + [(0.0225, 0.9)] * 4),
        ({"name": "jft", **PAPER, "decay_every": 64}, [(0.001, 0.9)] * 4 + [(0.0005, 0.9)] * 4),
    ],
    ids=["small", "imagenet", "jft"],
)
def test_fit_equals_a_plain_loop(fields: dict[str, Any], rows: list[tuple[float, float]]) -> None:
    recipe = Recipe(**fields, batch_size=16, average=0.0, channels_last=False)
    fitted = fit(network(), dataset(), recipe, seed=7)
    assert fitted.curve[-1]["samples"] == 16 * len(rows)
    found = fitted.network.state_dict()
    for key, tensor in plain(recipe, rows, seed=7).state_dict().items():
        torch.testing.assert_close(tensor, found[key], atol=2e-4, rtol=1e-3, msg=key)


def test_training_does_not_load_torchs_compiler() -> None:
    code = (
        "import sys, torch; from spectrum import Recipe; from spectrum.training import optimizer\n"
        "from spectrum.training.state import averaged_model\n"
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
