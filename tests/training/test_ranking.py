"""Average precision against a slow reference, scikit-learn and numbers worked out by hand."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from spectrum.training import ranking
from spectrum.training.ranking import average_precision


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


@settings(max_examples=50, deadline=None)
@given(rankings(), st.randoms())
def test_the_order_of_the_images_is_that_of_the_answers(given: tuple, random) -> None:
    scores, targets, k, weights = given
    order = random.sample(range(len(scores)), len(scores))
    found = average_precision(scores, targets, k, weights)
    again = average_precision(scores[order], targets[order], k, weights)
    assert torch.equal(again.nan_to_num(-1), found[order].nan_to_num(-1))


def test_the_order_of_the_classes_changes_nothing_without_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20, 30, generator=generator)
    targets = torch.rand(20, 30, generator=generator) < 0.2
    weights = torch.rand(30, generator=generator)
    order = torch.randperm(30, generator=generator)
    for k in (1, 7, 100):
        found = average_precision(scores, targets, k, weights)
        again = average_precision(scores[:, order], targets[:, order], k, weights[order])
        torch.testing.assert_close(again, found, equal_nan=True)


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


def test_without_labels_or_with_none_that_weighs_anything_there_is_no_precision() -> None:
    scores = torch.tensor([[0.1, 0.2, 0.3]] * 3)
    targets = torch.tensor([[False] * 3, [True, False, False], [False, True, False]])
    found = average_precision(scores, targets, 3, torch.tensor([0.0, 1.0, 1.0]))
    assert found.isnan().tolist() == [True, True, False]
    assert average_precision(scores[:0], targets[:0], 3).shape == (0,)


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(11, 8, generator=generator)
    targets = torch.rand(11, 8, generator=generator) < 0.3
    whole = average_precision(scores, targets, 5)
    monkeypatch.setattr(ranking, "_CHUNK_SCORES", 24)
    assert torch.equal(average_precision(scores, targets, 5).nan_to_num(-1), whole.nan_to_num(-1))


def test_scores_that_are_nan_give_precisions_in_0_to_1() -> None:
    scores = torch.full((2, 5), math.nan)
    found = average_precision(scores, torch.eye(5, dtype=torch.bool)[:2], 3)
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": torch.zeros(2, 3, dtype=torch.int64)}, r"scores \(=torch.int64 \(2, 3\)\)"),
        ({"scores": torch.zeros(2, 0)}, r"scores .* with at least one class"),
        ({"targets": torch.zeros(2, 3)}, r"targets \(=torch.float32 \(2, 3\)\) must be bool"),
        ({"targets": torch.zeros(3, 2, dtype=torch.bool)}, r"targets .* \(2, 3\) as scores are"),
        ({"k": 0}, r"k \(=0\) must be at least 1"),
        ({"weights": torch.ones(2)}, r"weights \(=\(2,\)\) must be \(3,\), one per class"),
        ({"weights": torch.tensor([1.0, -1.0, 0.0])}, "weights must be finite and 0 or more"),
        ({"weights": torch.tensor([1.0, math.inf, 0.0])}, "weights must be finite and 0 or more"),
    ],
)
def test_refuses(change: dict, message: str) -> None:
    given = {
        "scores": torch.zeros(2, 3),
        "targets": torch.zeros(2, 3, dtype=torch.bool),
        "k": 2,
        "weights": None,
    }
    with pytest.raises(ValueError, match=message):
        average_precision(**{**given, **change})
