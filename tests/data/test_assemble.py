"""Files become splits: what is left out, what is refused, and what the splits hold."""

from __future__ import annotations

import re
import shutil
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
from spectrum.data.cache import write_array
from spectrum.data.folder import read_folder
from spectrum.data.source import unassigned
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
    with pytest.raises(ValueError, match=rf"{re.escape(reason)}\Z"):
        load(root, **fields)


def images_of(split: Any) -> Tensor:
    assert isinstance(split, Split)
    return split.images


def contents(*splits: Any) -> list[bytes]:
    return [image.numpy().tobytes() for split in splits for image in images_of(split)]


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
    assert (data.classes, data.shape) == (("a", "b", "c"), (3, 8, 8))
    assert (data.notes, data.class_weights) == ((), None)
    for split, counts in ((data.train, [12, 6, 6]), (data.validation, [4, 2, 2])):
        assert np.bincount(split.labels).tolist() == counts
    parts = (data.train, data.validation, data.test)
    labels = torch.cat([split.labels for split in parts]).tolist()
    found = contents(*parts)
    assert dict(zip(found, [data.classes[i] for i in labels], strict=True)) == files(root)
    assert len(found) == 40
    assert images_of(data.train).dtype == torch.uint8


def test_a_stream_holds_the_same_as_memory(root: Path) -> None:
    memory, stream = load(root), load(root, loading="stream")
    assert (stream.fingerprint, stream.shape) == (memory.fingerprint, memory.shape)
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


def test_given_splits_are_kept(tmp_path: Path) -> None:
    counts = {f"{split}/{c}": 10 for split in ("train", "val", "test") for c in "ab"}
    root = write_classes(tmp_path / "splits", counts)
    data = load(root)
    assert data.notes == ()
    for split, name in ((data.train, "train"), (data.validation, "val"), (data.test, "test")):
        assert set(contents(split)) == set(files(root, f"{name}/**/*.png"))
    shutil.rmtree(root / "test")
    data = load(root, validation=0.3)
    assert set(contents(data.test)) == set(files(root, "val/**/*.png"))
    assert np.bincount(data.validation.labels).tolist() == [3, 3]
    assert set(contents(data.train, data.validation)) == set(files(root, "train/**/*.png"))
    [note] = data.notes
    assert note.startswith("there is no test split: the given validation split is used for")


def test_bad_images_are_named_or_left_out(root: Path) -> None:
    clean = load(root)
    (root / "a" / "zero.png").touch()
    (root / "b" / "text.jpg").write_text("hello")
    which = "a/zero.png (empty), b/text.jpg (no image)"
    remedy = "bad_images skip leaves them out"
    refused(root, f") has unreadable images, 2 of 42: {which}; {remedy}")
    (root / "b" / "cut.png").write_bytes(encoded(noise(0, 50, 50))[:99])
    (root / "c" / "new\nline.png").write_text("x")
    which = "a/zero.png (empty), b/cut.png (truncated), b/text.jpg (no image) and 1 more"
    refused(root, f") has unreadable images, 4 of 44: {which}; {remedy}")
    data = load(root, bad_images="skip")
    assert data.notes == (f"4 of 44 images can't be read and are left out: {which}",)
    assert data.fingerprint == clean.fingerprint
    assert torch.equal(images_of(data.train), images_of(clean.train))
    (root / "a" / f"{'long' * 60}.png").touch()
    with pytest.raises(ValueError, match=r"5 of 45: a/(long)+lo\.\.\.(long)+\.png \(empty\), "):
        load(root)


@pytest.mark.parametrize("skip", ["stop", "skip"])
def test_no_image_can_be_read(tmp_path: Path, skip: str) -> None:
    (tmp_path / "x" / "a").mkdir(parents=True)
    refused(tmp_path / "x", ") has no images", bad_images=skip)
    (tmp_path / "x" / "a" / "1").touch()
    left_out = "left out because they are hidden or no images: 1 file, a/1"
    refused(tmp_path / "x", f") has no images; {left_out}", bad_images=skip)
    (tmp_path / "x" / "a" / "1.png").touch()
    refused(tmp_path / "x", ") has unreadable images, 1 of 1: a/1.png (empty)", bad_images=skip)


