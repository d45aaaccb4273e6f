"""Each draw takes other training and validation images, and leaves the test images as they are."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from spectrum import DataConfig, Dataset, Split, load_data
from spectrum.data.stream import StreamedSplit
from tests.data.pictures import write_classes

RNG = np.random.default_rng(0)
IMAGES = np.unique(RNG.integers(0, 256, (120, 3, 4, 4), dtype=np.uint8), axis=0)
LABELS = np.arange(120) % 3
SEVERAL = RNG.random((120, 4)) < [0.1, 0.3, 0.5, 0.9]
PARTS = {"train": slice(80), "validation": slice(80, 100), "test": slice(100, None)}


def returned(labels: Any, *parts: str) -> Any:
    """What a user's callable returns: all images, or those of some parts."""
    if not parts:
        return IMAGES, labels
    return {part: (IMAGES[PARTS[part]], labels[PARTS[part]]) for part in parts}


CALLABLES: dict[str, Callable[[], Any]] = {
    "undivided": lambda: returned(LABELS),
    "with_test": lambda: returned(LABELS, "train", "test"),
    "with_validation": lambda: returned(LABELS, "train", "validation"),
    "divided": lambda: returned(LABELS, "train", "validation", "test"),
    "several": lambda: returned(SEVERAL),
    "several_divided": lambda: returned(SEVERAL, "train", "validation", "test"),
    "floats": lambda: ((IMAGES / np.float32(255)).astype(np.float32), LABELS),
    "dataset": lambda: load_data(DataConfig(resplit=True)),
}


@pytest.fixture
def source(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The fields of a configuration of each kind of source, by the name of the case."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module = ModuleType("users_splits")
    vars(module).update(CALLABLES)
    monkeypatch.setitem(sys.modules, "users_splits", module)
    case = request.param
    if case in CALLABLES:
        return {"name": f"users_splits:{case}"}
    counts = {f"{part}/{c}": 12 for part in ("train", "val", "test") for c in "ab"}
    root = write_classes(tmp_path / "given", counts if case != "folder" else {"a": 40, "b": 40})
    return {"name": f"folder:{root}", "loading": "stream" if case == "streamed" else "memory"}


def keys(split: Any, images: torch.Tensor | None = None) -> list[Any]:
    """What tells the images of a split apart, whatever they are normalised by."""
    if isinstance(split, StreamedSplit):
        return list(map(split.reader.name, split.numbers))
    assert isinstance(split, Split)
    if split.images.dtype == torch.uint8:
        return [image.numpy().tobytes() for image in split.images]
    # Which pixels are lighter than which others is the same after normalisation.
    return [image.unique(return_inverse=True)[1].numpy().tobytes() for image in split.images]


CASES = [*(name for name in CALLABLES if name != "dataset"), "folder", "given", "streamed"]


@pytest.mark.parametrize("source", CASES, indirect=True, ids=CASES)
@pytest.mark.parametrize("train_images", [None, 30])
def test_the_test_images_stay_and_the_others_are_drawn(
    source: dict[str, Any], train_images: int | None
) -> None:
    plain = load_data(DataConfig(**source))
    config = DataConfig(**source, resplit=True, train_images=train_images)
    draws = [load_data(config, draw=draw) for draw in (0, 1, 2)]
    again = load_data(config, draw=1)
    for name in ("train", "validation", "test"):
        one, same = getattr(draws[1], name), getattr(again, name)
        assert keys(one) == keys(same)
        assert torch.equal(one.labels, same.labels)
    others = {*keys(plain.train), *keys(plain.validation)}
    for draw in draws:
        assert keys(draw.test) == keys(plain.test)
        assert torch.equal(draw.test.labels, plain.test.labels)
        found = [*keys(draw.train), *keys(draw.validation)]
        assert len(set(found)) == len(found)
        assert set(found) <= others
        assert (set(found) == others) is (train_images is None)
        assert draw.drawn_from == len(others)
        assert len(draw.train) == (train_images or len(others) - len(draw.validation))
    assert len({draw.fingerprint for draw in draws}) == 1
    assert len({tuple(map(len, (d.train, d.validation))) for d in draws}) == 1
    assert plain.drawn_from is None
    for name in ("train", "validation"):
        drawn = [frozenset(keys(getattr(draw, name))) for draw in draws]
        assert len(set(drawn)) == 3


@pytest.mark.parametrize("source", ["divided"], indirect=True)
def test_labels_stay_with_their_images_and_noise_is_drawn_too(source: dict[str, Any]) -> None:
    label_of = {image.tobytes(): int(k) for image, k in zip(IMAGES, LABELS, strict=True)}
    wrong = []
    for draw in range(4):
        config = DataConfig(**source, resplit=True, label_noise=0.25)
        data = load_data(config, draw=draw)
        for split in (data.train, data.validation, data.test):
            is_wrong = [label_of[key] != k for key, k in zip(keys(split), split.labels.tolist())]  # noqa: B905
            assert sum(is_wrong) == (len(split) // 4 if split is data.train else 0)
        noisy = zip(keys(data.train), data.train.labels.tolist(), strict=True)
        wrong.append(frozenset(key for key, k in noisy if label_of[key] != k))
    assert len(set(wrong)) == 4


def means(data: Dataset) -> torch.Tensor:
    assert isinstance(data.test, Split)
    assert data.test.mean is not None
    return data.test.mean


@pytest.mark.parametrize("source", ["given"], indirect=True)
def test_each_draw_is_normalised_by_its_own_training_images(source: dict[str, Any]) -> None:
    config = DataConfig(**source, resplit=True)
    for draw in (0, 1):
        data = load_data(config, draw=draw)
        assert isinstance(data.train, Split)
        expected = data.train.images.double().mean(dim=(0, 2, 3)).float()
        assert torch.allclose(means(data).flatten(), expected, rtol=1e-5)
    assert not torch.equal(means(load_data(config, draw=0)), means(load_data(config, draw=1)))


@pytest.mark.parametrize("source", ["dataset"], indirect=True)
def test_the_splits_of_a_returned_dataset_are_the_same_for_all_seeds(
    source: dict[str, Any],
) -> None:
    assert load_data(DataConfig(**source)).drawn_from is None
    with pytest.raises(ValueError, match=r"resplit \(=True\) must not be given, because .* Datas"):
        load_data(DataConfig(**source, resplit=True))


@pytest.mark.parametrize("draw", [-1, 1.5, True, "1", None])
def test_what_is_no_number_of_a_draw_is_refused(draw: Any) -> None:
    with pytest.raises(ValueError, match=rf"\Adraw \(='?{draw}'?\) must be a whole number from 0"):
        load_data("digits", draw=draw)
    assert load_data("digits", draw=np.int64(3)).drawn_from is None  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1, 0, "yes", None, "maybe"])
def test_resplit_is_true_or_false(value: Any) -> None:
    with pytest.raises(ValueError, match="resplit"):
        DataConfig(resplit=value)
