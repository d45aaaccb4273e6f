"""Arrays become splits: their size, labels and normalisation; DataConfig checks its fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import load_digits
from torch import Tensor

from spectrum import DataConfig, Dataset, Split, load_data
from spectrum.data.assemble import assemble
from spectrum.data.source import TEST, TRAIN, UNASSIGNED, VALIDATION, Source, unassigned
from spectrum.errors import first_field_error

COUNTS = (120, 60, 20)  # of each class
LABELS = np.repeat(np.arange(3), COUNTS).astype(np.int64)


def source() -> Source:
    """Images of three pixels, 0, 1 and their number, so that each tells which one it is."""
    images = np.zeros((200, 1, 1, 3), np.float32)
    images[:, 0, 0, 1], images[:, 0, 0, 2] = 1, np.arange(200)
    return Source(images, LABELS, ("a", "b", "c"), unassigned(200))


def split(**fields: Any) -> Dataset:
    return assemble(source(), DataConfig(**{"validation": 0.2, "test": 0.1, **fields}))


def numbers(part: Any) -> Tensor:
    assert isinstance(part, Split)
    zero, one, number = part.images[:, 0, 0].unbind(1)
    return ((number - zero) / (one - zero)).round().long()


@pytest.mark.parametrize("n", [3, 70, 138, 140])
def test_fewer_images_are_trained_on_in_proportion_and_the_rest_stays(n: int) -> None:
    whole, fewer = split(), split(train_images=n)
    kept = numbers(fewer.train)
    assert len(kept) == len(kept.unique()) == n
    assert set(kept.tolist()) <= set(numbers(whole.train).tolist())
    assert torch.equal(fewer.train.labels, torch.from_numpy(LABELS)[kept])
    expected = n * np.array(COUNTS) / 200
    assert np.abs(np.bincount(fewer.train.labels, minlength=3) - expected).max() <= 1.5
    for before, after in ((whole.validation, fewer.validation), (whole.test, fewer.test)):
        assert torch.equal(numbers(before), numbers(after))
        assert torch.equal(before.labels, after.labels)
    assert fewer.train.images.mean().item() == pytest.approx(0, abs=1e-5)  # type: ignore[attr-defined]
    assert fewer.train.images.std(correction=0).item() == pytest.approx(1, abs=1e-5)  # type: ignore[attr-defined]
    assert fewer.fingerprint == whole.fingerprint


def test_the_split_follows_its_own_seed() -> None:
    first, same, other = split(), split(), split(split_seed=1)
    assert torch.equal(numbers(first.test), numbers(same.test))
    assert not torch.equal(numbers(first.test), numbers(other.test))
    assert first.fingerprint == same.fingerprint == other.fingerprint


def test_the_fingerprint_follows_the_content() -> None:
    images = source().pixels.copy()
    images[0, 0, 0, 0] += 1
    changes: list[dict[str, Any]] = [
        {"images": images},
        {"targets": LABELS[::-1].copy()},
        {"splits": np.full(200, TRAIN, np.int8)},
    ]
    found = {assemble(replace(source(), **fields), DataConfig()).fingerprint for fields in changes}
    assert len(found | {split().fingerprint}) == 4
    assert (UNASSIGNED, TRAIN, VALIDATION, TEST) == (-1, 0, 1, 2)  # fingerprints depend on them


@pytest.mark.parametrize("n", [2, 141])
def test_train_images_has_bounds(n: int) -> None:
    with pytest.raises(
        ValueError, match=rf"\Atrain_images \(={n}\) must be in 3\.\.140, what the other splits"
    ):
        split(train_images=n)


@pytest.mark.parametrize(("share", "n"), [(0.0, None), (0.25, 61), (0.999, None)])
def test_exactly_the_share_of_training_labels_is_wrong(share: float, n: int | None) -> None:
    clean, noisy = split(train_images=n), split(label_noise=share, train_images=n)
    wrong = noisy.train.labels != clean.train.labels
    assert wrong.sum() == round(share * len(clean.train))
    assert set(noisy.train.labels.tolist()) <= {0, 1, 2}
    assert torch.equal(numbers(noisy.train), numbers(clean.train))
    for before, after in ((clean.validation, noisy.validation), (clean.test, noisy.test)):
        assert torch.equal(before.labels, after.labels)


def test_a_wrong_label_is_any_other_class() -> None:
    clean, noisy = split(), split(label_noise=0.9)
    pairs = {*zip(clean.train.labels.tolist(), noisy.train.labels.tolist(), strict=True)}
    assert pairs >= {(a, b) for a in range(3) for b in range(3) if a != b}
    assert LABELS.tolist() == sorted(LABELS.tolist())  # the source's own are left alone


def test_digits_are_in_one_split_each() -> None:
    data = load_data()
    raw = torch.from_numpy(load_digits().images).float()
    # scikit-learn's digits hold no image twice, so an image tells which one it is.
    assert len(raw.flatten(1).unique(dim=0)) == len(raw) == 1797
    parts = [data.train, data.validation, data.test]
    assert [len(part) for part in parts] == [1079, 359, 359]
    together = torch.cat([part.images for part in parts]).flatten(1)  # type: ignore[attr-defined]
    assert len(together.unique(dim=0)) == 1797
    assert (data.shape, data.classes) == ((1, 8, 8), tuple("0123456789"))


def test_a_data_set_is_shown_in_a_few_lines() -> None:
    data = load_data(DataConfig(train_images=100))
    text, page = repr(data), data._repr_html_()
    assert text.splitlines() == [
        "Dataset('digits', images of 1x8x8: 100 train, 359 validation, 359 test;",
        "        10 classes: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more)",
    ]
    assert all(word in page for word in ("<table", "<td>validation</td>", "<td>359</td>"))
    several = replace(data, train=Split(torch.zeros(4, 1, 8, 8), torch.eye(4, 10).bool()))
    assert "4 train" in repr(several)
    three = {name: several.train for name in ("validation", "test")}
    assert "<td>4</td>" in replace(several, **three)._repr_html_()


PLANTED: dict[str, Any] = {"name": "planted"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "nothing"}, "name (='nothing') must be one of digits, fashion_mnist, planted"),
        ({"name": "folder:a\udce9"}, "name (='folder:a\\udce9') must be text in UTF-8"),
        ({"test": 0.6, "validation": 0.5}, "validation (=0.5) and test (=0.6) must leave at least"),
        ({"test": 0.0}, "test (=0.0) must be greater than 0"),
        ({"tset": 0.1}, "tset (=0.1) is not a known field"),
        ({"train_images": 0}, "train_images (=0) must be greater than 0"),
        ({"label_noise": 1.0}, "label_noise (=1.0) must be less than 1"),
        ({**PLANTED, "signal": float("inf")}, "signal (=inf) must be a finite number"),
        ({**PLANTED, "rank": 9}, "rank (=9) must be in 1..8, for 8 channels of 5x5"),
        ({**PLANTED, "rank": 5, "template": 2}, "rank (=5) must be in 1..4, for 8 channels of 2x2"),
        ({**PLANTED, "rank": 2, "block": 4}, "rank (=2) must not be given with block (=4)"),
        ({**PLANTED, "block": 6}, "block (=6) must be a multiple of 4 that divides the 16"),
        ({**PLANTED, "block": 32}, "block (=32) must be a multiple of 4 that divides the 16"),
        ({**PLANTED, "side": 4}, "template (=5) must be in 1..4, an image's side"),
        (
            {**PLANTED, "side": 512, "channels": 8},
            "images (=5000) must be at most 95 of",
        ),
        ({"name": "folder:x", "channels": 8}, "channels (=8) must be 1 (grey) or 3 (RGB)"),
        ({"block": 4}, "block (=4) needs data of kind planted, not digits"),
        ({"channels": 8}, "channels (=8) needs data of kind planted or folder"),
    ],
    ids=str,
)
def test_a_bad_configuration_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DataConfig(**fields)
    assert str(first_field_error(caught.value)).startswith(said)


NUMBERS = [
    name
    for name, field in DataConfig.model_fields.items()
    if {int, float} & {field.annotation, *get_args(field.annotation)}
]


@pytest.mark.parametrize("field", NUMBERS)
@pytest.mark.parametrize("value", [10**14, 10**400, -(10**400), 10**5000], ids=range(4))
@pytest.mark.parametrize("name", ["planted", "folder:x"])
def test_every_number_has_bounds(field: str, value: int, name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DataConfig.model_validate({"name": name, field: value})
    error = first_field_error(caught.value)
    assert error.field == field
    assert len(str(error)) < 400


def test_load_data_names_its_argument() -> None:
    with pytest.raises(ValueError, match=r"\Adata \(='nothing'\) must be one of digits"):
        load_data("nothing")


def test_each_kind_of_planted_images_has_its_defaults() -> None:
    rank, block = DataConfig(name="planted"), DataConfig(name="planted", block=8)
    fields = ("rank", "block", "channels", "template", "copies", "signal")
    assert tuple(getattr(rank, name) for name in fields) == (1, None, 8, 5, 3, 4.0)
    assert tuple(getattr(block, name) for name in fields) == (None, 8, 16, 3, 2, 5.5)
    given = DataConfig(name="planted", block=4, channels=8, template=2, copies=1, signal=7)
    assert tuple(getattr(given, name) for name in fields) == (None, 4, 8, 2, 1, 7.0)
    for config in (rank, block, given):
        assert DataConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    "changes",
    [
        {"image_seed": 1},
        {"signal": 3.0},
        {"copies": 2},
        {"template": 4},
        {"channels": 9},
        {"side": 13},
        {"images": 101},
        {"rank": 2},
        {"rank": None, "block": 8, "channels": 8},
    ],
    ids=str,
)
def test_each_field_of_planted_images_reaches_them(changes: dict[str, Any]) -> None:
    fields = {"name": "planted", "images": 100, "rank": 1}
    base, changed = (load_data(DataConfig(**{**fields, **more})) for more in ({}, changes))
    assert base.fingerprint != changed.fingerprint
