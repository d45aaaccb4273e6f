"""What a user's callable may return, and the one-line errors for everything else."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spectrum import DataConfig, Dataset, Split, load_data
from spectrum.data.assemble import assemble
from spectrum.data.source import Source, unassigned

HEAD = """
import sys
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset
import spectrum

rng = np.random.default_rng(0)
labels = np.arange(60) % 3
pixels = rng.integers(0, 256, (60, 3, 6, 4), dtype=np.uint8)
floats = rng.normal(size=(60, 2, 5, 5)).astype(np.float32)
several = (np.arange(60)[:, None] % [2, 3, 5]) == 0

class Items(Dataset):
    def __init__(self, make, n=60):
        self.make, self.n = make, n
    def __len__(self):
        return self.n
    def __getitem__(self, i):
        return self.make(i)

def picture(i, mode="RGB", size=(6, 6)):
    return Image.fromarray(np.full((*size[::-1], 3), 4 * i, np.uint8)).convert(mode)
"""
COUNT = itertools.count()


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    """Loads what a callable of a user's module returns, or an expression of it."""
    monkeypatch.syspath_prepend(tmp_path)

    def load_returned(returned: str, head: str = "", **fields: Any) -> Dataset:
        module = f"users_data_{next(COUNT)}"
        body = f"{HEAD}{head}\ndef f():\n    return {returned}\n"
        (tmp_path / f"{module}.py").write_text(body)
        importlib.invalidate_caches()
        return load_data(DataConfig(name=f"{module}:f", **fields))

    yield load_returned
    for name in [name for name in sys.modules if name.startswith("users_data_")]:
        del sys.modules[name]


def pixels_of(split: Split) -> np.ndarray[Any, Any]:
    """The pixels of a split as the user had them."""
    assert isinstance(split, Split)
    return split.images.numpy()


PIXELS = np.random.default_rng(0).integers(0, 256, (60, 3, 6, 4), dtype=np.uint8)


def test_bytes_stay_bytes_with_the_mean_and_std_of_the_training_split(load: Any) -> None:
    data = load("pixels, labels")
    assert (data.shape, data.classes) == ((3, 6, 4), ("0", "1", "2"))
    assert [len(p) for p in (data.train, data.validation, data.test)] == [36, 12, 12]
    content = {image.tobytes(): i for i, image in enumerate(PIXELS)}
    seen = []
    for part in (data.train, data.validation, data.test):
        numbers = [content[image.tobytes()] for image in pixels_of(part)]
        assert part.labels.tolist() == [i % 3 for i in numbers]
        seen += numbers
    assert sorted(seen) == list(range(60))
    train = pixels_of(data.train).astype(np.float64)
    assert data.train.images.dtype == torch.uint8
    for found, axis in ((data.train.mean, "mean"), (data.train.std, "std")):
        expected = getattr(train, axis)(axis=(0, 2, 3))
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-6)
        assert found.shape == (3, 1, 1)
    (images, _), *_ = data.train.batches(36)
    np.testing.assert_allclose(images.mean((0, 2, 3)), 0, atol=1e-5)


def test_floats_are_split_and_normalised_as_digits_are(load: Any) -> None:
    found = load("torch.from_numpy(floats), torch.from_numpy(labels).int()")
    rng = np.random.default_rng(0)
    rng.integers(0, 256, (60, 3, 6, 4), dtype=np.uint8)
    floats = rng.normal(size=(60, 2, 5, 5)).astype(np.float32)
    source = Source(floats, np.arange(60) % 3, ("0", "1", "2"), unassigned(60))
    same = assemble(source, DataConfig())
    assert found.fingerprint == same.fingerprint
    for name in ("train", "validation", "test"):
        assert torch.equal(getattr(found, name).images, getattr(same, name).images)
        assert torch.equal(getattr(found, name).labels, getattr(same, name).labels)


def test_the_values_of_labels_name_the_classes(load: Any) -> None:
    data = load("pixels, labels * 10 - 10")
    assert data.classes == ("-10", "0", "10")
    assert sorted(data.train.labels.unique().tolist()) == [0, 1, 2]
    named = load("pixels, labels.astype(np.uint8), ['a', 'b', 'c']")
    assert named.classes == ("a", "b", "c")
    assert torch.equal(named.train.labels, data.train.labels)


