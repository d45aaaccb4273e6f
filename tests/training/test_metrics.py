"""Losses and metrics against their definitions, slow references and numbers worked out by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torch import nn

from spectrum import Split, evaluate
from spectrum.training import metrics
from spectrum.training.metrics import average_precision, criterion
from tests.training.conftest import dataset, network


def reference(
    scores: Sequence[float], labels: Sequence[bool], k: int, weights: Sequence[float]
) -> float:
    """One image's AP@k, place by place."""
    order = sorted(range(len(scores)), key=lambda c: (-scores[c], c))
    found, total = 0, 0.0
    for i, c in enumerate(order[:k], start=1):
        if labels[c]:
            found += 1
            total += weights[c] * found / i
    own = sorted((w for w, label in zip(weights, labels, strict=True) if label), reverse=True)
    most = sum(own[:k])
    return total / most if most else math.nan


@st.composite
def rankings(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, int, torch.Tensor | None]:
    images, classes = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    values = st.sampled_from([-1.5, -0.0, 0.0, 0.25, 1.0, 3.0])  # so few that many are equal

    def table(values: st.SearchStrategy) -> list[list]:
        row = st.lists(values, min_size=classes, max_size=classes)
        return draw(st.lists(row, min_size=images, max_size=images))

    weights = st.lists(st.sampled_from([0.0, 0.5, 1.0, 7.0]), min_size=classes, max_size=classes)
    heavy = draw(st.none() | weights)
    return (
        torch.tensor(table(values)),
        torch.tensor(table(st.booleans())),
        draw(st.integers(1, 12)),
        None if heavy is None else torch.tensor(heavy),
    )


@settings(max_examples=150, deadline=None)
@given(rankings())
def test_equals_the_reference(given: tuple) -> None:
    scores, targets, k, weights = given
    heavy = [1.0] * scores.shape[1] if weights is None else weights.tolist()
    expected = [
        reference(row, labels, k, heavy)
        for row, labels in zip(scores.tolist(), targets.tolist(), strict=True)
    ]
    found = average_precision(scores, targets, k, weights)
    assert found.dtype == torch.float32
    assert found.shape == (len(scores),)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    known = found[~found.isnan()]
    assert ((known >= 0) & (known <= 1)).all()


def test_equals_scikit_learn_where_every_class_is_looked_at() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(40, 25, generator=generator)
    targets = torch.rand(40, 25, generator=generator) < 0.15
    targets[:, 3] |= ~targets.any(dim=1)
    expected = [
        average_precision_score(labels.numpy(), row.numpy())
        for labels, row in zip(targets, scores, strict=True)
    ]
    for k in (25, 100):
        np.testing.assert_allclose(average_precision(scores, targets, k), expected, rtol=1e-6)


def test_worked_by_hand() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    second_and_fourth = torch.tensor([[False, True, False, True]])
    # Precisions of 1/2 at the second place and of 2/4 at the fourth.
    assert average_precision(scores, second_and_fourth, 4).item() == 0.5
    # Of two places the second alone has a label; both could have had one.
    assert average_precision(scores, second_and_fourth, 2).item() == 0.25
    assert average_precision(scores, second_and_fourth, 1).item() == 0.0
    weights = torch.tensor([1.0, 1.0, 1.0, 3.0])
    # (1 * 1/2 + 3 * 2/4) / (1 + 3), and within two places (1 * 1/2) / 4.
    assert average_precision(scores, second_and_fourth, 4, weights).item() == 0.5
    assert average_precision(scores, second_and_fourth, 2, weights).item() == 0.125
    first_two = torch.tensor([[True, True, False, False]])
    assert average_precision(scores, first_two, 1).item() == 1.0
    # The place there is could have had the label of weight 3.
    assert average_precision(scores, first_two, 1, weights.flip(0)).item() == 1.0
    assert average_precision(scores, first_two, 1, torch.tensor([1.0, 3.0, 1.0, 1.0])).item() == (
        pytest.approx(1 / 3)
    )


def test_the_earlier_of_equal_classes_comes_first() -> None:
    scores = torch.zeros(2, 300)  # more than a sort that is stable by chance
    targets = torch.zeros(2, 300, dtype=torch.bool)
    targets[0, 4] = targets[1, 299] = True
    found = average_precision(scores, targets, 10)
    torch.testing.assert_close(found, torch.tensor([1 / 5, 0.0]))
    torch.testing.assert_close(
        average_precision(scores, targets, 300), torch.tensor([1 / 5, 1 / 300])
    )


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(11, 8, generator=generator)
    targets = torch.rand(11, 8, generator=generator) < 0.3
    whole = average_precision(scores, targets, 5)
    monkeypatch.setattr(metrics, "_CHUNK_SCORES", 24)
    assert torch.equal(average_precision(scores, targets, 5).nan_to_num(-1), whole.nan_to_num(-1))


def test_scores_that_are_nan_give_precisions_in_0_to_1() -> None:
    scores = torch.full((2, 5), math.nan)
    found = average_precision(scores, torch.eye(5, dtype=torch.bool)[:2], 3)
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.zeros(2, 3)}, r"targets \(='torch.float32 \(2, 3\)'\) must be bool"),
        ({"targets": torch.zeros(3, 2, dtype=torch.bool)}, r"targets .* \(2, 3\) as scores are"),
        ({"k": 0}, r"k \(=0\) must be at least 1"),
        ({"weights": torch.ones(2)}, r"weights \(=2\) must be \(3,\), one per class"),
        ({"weights": torch.tensor([1.0, -1.0, 0.0])}, r"weights .* must be finite and 0 or more"),
        ({"weights": torch.tensor([1.0, math.inf, 0.0])}, "must be finite and 0 or more"),
    ],
)
def test_refuses(change: dict, message: str) -> None:
    given = {"targets": torch.zeros(2, 3, dtype=torch.bool), "k": 2, "weights": None, **change}
    with pytest.raises(ValueError, match=message):
        average_precision(torch.zeros(2, 3), **given)


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


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"precision \(='float16'\) must be one of float32, bf"):
        evaluate(network(), dataset().test, precision="float16")  # type: ignore[arg-type]


def test_an_empty_split_has_no_metrics() -> None:
    test = dataset().test
    with pytest.raises(ValueError, match="at least one example"):
        evaluate(network(), Split(test.images[:0], test.labels[:0]))


def test_metrics_are_those_counted_by_hand() -> None:
    logits = torch.tensor(
        [
            [9.0, 1, 2, 3, 4, 5, 6],
            [0, 1, 2, 3, 4, 5, 6],
            [0, 9, 8, 7, 6, 5, 4],
            [1, 0, 9, 8, 7, 6, 5],
        ]
    )
    labels = torch.tensor([0, 1, 1, 1])  # first, sixth, first, seventh of the logits
    split = Split(logits[:, :, None, None], labels)

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            return x.flatten(1) * self.scale

    flat = Flat().train()
    metrics = evaluate(flat, split)
    assert metrics.top1 == 0.5
    assert metrics.top5 == 0.5
    assert metrics.correct.tolist() == [True, False, True, False]
    assert metrics.loss == pytest.approx(F.cross_entropy(logits, labels).item())
    assert flat.training
    assert evaluate(flat, Split(split.images[:, :3], labels.clamp(max=2))).top5 == 1.0
