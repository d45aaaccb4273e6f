"""Streamed examples: their order, their pixels, and that no worker outlives the iteration."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from spectrum import DataConfig
from spectrum.data.augment import augment, sample_parameters
from spectrum.data.augmentation import NO_AUGMENTATION, Augmentation
from spectrum.data.folder import read_folder
from spectrum.data.images import open_image, random_crop_box
from spectrum.data.stream import StreamedSplit
from tests.data.pictures import encoded, noise, resized, write_classes

MEAN = torch.tensor([100.0, 120, 140])[:, None, None]
STD = torch.tensor([50.0, 60, 70])[:, None, None]
SIZE = 8


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    return write_classes(folder, {"a": 12, "b": 9}, height=20, width=26)


@pytest.fixture
def stream(root: Path) -> StreamedSplit:
    source = read_folder(DataConfig(name=f"folder:{root}"))
    numbers = np.arange(20, -1, -1)  # an example's number isn't its image's
    labels = torch.from_numpy(source.targets[numbers])
    return StreamedSplit(source.reader, numbers, labels, SIZE, MEAN, STD)


def pixels(stream: StreamedSplit, example: int) -> Any:
    return np.asarray(open_image(stream.reader.read(int(stream.numbers[example]))))


def concatenate(batches: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_the_middle_is_evaluated_and_normalised(stream: StreamedSplit) -> None:
    batches = list(stream.batches(8))
    assert [len(labels) for _, labels in batches] == [8, 8, 5]
    images, labels = concatenate(iter(batches))
    assert images.dtype == torch.float32
    assert images.shape == (21, 3, SIZE, SIZE)
    assert torch.equal(labels, stream.labels)
    # 26x20 pixels come to 11x9, of which 8x8 in the middle are left: 8 / 0.875 is 9.1.
    box = (2 * 26 / 11, 0, 10 * 26 / 11, 8 * 20 / 9)
    for example in (0, 5, 20):
        slow = torch.from_numpy(resized(pixels(stream, example), SIZE, box)).permute(2, 0, 1)
        found = images[example] * STD + MEAN
        assert (found - slow).abs().max() <= 1.5
    bytes_again = images * STD + MEAN
    assert (bytes_again - bytes_again.round()).abs().max() < 1e-4


def test_training_images_are_random_crops_of_each_example(stream: StreamedSplit) -> None:
    varied = Augmentation(crop_area=0.3)
    order = torch.tensor([4, 0, 17])
    images, labels = concatenate(stream.batches(2, order, varied, seed=11))
    assert torch.equal(labels, stream.labels[order])
    for image, example in zip(images, order.tolist(), strict=True):
        box = random_crop_box(26, 20, 0.3, np.random.default_rng([11, example]))
        slow = torch.from_numpy(resized(pixels(stream, example), SIZE, box)).permute(2, 0, 1)
        assert (image * STD + MEAN - slow).abs().max() <= 1.5


def test_an_order_without_variation_is_the_evaluation(stream: StreamedSplit) -> None:
    order = torch.tensor([3, 1, 20, 3])
    everything, _ = concatenate(stream.batches(8))
    some, labels = concatenate(stream.batches(3, order, NO_AUGMENTATION, seed=5))
    assert torch.equal(some, everything[order])
    assert torch.equal(labels, stream.labels[order])


@pytest.mark.parametrize(
    "varied",
    [Augmentation(crop=2, flip=True, cutout=3), Augmentation(flip=True, cutout=3)],
)
def test_other_augmentation_is_that_of_examples_in_memory(
    stream: StreamedSplit, varied: Augmentation
) -> None:
    order = torch.randperm(21)
    plain, _ = concatenate(stream.batches(8, order))
    parameters = sample_parameters(varied, 21, (SIZE, SIZE), 4, torch.device("cpu"))
    found, _ = concatenate(stream.batches(8, order, varied, seed=4))
    assert torch.equal(found, augment(plain, varied, parameters.select(order)))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_change_nothing_nor_does_where_an_epoch_goes_on(
    stream: StreamedSplit, num_workers: int
) -> None:
    varied = Augmentation(crop_area=0.2, flip=True)
    order = torch.randperm(21)
    images, labels = concatenate(stream.batches(4, order, varied, seed=3))
    other = replace(stream, num_workers=num_workers)
    rest, rest_labels = concatenate(other.batches(4, order[8:], varied, seed=3))
    assert torch.equal(rest, images[8:])
    assert torch.equal(rest_labels, labels[8:])
    another, _ = concatenate(other.batches(4, order, varied, seed=4))
    assert not torch.equal(another, images)


def test_the_random_numbers_of_training_are_left_alone(stream: StreamedSplit) -> None:
    before = torch.get_rng_state()
    for num_workers in (0, 1):
        some = replace(stream, num_workers=num_workers)
        list(some.batches(8, torch.arange(9), Augmentation(crop_area=0.1)))
    assert torch.equal(torch.get_rng_state(), before)


def test_stopping_early_leaves_no_worker(stream: StreamedSplit) -> None:
    for _ in replace(stream, num_workers=2).batches(2):
        assert len(multiprocessing.active_children()) == 2
        break
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_cant_be_read_is_named(tmp_path: Path, num_workers: int) -> None:
    root = write_classes(tmp_path, {"a": 3, "b": 3})
    source = read_folder(DataConfig(name=f"folder:{root}"))
    labels = torch.from_numpy(source.targets)
    stream = StreamedSplit(source.reader, np.arange(6), labels, 4, MEAN, STD, num_workers)
    (root / "b" / "1.png").unlink()
    with pytest.raises(OSError, match=r"can't be read \(not there\): 'b/1.png'\Z"):
        list(stream.batches(2))
    (root / "b" / "1.png").write_bytes(encoded(noise(0, 9, 9))[:60])
    with pytest.raises(OSError, match=r"can't be read \(\w+\): 'b/1.png'\Z"):
        list(stream.batches(2, torch.tensor([4]), Augmentation(crop_area=0.5)))
    assert not multiprocessing.active_children()


def kill_worker(stream: StreamedSplit) -> None:
    try:
        batches = stream.batches(1)
        next(batches)
        [worker] = multiprocessing.active_children()
        worker.kill()
        list(batches)
    except (RuntimeError, OSError, EOFError):  # by what the worker was about to do
        os._exit(7)  # without torch's handler of signals, which may raise at an orderly exit


def test_a_worker_that_is_killed_is_an_error(stream: StreamedSplit) -> None:
    # In another process, so that torch's handler of signals affects nothing else.
    process = multiprocessing.get_context("fork").Process(target=kill_worker, args=(stream,))
    process.start()
    process.join(100)
    assert process.exitcode == 7


def test_other_layouts_have_the_same_values(stream: StreamedSplit) -> None:
    images, _ = concatenate(stream.batches(8))
    for channels_last in (True, False):
        moved = stream.to("cpu", channels_last=channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        for batch, _ in moved.batches(8, torch.arange(21), Augmentation(flip=True), seed=1):
            assert batch.is_contiguous(memory_format=layout)
        assert torch.equal(concatenate(moved.batches(8))[0], images)
        assert moved.to("cpu").channels_last is channels_last


def test_grey_images_with_several_labels(root: Path) -> None:
    reader = read_folder(DataConfig(name=f"folder:{root}")).reader
    labels = torch.rand(21, 4) < 0.5
    grey = StreamedSplit(reader, np.arange(21), labels, SIZE, MEAN[:1], STD[:1])
    images, found = concatenate(grey.batches(10))
    assert images.shape == (21, 1, SIZE, SIZE)
    assert torch.equal(found, labels)
    middle = np.asarray(open_image(reader.read(0)).convert("L"), float).mean()
    assert (images[0] * STD[:1] + MEAN[:1]).mean().item() == pytest.approx(middle, abs=8)


def test_workers_start_where_torch_has_threads(stream: StreamedSplit) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        torch.randn(600, 600) @ torch.randn(600, 600)
        assert len(list(stream.batches(8))) == 3
    finally:
        torch.set_num_threads(before)