@pytest.mark.parametrize(
    "kind",
    [
        *(f"pixels, labels.astype(np.float{bits})" for bits in (16, 32, 64)),
        *(f"pixels, torch.from_numpy(labels).to(torch.{kind})" for kind in ("bfloat16", "double")),
        "pixels, list(map(float, labels))",
        "Items(lambda i: (pixels[i], float(labels[i])))",
    ],
)
def test_floats_that_are_whole_numbers_are_labels(kind: str, load: Any) -> None:
    data, expected = load(kind), load("pixels, labels")
    assert data.classes == expected.classes
    assert torch.equal(data.train.labels, expected.train.labels)


def test_a_class_without_images_can_be_left_out(load: Any) -> None:
    data = load("pixels, labels * 2 % 5, ['a', 'none', 'b', 'no one', 'c']", bad_images="skip")
    assert data.classes == ("a", "b", "c")
    assert data.notes == ("no images of classes none, no one, left out",)
    named = load("pixels, labels * 2 % 5 // 2, ['a', 'b', 'c']")
    assert torch.equal(data.train.labels, named.train.labels)


def test_the_fields_of_the_split_take_effect(load: Any) -> None:
    base = load("pixels, labels")
    fewer = load("pixels, labels", validation=0.1, test=0.3, train_images=20, label_noise=0.5)
    assert [len(p) for p in (fewer.train, fewer.validation, fewer.test)] == [20, 6, 18]
    clean = load("pixels, labels", validation=0.1, test=0.3, train_images=20)
    assert (clean.train.labels != fewer.train.labels).sum() == 10
    assert base.fingerprint == fewer.fingerprint


@pytest.mark.parametrize("kind", ["several.astype(float)", "torch.tensor(several)"])
def test_images_of_several_labels(kind: str, load: Any) -> None:
    data = load(f"pixels, {kind}, ['x', 'y', 'z']", class_weights="frequency", map_at=7)
    assert data.is_multi_label
    assert (data.train.labels.dtype, data.train.labels.shape) == (torch.bool, (36, 3))
    content = {image.tobytes(): i for i, image in enumerate(PIXELS)}
    for image, labels in zip(pixels_of(data.test), data.test.labels.tolist(), strict=True):
        number = content[image.tobytes()]
        assert labels == [number % k == 0 for k in (2, 3, 5)]
    positives = data.train.labels.float().sum(0)
    torch.testing.assert_close(data.class_weights, positives / positives.mean())
    assert data.map_at == 7
    assert load(f"pixels, {kind}").class_weights is None


def test_given_splits_are_kept(load: Any) -> None:
    train, rest = "(pixels[:40], labels[:40])", "(pixels[40:50], labels[40:50])"
    data = load(f"{{'train': {train}, 'val': {rest}, 'test': (pixels[50:], labels[50:])}}")
    assert np.array_equal(pixels_of(data.train), PIXELS[:40])
    assert np.array_equal(pixels_of(data.validation), PIXELS[40:50])
    assert np.array_equal(pixels_of(data.test), PIXELS[50:])
    assert data.notes == ()
    other = load(f"{{'train': {train}, 'dev': {rest}}}")
    assert np.array_equal(pixels_of(other.test), PIXELS[40:50])
    assert len(other.validation) == 8
    assert "no test split" in other.notes[0]
    assert load(f"{{'train': {train}, 'test': {rest}}}").fingerprint != other.fingerprint
    alone = load("{'train': (pixels, labels)}")
    assert torch.equal(alone.train.images, load("pixels, labels").train.images)


def test_the_tensors_of_a_torch_dataset_are_read(load: Any) -> None:
    data = load("TensorDataset(torch.from_numpy(pixels), torch.from_numpy(labels))")
    plain = load("pixels, labels")
    assert data.fingerprint == plain.fingerprint
    assert torch.equal(data.train.images, plain.train.images)
    items = load("Items(lambda i: (pixels[i], torch.tensor(several[i])))")
    assert items.fingerprint == load("pixels, several").fingerprint


