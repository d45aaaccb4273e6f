"""Fewer training images and label noise change nothing else; DataConfig checks its fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spectrum import DataConfig, Dataset, Split, load_data
from spectrum.data.dataset import dataset_from_arrays

COUNTS = (120, 60, 20)  # of each class
LABELS = np.repeat(np.arange(3), COUNTS).astype(np.int64)


def split(seed: int = 0, **changes: Any) -> Dataset:
    """Images of three pixels, 0, 1 and their number, so that each tells which one it is."""
    images = np.zeros((200, 1, 1, 3), np.float32)
    images[:, 0, 0, 1], images[:, 0, 0, 2] = 1, np.arange(200)
    return dataset_from_arrays(
        images, LABELS, "abc", validation=0.2, test=0.1, seed=seed, **changes
    )


def numbers(part: Split) -> Tensor:
    zero, one, number = part.images[:, 0, 0].unbind(1)
    return ((number - zero) / (one - zero)).round().long()


@pytest.mark.parametrize("n", [3, 10, 70, 137, 138, 140])
def test_fewer_images_are_trained_on_in_proportion_and_the_rest_stays(n: int) -> None:
    whole, fewer = split(), split(train_images=n)
    assert len(fewer.train) == n
    kept = numbers(fewer.train)
    assert len(kept.unique()) == n
    assert set(kept.tolist()) <= set(numbers(whole.train).tolist())
    assert torch.equal(fewer.train.labels, torch.from_numpy(LABELS)[kept])
    expected = n * np.array(COUNTS) / 200
    assert np.abs(np.bincount(fewer.train.labels, minlength=3) - expected).max() <= 1.5
    for name in ("validation", "test"):
        before, after = getattr(whole, name), getattr(fewer, name)
        assert torch.equal(numbers(before), numbers(after))
        assert torch.equal(before.labels, after.labels)
    assert fewer.train.images.mean().item() == pytest.approx(0, abs=1e-5)
    assert fewer.train.images.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert fewer.fingerprint == whole.fingerprint


def test_fewer_images_are_drawn_by_the_seed_of_the_split() -> None:
    assert torch.equal(split(train_images=50).train.images, split(train_images=50).train.images)
    assert not torch.equal(
        numbers(split(train_images=50).train), numbers(split(1, train_images=50).train)
    )


@pytest.mark.parametrize("n", [2, 141])
def test_train_images_has_bounds(n: int) -> None:
    with pytest.raises(
        ValueError, match=rf"\Atrain_images \(={n}\) must be in 3\.\.140, what the other splits"
    ):
        split(train_images=n)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.999])
@pytest.mark.parametrize("n", [None, 61])
def test_exactly_the_share_of_training_labels_is_wrong(share: float, n: int | None) -> None:
    clean, noisy = split(train_images=n), split(label_noise=share, train_images=n)
    wrong = noisy.train.labels != clean.train.labels
    assert wrong.sum() == round(share * len(clean.train))
    assert set(noisy.train.labels.tolist()) <= {0, 1, 2}
    assert torch.equal(noisy.train.images, clean.train.images)
    for name in ("validation", "test"):
        assert torch.equal(getattr(noisy, name).labels, getattr(clean, name).labels)


def test_a_wrong_label_is_any_other_class() -> None:
    clean, noisy = split(), split(label_noise=0.9)
    pairs = {*zip(clean.train.labels.tolist(), noisy.train.labels.tolist(), strict=True)}
    assert pairs >= {(a, b) for a in range(3) for b in range(3) if a != b}
    assert LABELS.tolist() == sorted(LABELS.tolist())  # the source's own are left alone
    assert not torch.equal(noisy.train.labels, split(2, label_noise=0.9).train.labels)


def test_both_fields_of_the_configuration_take_effect() -> None:
    data = load_data(DataConfig(train_images=100, label_noise=0.3))
    clean = load_data(DataConfig(train_images=100))
    assert len(data.train) == 100
    assert (data.train.labels != clean.train.labels).sum() == 30
    assert torch.equal(data.test.labels, load_data().test.labels)


PLANTED: dict[str, Any] = {"name": "planted"}


@pytest.mark.parametrize(
    ("fields", "at", "said"),
    [
        ({"name": "nothing"}, "name", "must be one of digits, planted"),
        ({"train_images": 0}, "train_images", "greater than 0"),
        ({"label_noise": 1.0}, "label_noise", "less than 1"),
        ({"label_noise": -0.1}, "label_noise", "greater than or equal to 0"),
        ({**PLANTED, "rank": 0}, "rank", "greater than 0"),
        ({**PLANTED, "block": 0}, "block", "greater than 0"),
        ({**PLANTED, "images": 0}, "images", "greater than or equal to 80"),
        ({**PLANTED, "side": 0}, "side", "greater than or equal to 1"),
        ({**PLANTED, "channels": 0}, "channels", "greater than or equal to 1"),
        ({**PLANTED, "template": 0}, "template", "greater than 0"),
        ({**PLANTED, "copies": 0}, "copies", "greater than or equal to 1"),
        ({**PLANTED, "signal": 0}, "signal", "greater than 0"),
        ({**PLANTED, "signal": float("inf")}, "signal", "finite"),
        ({**PLANTED, "image_seed": -1}, "image_seed", "greater than or equal to 0"),
        ({**PLANTED, "rank": 9}, "", "rank (=9) must be in 1..8, for 8 channels of 5x5"),
        ({**PLANTED, "rank": 2, "block": 4}, "", "rank (=2) must not be given with block (=4)"),
        ({**PLANTED, "block": 6}, "", "block (=6) must be a multiple of 4 that divides the 16"),
        ({**PLANTED, "block": 32}, "", "block (=32) must be a multiple of 4 that divides the 16"),
        ({**PLANTED, "side": 4}, "", "template (=5) must be in 1..4, an image's side"),
        ({"rank": 1}, "", "rank (=1) must not be given for digits, which isn't planted"),
        ({"block": 4}, "", "block (=4) must not be given for digits"),
        ({"images": 100}, "", "images (=100) must not be given for digits"),
        ({"side": 8}, "", "side (=8) must not be given for digits"),
        ({"channels": 8}, "", "channels (=8) must not be given for digits"),
        ({"template": 3}, "", "template (=3) must not be given for digits"),
        ({"copies": 3}, "", "copies (=3) must not be given for digits"),
        ({"signal": 3.0}, "", "signal (=3.0) must not be given for digits"),
        ({"image_seed": 3}, "", "image_seed (=3) must not be given for digits"),
    ],
    ids=str,
)
def test_a_bad_configuration_is_named(fields: dict[str, Any], at: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        DataConfig(**fields)
    (error,) = caught.value.errors()  # type: ignore[attr-defined]
    assert ".".join(error["loc"]) == at
    message = error["msg"].removeprefix("Value error, ")
    assert said in message if at else message.startswith(said)


def test_each_kind_of_planted_images_has_its_defaults() -> None:
    rank, block = DataConfig(name="planted"), DataConfig(name="planted", block=8)
    fields = ("rank", "block", "channels", "template", "copies", "signal")
    assert tuple(getattr(rank, name) for name in fields) == (1, None, 8, 5, 3, 4.0)
    assert tuple(getattr(block, name) for name in fields) == (None, 8, 16, 3, 2, 5.5)
    given = DataConfig(name="planted", block=4, channels=8, template=2, copies=1, signal=7)
    assert tuple(getattr(given, name) for name in fields) == (None, 4, 8, 2, 1, 7.0)
    for config in (rank, block, given):
        assert DataConfig(**config.model_dump()) == config
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
    base, changed = (DataConfig(**{**fields, **more}) for more in ({}, changes))
    assert load_data(base).fingerprint == load_data(base).fingerprint
    assert load_data(base).fingerprint != load_data(changed).fingerprint