def test_an_empty_class(root: Path) -> None:
    clean = load(root)
    (root / "ab").mkdir()
    refused(root, ") has no images of class ab; bad_images skip leaves it out")
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
    refused(root, ") has no images for training of class c; bad_images skip leaves it out")
    data = load(root, bad_images="skip")
    assert data.classes == ("a", "b", "d")
    counts = [np.bincount(s.labels, minlength=3) for s in (data.train, data.validation, data.test)]
    assert np.array_equal(counts, [[10, 10, 10], [4, 4, 4], [4, 4, 0]])
    assert data.notes == (
        "no images for training of class c, left out",
        "no images for testing of class d, kept",
    )
    shutil.rmtree(root / "val" / "c")
    refused(root, ") has no images for testing of class d; bad_images skip keeps it anyway")


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"a": 9}, ") must have at least two classes to train on, has a"),
        ({"a": 30, "b": 1}, ") has too few images of class b to be split: 1"),
        (
            {"a": 2, "b": 2},
            "test (=0.2) must be at least 0.5, one image of 4 for each of 2 classes",
        ),
    ],
)
def test_too_few_classes_or_images_are_refused(
    tmp_path: Path, counts: dict[str, int], reason: str
) -> None:
    refused(write_classes(tmp_path / "few", counts), reason)


def test_grey_images_have_one_channel_by_default(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "grey", {"a": 8, "b": 8}, channels=1)
    data, three = load(root), load(root, channels=3)
    assert (data.shape, three.shape) == ((1, 8, 8), (3, 8, 8))
    assert set(contents(data.test)) <= set(files(root))
    assert torch.equal(images_of(three.train)[:, 1:2], images_of(data.train))
    (root / "a" / "colour.png").write_bytes(encoded(noise(0, 8, 8)))
    assert load(root).shape == (3, 8, 8)
    grey = load(root, channels=1, loading="stream")
    assert next(grey.train.batches(4))[0].shape == (4, 1, 8, 8)


def test_the_size_is_the_common_one_or_must_be_given(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "wide", {"a": 8, "b": 8}, height=9, width=12)
    reason = f"image_size (=None) must be given: images of folder:{root} are"
    refused(root, f"{reason} 12x9 pixels")
    (root / "a" / "large.png").write_bytes(encoded(noise(0, 20, 15)))
    (root / "b" / "small.png").write_bytes(encoded(noise(0, 8, 13)))
    refused(root, f"{reason} from 13x8 to 15x20 pixels")
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
    write_array(path, np.full_like(kept, 7))
    assert (images_of(load(root, image_size=6).train) == 7).all()
    assert (images_of(load(root, image_size=7).train) != 7).any()
    # The same images elsewhere are the same.
    shutil.copytree(root, root.parent / "elsewhere")
    assert (images_of(load(root.parent / "elsewhere", image_size=6).test) == 7).all()
    # An array of another size or type, or a damaged one, counts as missing.
    for other in (kept[:9], kept.astype(np.int8)):
        write_array(path, other)
        assert torch.equal(images_of(load(root, image_size=6).test), images_of(before.test))
        assert np.array_equal(np.load(path), kept)


def test_an_image_that_is_removed_after_the_scan_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanned = assemble_module.scan

    def scan_and_remove(*given: Any) -> Any:
        found = scanned(*given)
        (root / "b" / "3.png").unlink()
        return found

    monkeypatch.setattr(assemble_module, "scan", scan_and_remove)
    with pytest.raises(OSError, match=r"can't be read \(not there\): 'b/3.png'\Z"):
        load(root)


def test_a_label_that_no_image_has(root: Path) -> None:
    targets = np.random.default_rng(0).random((40, 3)) < [0.5, 0, 0.6]
    config = DataConfig(name=f"folder:{root}")
    fields = {"targets": targets, "classes": ("p", "q", "r"), "splits": unassigned(40)}
    source = replace(read_folder(config), **fields)
    with pytest.raises(
        ValueError, match=r"\Ahas no images of class q; bad_images skip leaves it out"
    ):
        assemble(source, config)
    data = assemble(source, config.model_copy(update={"bad_images": "skip"}))
    assert data.classes == ("p", "r")
    assert data.train.labels.shape == (24, 2)
    total = sum(s.labels.sum(dim=0) for s in (data.train, data.validation, data.test))
    assert torch.equal(total, torch.from_numpy(targets[:, [0, 2]].sum(axis=0)))
    assert data.notes == ("no images of class q, left out",)
    with pytest.raises(ValueError, match=r"\Alabel_noise \(=0.1\) must be 0 for [^\n]*\Z"):
        assemble(source, config.model_copy(update={"label_noise": 0.1}))


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
