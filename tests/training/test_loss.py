"""Losses against their definitions, written out."""

import math

import pytest
import torch

from spectrum import Recipe
from spectrum.training.loss import AUXILIARY_WEIGHT, criterion, training_loss


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_several_labels_is_the_mean_binary_cross_entropy(smoothing: float) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(5, 3), torch.rand(5, 3) < 0.4
    total = 0.0
    for row, of_row in zip(logits.tolist(), labels.tolist(), strict=True):
        for score, label in zip(row, of_row, strict=True):
            p = 1 / (1 + math.exp(-score))
            target = label * (1 - smoothing) + smoothing / 2
            total -= target * math.log(p) + (1 - target) * math.log(1 - p)
    assert criterion(logits, labels, smoothing).item() == pytest.approx(total / 15, rel=1e-5)


def test_an_auxiliary_head_has_a_smaller_weight() -> None:
    torch.manual_seed(0)
    main, other, labels = torch.randn(5, 3), torch.randn(5, 3), torch.rand(5, 3) < 0.4
    recipe = Recipe(label_smoothing=0.1)
    expected = criterion(main, labels, 0.1) + AUXILIARY_WEIGHT * criterion(other, labels, 0.1)
    assert torch.equal(training_loss((main, other), labels, recipe), expected)
    assert torch.equal(training_loss(main, labels, recipe), criterion(main, labels, 0.1))