def test_pictures_of_a_torch_dataset_become_bytes(load: Any) -> None:
    grey = load("Items(lambda i: (picture(i, 'L'), int(labels[i])))")
    assert grey.shape == (1, 6, 6)
    assert sorted(pixels_of(grey.test)[:, 0, 0, 0] // 4 % 3) == sorted(grey.test.labels.tolist())
    mixed = load("Items(lambda i: (picture(i, 'L' if i else 'RGBA'), int(labels[i])))")
    assert mixed.shape == (3, 6, 6)
    assert (pixels_of(mixed.test)[:, 0] == pixels_of(mixed.test)[:, 2]).all()
    sized = load("Items(lambda i: (picture(i, size=(6 + i, 9)), int(labels[i])))", image_size=5)
    assert sized.shape == (3, 5, 5)
    forced = load("Items(lambda i: (picture(i), int(labels[i])))", channels=1)
    assert forced.shape == (1, 6, 6)
    split = load("{k: Items(lambda i: (picture(i), i % 2), 20) for k in ('train', 'test')}")
    assert [len(p) for p in (split.train, split.validation, split.test)] == [16, 4, 20]


def test_class_names_are_those_of_a_torch_dataset(load: Any) -> None:
    head = "class Named(Items):\n    classes = ['ant', 'bee', 'cow']\n"
    data = load("Named(lambda i: (picture(i), int(labels[i])))", head)
    assert data.classes == ("ant", "bee", "cow")


def test_items_that_cannot_be_read_stop_or_are_left_out(load: Any) -> None:
    head = "def make(i):\n    if i % 20 == 9: raise OSError('gone\\nfor good')\n"
    head += "    return picture(i), int(labels[i])\n"
    with pytest.raises(ValueError, match=r"unreadable items, 3 of 60: item 9 \(OSError: gone\), "):
        load("Items(make)", head)
    data = load("Items(make)", head, bad_images="skip")
    assert sum(map(len, (data.train, data.validation, data.test))) == 57
    (note,) = data.notes
    assert note.startswith("3 of 60 items can't be read and are left out: item 9 (OSError")


def test_a_dataset_is_taken_as_it_is(load: Any) -> None:
    whole = "spectrum.load_data('digits')"
    data, digits = load(whole), load_data("digits")
    assert data.fingerprint == digits.fingerprint
    assert torch.equal(data.train.images, digits.train.images)
    head = "from dataclasses import replace\n"
    unnamed = load(f"replace({whole}, fingerprint='')", head)
    assert len(unnamed.fingerprint) == 16
    assert unnamed.fingerprint == load(f"replace({whole}, fingerprint='')", head).fingerprint
    other = "spectrum.load_data(spectrum.DataConfig(split_seed=1))"
    assert load(f"replace({other}, fingerprint='')", head).fingerprint != unnamed.fingerprint
    with pytest.raises(
        ValueError, match=r"label_noise \(=0.1\) must not be given, because .* returns a Dataset"
    ):
        load(whole, label_noise=0.1)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("None", "must return a spectrum.Dataset, "),
        ("pixels", "must return a spectrum.Dataset, .* not ndarray"),
        ("(pixels,)", "must return .* not tuple"),
        ("3 / 0", "failed: ZeroDivisionError"),
        ("sys.exit('bye')", "failed: SystemExit: bye"),
        ("pixels[:, 0], labels", r"images \(N, C, H, W\) .*not \(60, 6, 4\) of uint8"),
        ("floats.astype(float), labels", "must return images .* of float64"),
        ("np.zeros((60, 9, 9, 3), np.uint8), labels", r"looks like \(N, H, W, C\)"),
        ("pixels[:0], labels[:0]", "must return images"),
        ("'no', labels", "must return images as an array or a tensor, not str"),
        ("[[1], [1, 2]], labels", "must return images as a plain array: ValueError"),
        ("np.where(floats == floats[7, 0, 0, 0], np.nan, floats), labels", "of image 7 aren't"),
        ("floats * 0, labels", "every pixel is the same"),
        ("pixels, labels[:50]", "must return 60 labels, as many as images, not 50"),
        ("pixels, labels / 2", r"must return labels \(N,\) of integers .* of float64"),
        ("pixels, labels[:, None]", r"must return labels \(N,\) of integers"),
        ("pixels, several * 2", "those of image 0 aren't"),
        ("pixels, ['a'] * 60", "must return labels"),
        ("pixels, labels * 0", "must have at least two classes to train on, has 0"),
        ("pixels, labels, ['a', 'b']", "must have labels in 0..1, .* but image 2 has 2"),
        ("pixels, labels - 1, ['a', 'b', 'c']", "but image 0 has -1"),
        ("pixels, labels, ['a', 'b', 'c', 'd']", "has no images of class d; bad_images skip"),
        ("pixels, labels, ['a', 'a', 'b']", "must return class names that differ"),
        ("pixels, labels, 'abc'", "must return class names as a list of strings"),
        ("pixels, several, ['a', 'b']", "must return 3 class names, one per column"),
        ("pixels, several & [True, True, False]", "has no images of class 2; bad_images skip"),
        ("pixels, np.arange(60)", r"test \(=0.2\) must be at least 1"),
        ("{'train': (pixels, labels), 'extra': (pixels, labels)}", "and test, not 'extra'"),
        ("{'val': (pixels, labels), 'dev': (pixels, labels)}", "not 'dev' again"),
        ("{'test': (pixels, labels)}", "must return a dict with train"),
        ("{'train': (pixels, labels), 'test': (floats, labels)}", "have images of one type"),
        ("{'train': (pixels, labels), 'test': (pixels, several)}", "have labels of one type"),
        ("{'train': (pixels, labels % 2), 'test': (pixels, labels)}", "for training of class 2"),
        ("{'train': (pixels, labels), 'test': 7}", "test: must return"),
        ("Items(lambda i: pixels[i])", r"must return \(image, label\) as item 0, not ndarray"),
        ("Items(lambda i: (pixels[i, 0], 0))", r"return \(C, H, W\) .* item 0, not \(6, 4\)"),
        ("Items(lambda i: ('no', 0))", "the image of item 0 as an array or .*, not str"),
        ("Items(lambda i: (pixels[i], 'a'))", "must return an integer .* as the label of item 0"),
        ("Items(lambda i: (pixels[i], 0), 0)", "has no items"),
        ("Items(lambda i: (picture(i, size=(5 + i, 9)), 0))", "5x9 and 6x9 pixels; image_size"),
        ("Items(lambda i: (np.zeros((3, 4 + i, 4), np.uint8), 0))", "return images of one size"),
        ("Items(lambda i: (rng.normal(size=(1, 2, 2)), 0))", "return the same item 0 whenever"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(returned: str, said: str, load: Any) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        load(returned)
    assert re.fullmatch(r"(data|test) \(=[^\n]*", str(caught.value))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"channels": 1}, r"channels \(=1\) must be 3, as its images have"),
        ({"image_size": 6}, r"image_size \(=6\) must be the size of its images, 4x6 pixels"),
        ({"loading": "stream"}, r"loading \(='stream'\) must be memory or auto"),
    ],
)
def test_fields_that_do_not_fit_arrays_are_refused(
    fields: dict[str, Any], said: str, load: Any
) -> None:
    with pytest.raises(ValueError, match=said):
        load("pixels, labels", **fields)


