"""Files become splits: what is left out, what is refused, and what the splits hold."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from spectrum import DataConfig, Dataset, Split, load_data
from spectrum.data import assemble as assemble_module
from spectrum.data.assemble import assemble
from spectrum.data.folder import read_folder
from spectrum.data.memory import _write
from spectrum.data.source import TEST, TRAIN, UNASSIGNED, VALIDATION
from spectrum.data.stream import StreamedSplit
from tests.data.pictures import encoded, noise, write_classes


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "spectrum" / "data"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "images", {"a": 20, "b": 10, "c": 10})


def load(root: Path, **fields: Any) -> Dataset:
    return load_data(DataConfig(name=f"folder:{root}", **fields))


def refused(root: Path, reason: str, **fields: Any) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole text is compared
        load(root, **fields)
    assert str(caught.value) == reason.replace("HERE", f"folder:{root}")


def images_of(split: Any) -> Tensor:
    assert isinstance(split, Split)
    return split.images


def files(root: Path, pattern: str = "**/*.png") -> dict[bytes, str]:
    """The classes of images by their pixels (C, H, W)."""
    found = {}
    for path in root.glob(pattern):
        with Image.open(path) as image:
            pixels = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
        found[pixels.tobytes()] = path.relative_to(root).parts[-2]
    return found


def test_each_image_is_in_one_split_with_its_class(root: Path) -> None:
    data = load(root)
    assert data.classes == ("a", "b", "c")
    assert data.shape == (3, 8, 8)
    assert data.notes == ()
    assert data.class_weights is None
    known = files(root)
    seen = []
    for split, counts in ((data.train, [12, 6, 6]), (data.validation, [4, 2, 2])):
        assert np.bincount(split.labels).tolist() == counts
    for split in (data.train, data.validation, data.test):
        images = images_of(split)
        assert images.dtype == torch.uint8
        for image, label in zip(images, split.labels, strict=True):
            seen.append(image.numpy().tobytes())
            assert known[seen[-1]] == data.classes[label]
    assert sorted(seen) == sorted(known)


def test_pixels_are_normalised_by_those_for_training(root: Path) -> None:
    data = load(root)
    pixels = images_of(data.train).double()
    assert isinstance(data.train, Split)
    assert data.train.mean is not None
    assert data.train.std is not None
    assert torch.allclose(data.train.mean.flatten().double(), pixels.mean(dim=(0, 2, 3)))
    expected = pixels.std(dim=(0, 2, 3), correction=0)
    assert torch.allclose(data.train.std.flatten().double(), expected)
    images = torch.cat([images for images, _ in data.train.batches(10)])
    assert torch.allclose(images.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(images.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-5)
    for split in (data.validation, data.test):
        assert isinstance(split, Split)
        assert split.mean is data.train.mean


def test_a_stream_holds_the_same_as_memory(root: Path) -> None:
    memory, stream = load(root), load(root, loading="stream")
    assert stream.fingerprint == memory.fingerprint
    assert stream.shape == memory.shape
    for name in ("train", "validation", "test"):
        one, other = getattr(memory, name), getattr(stream, name)
        assert isinstance(other, StreamedSplit)
        assert torch.equal(one.labels, other.labels)
        assert torch.allclose(one.mean, other.mean, rtol=1e-5)
        assert torch.allclose(one.std, other.std, rtol=1e-5)
        for (images, _), (others, _) in zip(one.batches(9), other.batches(9), strict=True):
            assert torch.allclose(images, others, atol=1e-4)


def test_large_data_sets_are_streamed_by_default(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble_module, "_MAX_IN_MEMORY", 40 * 3 * 8 * 8)
    assert isinstance(load(root).train, Split)
    monkeypatch.setattr(assemble_module, "_MAX_IN_MEMORY", 40 * 3 * 8 * 8 - 1)
    assert isinstance(load(root).train, StreamedSplit)
    assert isinstance(load(root, channels=1).train, Split)
    assert isinstance(load(root, loading="memory").train, Split)


def test_the_split_depends_on_its_seed_alone(root: Path) -> None:
    one, same, other = load(root), load(root), load(root, split_seed=1)
    assert torch.equal(images_of(one.train), images_of(same.train))
    assert not torch.equal(images_of(one.train), images_of(other.train))
    assert one.fingerprint == other.fingerprint


def test_fewer_images_and_wrong_labels(root: Path) -> None:
    whole, fewer = load(root), load(root, train_images=12, label_noise=0.25)
    assert len(fewer.train) == 12
    known = files(root)
    right = [
        known[image.numpy().tobytes()] == whole.classes[label]
        for image, label in zip(images_of(fewer.train), fewer.train.labels, strict=True)
    ]
    assert right.count(False) == 3
    assert torch.equal(images_of(fewer.test), images_of(whole.test))
    assert fewer.fingerprint == whole.fingerprint


def write_splits(tmp_path: Path, *splits: str, n: int = 10) -> Path:
    root = tmp_path / "splits"
    return write_classes(root, {f"{split}/{c}": n for split in splits for c in "ab"})


def test_given_splits_are_kept(tmp_path: Path) -> None:
    root = write_splits(tmp_path, "train", "val", "test")
    data = load(root)
    assert data.notes == ()
    for split, name in ((data.train, "train"), (data.validation, "val"), (data.test, "test")):
        found = {image.numpy().tobytes() for image in images_of(split)}
        assert found == set(files(root, f"{name}/**/*.png"))


@pytest.mark.parametrize("given", ["val", "test"])
def test_of_two_splits_one_is_for_testing_and_validation_is_drawn(
    tmp_path: Path, given: str
) -> None:
    root = write_splits(tmp_path, "train", given)
    data = load(root, validation=0.3)
    assert {i.numpy().tobytes() for i in images_of(data.test)} == set(
        files(root, f"{given}/**/*.png")
    )
    assert np.bincount(data.validation.labels).tolist() == [3, 3]
    assert np.bincount(data.train.labels).tolist() == [7, 7]
    drawn = {i.numpy().tobytes() for s in (data.train, data.validation) for i in images_of(s)}
    assert drawn == set(files(root, "train/**/*.png"))
    if given == "val":
        [note] = data.notes
        assert note.startswith("there is no test split: the given validation split is used for")
    else:
        assert data.notes == ()


def test_bad_images_are_named_or_left_out(root: Path) -> None:
    clean = load(root)
    (root / "a" / "zero.png").touch()
    (root / "b" / "text.jpg").write_text("hello")
    refused(
        root,
        "data (=HERE): 2 of 42 images can't be read: a/zero.png (empty), b/text.jpg (no image); "
        "bad_images skip leaves them out",
    )
    (root / "b" / "cut.png").write_bytes(encoded(noise(0, 50, 50))[:99])
    (root / "c" / "new\nline.png").write_text("x")
    which = "a/zero.png (empty), b/cut.png (truncated), b/text.jpg (no image) and 1 more"
    refused(
        root,
        f"data (=HERE): 4 of 44 images can't be read: {which}; bad_images skip leaves them out",
    )
    data = load(root, bad_images="skip")
    assert data.notes == (f"4 of 44 images can't be read and are left out: {which}",)
    assert data.fingerprint == clean.fingerprint
    assert torch.equal(images_of(data.train), images_of(clean.train))


def test_no_image_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "x" / "a").mkdir(parents=True)
    for skip in ("stop", "skip"):
        refused(tmp_path / "x", "data (=HERE): has no images", bad_images=skip)
    (tmp_path / "x" / "a" / "1").touch()
    for skip in ("stop", "skip"):
        refused(
            tmp_path / "x",
            "data (=HERE): 1 of 1 images can't be read: a/1 (empty)",
            bad_images=skip,
        )


def test_an_empty_class(root: Path) -> None:
    clean = load(root)
    (root / "ab").mkdir()
    refused(root, "data (=HERE): no images of class ab; bad_images skip leaves it out")
    data = load(root, bad_images="skip")
    assert data.classes == ("a", "b", "c")
    assert data.notes == ("no images of class ab, left out",)
    assert data.fingerprint == clean.fingerprint
    assert torch.equal(data.train.labels, clean.train.labels)
    (root / "ab" / "bad.png").touch()
    notes = load(root, bad_images="skip").notes
    assert notes[1:] == ("no images of class ab, left out",)


def test_a_class_that_isnt_in_every_split(tmp_path: Path) -> None:
    root = write_classes(
        tmp_path / "uneven",
        {
            **{f"train/{c}": 10 for c in "abd"},
            **{f"val/{c}": 4 for c in "abcd"},
            **{f"test/{c}": 4 for c in "ab"},
        },
    )
    refused(root, "data (=HERE): no images for training of class c; bad_images skip leaves it out")
    data = load(root, bad_images="skip")
    assert data.classes == ("a", "b", "d")
    assert np.bincount(data.train.labels).tolist() == [10, 10, 10]
    assert np.bincount(data.validation.labels).tolist() == [4, 4, 4]
    assert np.bincount(data.test.labels, minlength=3).tolist() == [4, 4, 0]
    assert data.notes == (
        "no images for training of class c, left out",
        "no images for testing of class d, kept",
    )
    shutil.rmtree(root / "val" / "c")
    refused(
        root,
        "data (=HERE): no images for testing of class d; bad_images skip keeps it anyway",
    )


def test_too_few_classes_or_images_are_refused(tmp_path: Path) -> None:
    one = write_classes(tmp_path / "one", {"a": 9})
    refused(one, "data (=HERE): must have at least two classes to train on, has a")
    few = write_classes(tmp_path / "few", {"a": 30, "b": 1})
    refused(few, "data (=HERE): class b has too few images (=1) to be split")
    refused(
        write_classes(tmp_path / "tiny", {"a": 2, "b": 2}),
        "data (=HERE): test (=0.2) must be at least 0.5, one image of 4 for each of 2 classes",
    )


def test_grey_images_have_one_channel_by_default(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "grey", {"a": 8, "b": 8}, channels=1)
    data = load(root)
    assert data.shape == (1, 8, 8)
    assert {i.numpy().tobytes() for i in images_of(data.test)} <= set(files(root))
    three = load(root, channels=3)
    assert three.shape == (3, 8, 8)
    assert torch.equal(images_of(three.train)[:, 1:2], images_of(data.train))
    assert isinstance(load(root, loading="stream").train, StreamedSplit)
    (root / "a" / "colour.png").write_bytes(encoded(noise(0, 8, 8)))
    assert load(root).shape == (3, 8, 8)
    grey = load(root, channels=1, loading="stream")
    assert grey.shape == (1, 8, 8)
    assert next(grey.train.batches(4))[0].shape == (4, 1, 8, 8)


def test_the_size_is_the_common_one_or_must_be_given(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "wide", {"a": 8, "b": 8}, height=9, width=12)
    refused(root, "image_size (=None) must be given: images of HERE are 12x9 pixels")
    (root / "a" / "large.png").write_bytes(encoded(noise(0, 20, 15)))
    (root / "b" / "small.png").write_bytes(encoded(noise(0, 8, 13)))
    refused(root, "image_size (=None) must be given: images of HERE are from 13x8 to 15x20 pixels")
    for loading in ("memory", "stream"):
        data = load(root, image_size=6, loading=loading)
        assert data.shape == (3, 6, 6)
        assert next(data.train.batches(4))[0].shape == (4, 3, 6, 6)


def test_decoded_images_are_cached(root: Path, cache: Path) -> None:
    before = load(root, image_size=6)
    [path] = cache.glob("*.npy")
    assert path.name == f"{before.fingerprint}-3x6.npy"
    kept = np.load(path)
    # If the cache has the images, nothing is decoded again.
    kept[:] = 7
    with path.open("wb") as file:
        _write(file, kept)
    after = load(root, image_size=6)
    assert (images_of(after.train) == 7).all()
    assert (images_of(load(root, image_size=7).train) != 7).any()
    # The same images elsewhere are the same.
    shutil.copytree(root, root.parent / "elsewhere")
    assert (images_of(load(root.parent / "elsewhere", image_size=6).test) == 7).all()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-40],
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: b"",
        lambda content: b"\x80\x04 a pickle",
    ],
)
def test_damaged_images_in_the_cache_are_decoded_again(
    root: Path, cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    before = load(root)
    [path] = cache.glob("*.npy")
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert torch.equal(images_of(load(root).train), images_of(before.train))
    assert path.read_bytes() == content


def test_an_image_that_is_removed_after_the_scan_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DataConfig(name=f"folder:{root}")
    source = read_folder(str(root), config)
    scanned = assemble_module.scan

    def scan_and_remove(*given: Any) -> Any:
        found = scanned(*given)
        (root / "b" / "3.png").unlink()
        return found

    monkeypatch.setattr(assemble_module, "scan", scan_and_remove)
    with pytest.raises(OSError, match=r"\Ab/3.png can't be read \(not there\)\Z"):
        assemble(source, config)


def assemble_multi_label(root: Path, targets: Any, **fields: Any) -> Dataset:
    config = DataConfig(name=f"folder:{root}", **fields)
    source = read_folder(str(root), config)
    names = tuple("pqrst"[: targets.shape[1]])
    splits = np.full(len(targets), UNASSIGNED, np.int8)
    return assemble(replace(source, targets=targets, classes=names, splits=splits), config)


def test_images_with_several_labels(root: Path) -> None:
    targets = np.random.default_rng(0).random((40, 3)) < [0.5, 0.3, 0.6]
    data = assemble_multi_label(root, targets, class_weights="frequency", map_at=7)
    assert data.is_multi_label
    assert data.train.labels.dtype == torch.bool
    assert (len(data.train), len(data.validation), len(data.test)) == (24, 8, 8)
    assert data.map_at == 7
    positives = data.train.labels.sum(dim=0).double()
    assert data.class_weights is not None
    assert torch.allclose(data.class_weights.double(), positives / positives.mean())
    assert assemble_multi_label(root, targets).class_weights is None
    total = sum(s.labels.sum(dim=0) for s in (data.train, data.validation, data.test))
    assert torch.equal(total, torch.from_numpy(targets.sum(axis=0)))
    with pytest.raises(ValueError, match=r"\Alabel_noise \(=0.1\) must be 0 for [^\n]*\Z"):
        assemble_multi_label(root, targets, label_noise=0.1)


def test_a_label_that_no_image_has(root: Path) -> None:
    targets = np.random.default_rng(0).random((40, 3)) < [0.5, 0, 0.6]
    with pytest.raises(
        ValueError, match=re.escape("no images of class q; bad_images skip leaves it out")
    ):
        assemble_multi_label(root, targets)
    data = assemble_multi_label(root, targets, bad_images="skip")
    assert data.classes == ("p", "r")
    assert data.train.labels.shape == (24, 2)
    assert data.notes == ("no images of class q, left out",)


def test_a_constant_channel_can_be_normalised(tmp_path: Path) -> None:
    for i in range(20):
        folder = tmp_path / "x" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = noise(i, 8, 8)
        pixels[:, :, 1] = 77
        (folder / f"{i}.png").write_bytes(encoded(pixels))
    for loading in ("memory", "stream"):
        images, _ = next(load(tmp_path / "x", loading=loading).train.batches(12))
        assert torch.isfinite(images).all()
        assert (images[:, 1] == 0).all()


def test_the_numbers_of_the_splits() -> None:
    assert (UNASSIGNED, TRAIN, VALIDATION, TEST) == (-1, 0, 1, 2)
