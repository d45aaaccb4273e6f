"""Batch normalisation's statistics for the averaged weights, recomputed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spectrum import Recipe, evaluate, fit
from spectrum.training.averaging import recompute_bn_statistics
from tests.training.conftest import dataset, network, same, train


def statistics_by_hand(model: nn.Module, images: Tensor, batch: int) -> dict[str, Tensor]:
    """The mean over whole batches of each normalisation's batch mean and unbiased variance."""
    sums: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, given: tuple[Tensor]) -> None:
            x = given[0].transpose(0, 1).flatten(1)
            for kind, value in (("mean", x.mean(1)), ("var", x.var(1, unbiased=True))):
                key = f"{name}.running_{kind}"
                sums[key] = sums.get(key, torch.zeros_like(value)) + value

        return hook

    norms = {n: m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    hooks = [m.register_forward_pre_hook(note(n)) for n, m in norms.items()]
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    count = len(images) // batch
    with torch.no_grad():
        for i in range(count):
            model(images[i * batch : (i + 1) * batch])
    for hook in hooks:
        hook.remove()
    model.load_state_dict(kept)
    return {key: value / count for key, value in sums.items()}


@pytest.mark.parametrize("average", [0.9, 0.0])
@pytest.mark.parametrize("n", [1, 16, 40, 8192])
def test_statistics_are_the_mean_over_training_batches(n: int, average: float) -> None:
    fitted = train(dropout=0.4, precise_bn=n, average=average)
    images = dataset().train.images[: max(n, 16)]
    expected = statistics_by_hand(fitted.network, images, 16)
    found = fitted.network.state_dict()
    assert len(expected) == 2 * 12
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-4)
    plain = train(dropout=0.4, average=average).network
    for (name, x), (_, y) in zip(
        plain.named_parameters(), fitted.network.named_parameters(), strict=True
    ):
        assert torch.equal(x, y), name  # training itself goes on as without


def test_the_curve_is_measured_with_the_recomputed_statistics() -> None:
    fitted = train(precise_bn=64)
    measured = evaluate(fitted.network, dataset().validation)
    assert fitted.curve[-1]["val_loss"] == pytest.approx(measured.loss, abs=1e-6)
    running = train().curve[-1]["val_loss"]
    assert abs(fitted.curve[-1]["val_loss"] - running) > 1e-4


def test_recomputing_leaves_weights_mode_and_momentum_alone() -> None:
    images = dataset().train.images
    for training in (True, False):
        model = network().train(training)
        before = {key: value.clone() for key, value in model.named_parameters()}
        momenta = [m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        expected = statistics_by_hand(network(), images, 20)
        recompute_bn_statistics(model, images[:60].split(20))
        assert all(module.training == training for module in model.modules())
        assert [m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)] == momenta
        assert all(torch.equal(before[key], value) for key, value in model.named_parameters())
        for key, value in expected.items():
            torch.testing.assert_close(model.state_dict()[key], value, atol=1e-6, rtol=1e-5)


def test_statistics_are_computed_in_the_precision_of_the_run() -> None:
    images = dataset().train.images
    full, half = network(), network()
    recompute_bn_statistics(full, images[:64].split(16))
    recompute_bn_statistics(half, images[:64].split(16), "bfloat16")
    assert not same(full, half)
    for x, y in zip(full.state_dict().values(), half.state_dict().values(), strict=True):
        torch.testing.assert_close(x, y, atol=0.03, rtol=0.05)


def test_a_network_without_normalisation_works_too() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
    recipe = Recipe(name="imagenet", epochs=1, batch_size=16)
    assert len(fit(model, dataset(), recipe).curve) == 1


@pytest.mark.parametrize("name", ["imagenet", "jft"])
def test_dropout_leaves_torchs_random_state_alone(name: str) -> None:
    torch.manual_seed(3)
    model = network(dropout=0.5)
    state = torch.get_rng_state()
    recipe = Recipe(name=name, epochs=2, batch_size=16)  # type: ignore[arg-type]
    first = fit(model, dataset(), recipe).network
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    model = network(dropout=0.5)
    torch.rand(7)
    assert same(first, fit(model, dataset(), recipe).network)