@pytest.mark.parametrize("field", [{"class_weights": "frequency"}, {"map_at": 3}], ids=str)
def test_fields_for_several_labels_need_several_labels(field: dict[str, Any], load: Any) -> None:
    assert load("pixels, several", **field).is_multi_label
    with pytest.raises(ValueError, match="whose images have one label each"):
        load("pixels, labels", **field)


def test_a_split_must_have_labels(load: Any) -> None:
    parts = "'train': (pixels, several), 'val': (pixels[:9], several[:9])"
    message = r"\Adata \(='users_data_\d+:f'\) must have images with labels in the test split"
    with pytest.raises(ValueError, match=message):
        load(f"{{{parts}, 'test': (pixels[:9], np.zeros((9, 3), bool))}}")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("not_there_at_all:f", r"can't be imported: ModuleNotFoundError"),
        ("math:nothing", r"can't be imported: AttributeError"),
        ("math:pi", r"must be callable, not float"),
        ("__main__:f", r"can't be imported: ImportError: other processes"),
        ("textwrap:fill", r"must take no arguments, but needs text"),
        ("builtins:dict", "must return a dict with train"),
    ],
)
def test_a_name_must_be_of_a_callable_without_arguments(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=rf"\Adata \(='{name}'\) [^\n]*{said}[^\n]*\Z"):
        load_data(name)
