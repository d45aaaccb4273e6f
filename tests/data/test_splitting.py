"""Splits that are drawn match scikit-learn's; given splits are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from spectrum.data.source import TEST, TRAIN, UNASSIGNED, VALIDATION
from spectrum.data.splitting import _draw_by_class, draw_seed, split_indices, split_notes

Parts = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]
LABELS = np.repeat(np.arange(3), (120, 60, 20)).astype(np.int64)


def given_splits(*counts: int) -> npt.NDArray[np.int8]:
    """Assigns so many images to training, validation and testing, in random order."""
    order = np.random.default_rng(1).permutation(sum(counts))
    return np.repeat([TRAIN, VALIDATION, TEST], counts).astype(np.int8)[order]


def split_labels(targets: Any = LABELS, splits: Any = None, **changes: Any) -> Parts:
    fields = {"validation": 0.2, "test": 0.1, "seed": 3, "classes": "abc", **changes}
    given = np.full(len(targets), UNASSIGNED, np.int8) if splits is None else splits
    return split_indices(targets, given, **{"test_seed": fields["seed"], **fields})


def assert_complete(found: Parts, n: int = 200) -> None:
    assert sorted(np.concatenate(found).tolist()) == list(range(n))


def test_unassigned_images_are_drawn_in_proportion_test_first() -> None:
    train, validation, test = found = split_labels()
    assert_complete(found)
    rest, expected = train_test_split(np.arange(200), test_size=20, stratify=LABELS, random_state=3)
    assert test.tolist() == expected.tolist()
    rest, expected = train_test_split(rest, test_size=40, stratify=LABELS[rest], random_state=3)
    assert (train.tolist(), validation.tolist()) == (rest.tolist(), expected.tolist())
    assert np.bincount(LABELS[test]).tolist() == [12, 6, 2]


@settings(deadline=None)
@given(st.lists(st.integers(3, 40), min_size=1, max_size=12), st.data())
def test_every_draw_is_that_of_scikit_learn(counts: list[int], data: st.DataObject) -> None:
    classes = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    size = data.draw(st.integers(len(counts), len(classes) - len(counts)))
    seed = data.draw(st.integers(0, 2**32 - 1))
    expected = train_test_split(
        np.arange(len(classes)), test_size=size, stratify=classes, random_state=seed
    )
    found = _draw_by_class(classes, size, seed)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


def test_a_training_split_alone_is_split_like_unassigned_images() -> None:
    alone = split_labels(splits=np.full(200, TRAIN, np.int8))
    assert [p.tolist() for p in alone] == [p.tolist() for p in split_labels()]


def test_three_given_splits_stay_as_they_are() -> None:
    splits = given_splits(100, 60, 40)
    for found, split in zip(split_labels(splits=splits), (TRAIN, VALIDATION, TEST), strict=True):
        assert found.tolist() == np.flatnonzero(splits == split).tolist()
    assert split_notes(splits) == ()


@pytest.mark.parametrize(("counts", "kept"), [((150, 0, 50), TEST), ((150, 50, 0), VALIDATION)])
def test_one_given_split_is_for_testing_and_validation_is_drawn_from_training(
    counts: tuple[int, int, int], kept: int
) -> None:
    splits = given_splits(*counts)
    _, validation, test = found = split_labels(splits=splits)
    assert_complete(found)
    assert test.tolist() == np.flatnonzero(splits == kept).tolist()
    assert len(validation) == 30  # a fifth of 150
    before = np.bincount(LABELS[splits == TRAIN]) / 150
    assert np.abs(np.bincount(LABELS[validation]) / 30 - before).max() < 1 / 30
    assert len(split_notes(splits)) == (kept == VALIDATION)


MULTI_LABEL = np.random.default_rng(0).random((200, 8)) < [
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.3,
    0.4,
    0.9,
]


def test_of_several_labels_each_is_drawn_in_proportion() -> None:
    found = split_labels(MULTI_LABEL)
    assert_complete(found)
    assert [len(p) for p in found] == [140, 40, 20]
    for part, share in zip(found, (0.7, 0.2, 0.1), strict=True):
        held, wanted = MULTI_LABEL[part].sum(axis=0), MULTI_LABEL.sum(axis=0) * share
        assert np.abs(held - wanted).max() <= 3  # the commonest takes what the others leave
    fewer = split_labels(MULTI_LABEL, train_images=70)
    assert [len(p) for p in fewer] == [70, 40, 20]
    assert set(fewer[0]) <= set(found[0])
    assert np.abs(MULTI_LABEL[fewer[0]].sum(axis=0) - MULTI_LABEL.sum(axis=0) * 0.35).max() <= 3


def test_labels_of_which_each_image_has_one_are_split_as_classes_are() -> None:
    found = split_labels(np.eye(3, dtype=bool)[LABELS])
    assert_complete(found)
    for ours, theirs in zip(found, split_labels(), strict=True):
        counts = np.bincount(LABELS[ours], minlength=3), np.bincount(LABELS[theirs], minlength=3)
        assert np.abs(counts[0] - counts[1]).max() <= 1
    assert not np.array_equal(found[0], np.sort(found[0]))  # in a random order
    again, other = split_labels(np.eye(3, dtype=bool)[LABELS]), split_labels(MULTI_LABEL, seed=1)
    assert all(np.array_equal(x, y) for x, y in zip(found, again, strict=True))
    assert not np.array_equal(other[0], split_labels(MULTI_LABEL)[0])


def test_images_without_labels_fill_what_is_left() -> None:
    found = split_labels(np.zeros((200, 5), bool))
    assert_complete(found)
    assert [len(p) for p in found] == [140, 40, 20]


def test_fewer_images_are_drawn_from_those_for_training_alone() -> None:
    splits = given_splits(100, 60, 40)
    fewer = split_labels(splits=splits, train_images=20)
    assert len(fewer[0]) == 20
    assert set(fewer[0]) <= set(np.flatnonzero(splits == TRAIN))
    assert [len(p) for p in fewer[1:]] == [60, 40]


@pytest.mark.parametrize("targets", [LABELS, MULTI_LABEL], ids=["one label", "several"])
def test_each_draw_keeps_the_test_images_and_chooses_among_all_others(targets: Any) -> None:
    draws = [
        split_labels(targets, test_seed=3, seed=draw_seed(3, draw), train_images=60)
        for draw in range(60)
    ]
    _, _, test = split_labels(targets)
    assert all(np.array_equal(found[2], test) for found in draws)
    assert {tuple(map(len, found)) for found in draws} == {(60, 40, 20)}
    assert len({found[0].tobytes() for found in draws}) == len(draws)
    times = np.bincount(np.concatenate([found[0] for found in draws]), minlength=200)
    assert times[np.setdiff1d(np.arange(200), test)].min() > 0
    seeds = [draw_seed(split_seed, draw) for split_seed in range(30) for draw in range(30)]
    assert len(set(seeds)) == len(seeds)


FEW = np.repeat(np.arange(3), (100, 98, 2)).astype(np.int64)


@pytest.mark.parametrize(
    ("targets", "splits", "changes", "said"),
    [
        (
            LABELS,
            given_splits(0, 100, 100),
            {},
            "must have images for training, all are in the validation or test split",
        ),
        (LABELS, None, {"test": 0.01}, r"test \(=0.01\) must be at least 0.015, one image of 200"),
        (LABELS, None, {"validation": 0.01}, r"validation \(=0.01\) must be at least 0.015"),
        (
            LABELS,
            None,
            {"validation": 0.5, "test": 0.49},
            r"test \(=0.49\) and validation \(=0.5\) must",
        ),
        (LABELS, None, {"train_images": 141}, r"train_images \(=141\) must be in 3..140"),
        (FEW, None, {}, "has too few images of class c to be split: 2"),
        (FEW[:199], given_splits(199, 0, 0), {}, "has too few images of class c to be split: 1"),
        (np.ones((9, 2), bool), None, {"test": 0.01}, r"must be at least 0.111, one image of 9\Z"),
    ],
)
def test_what_cannot_be_split_is_refused_in_one_line(
    targets: Any, splits: Any, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        split_labels(targets, splits, **changes)
    assert "\n" not in str(caught.value)


def test_no_class_is_lost_from_training_whatever_the_shares() -> None:
    rng = np.random.default_rng(0)
    for seed in range(200):
        counts = rng.integers(1, 12, size=4)
        labels = np.repeat(np.arange(4), counts)
        shares = {"validation": rng.uniform(0.05, 0.5), "test": rng.uniform(0.05, 0.45)}
        try:
            found = split_labels(labels, classes="abcd", **shares, seed=seed)
        except ValueError as error:
            assert str(error).startswith(("has too few", "validation", "test"))  # noqa: PT017
            continue
        assert_complete(found, len(labels))
        assert len(np.unique(labels[found[0]])) == 4
