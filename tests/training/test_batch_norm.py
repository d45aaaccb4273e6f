"""Batch normalisation's statistics for the averaged weights, recomputed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spectrum import Recipe, fit
from tests.training.conftest import dataset, train


def statistics_by_hand(model: nn.Module, images: Tensor, batch: int) -> dict[str, Tensor]:
    """The mean over whole batches of each normalisation's batch mean and unbiased variance."""
    sums: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, given: tuple[Tensor]) -> None:
            x = given[0].float().transpose(0, 1).flatten(1)
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


@pytest.mark.parametrize(("n", "average"), [(1, 0.9), (40, 0.0), (8192, 0.9)])
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


def test_statistics_are_computed_in_the_precision_of_the_run() -> None:
    fitted = train(precise_bn=64, precision="bfloat16").network
    full = statistics_by_hand(fitted, dataset().train.images, 16)
    with torch.autocast("cpu", torch.bfloat16):
        half = statistics_by_hand(fitted, dataset().train.images, 16)
    for key, value in half.items():
        torch.testing.assert_close(fitted.state_dict()[key], value, atol=1e-4, rtol=1e-3)
    assert any(not torch.allclose(full[key], half[key], atol=1e-4, rtol=1e-3) for key in full)


def test_a_network_without_normalisation_works_too() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
    recipe = Recipe(name="imagenet", epochs=1, batch_size=16)
    assert len(fit(model, dataset(), recipe).curve) == 1
