"""Makes a data set of a source: chooses images and classes, splits, decodes and normalises."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spectrum.data.config import DataConfig
from spectrum.data.dataset import Dataset, Examples, Split
from spectrum.data.memory import decode_images
from spectrum.data.scan import fingerprint, reason_text, scan
from spectrum.data.source import (
    TEST,
    TRAIN,
    UNASSIGNED,
    VALIDATION,
    Numbers,
    Source,
    listed,
    note_unreadable,
)
from spectrum.data.splitting import draw_seed, split_indices, split_notes
from spectrum.data.stream import StreamedSplit
from spectrum.errors import FieldError

_MAX_IN_MEMORY = 2**30  # bytes of decoded images up to which loading "auto" is "memory"
_MIN_STD = 0.05  # float32 means of squares can't tell a smaller standard deviation from 0
_CHUNK = 1000  # images that are summed up at a time


def assemble(source: Source, config: DataConfig, draw: int = 0) -> Dataset:
    """Split the images of a source that can be read, and normalise them by the training split.

    Encoded images are scanned first, then decoded or made to stream.

    Args:
        source: the images, with their labels and given splits.
        config: how images are split, what is done about bad images, and so on.
        draw: with ``resplit``, the number of the draw of training and validation images.

    Raises:
        ValueError: images can't be read or classes have no images, unless ``bad_images`` is
            "skip"; there are too few images or classes; or a field of the configuration doesn't
            fit the images.
        OSError: an image has changed since it was scanned, or a worker process died.
    """
    if config.label_noise and source.is_multi_label:
        allowed = "must be 0 for images with several labels"
        raise FieldError("label_noise", config.label_noise, allowed)
    if isinstance(source.images, np.ndarray):
        return _assemble_arrays(source, source.images, config, draw)
    return _assemble_encoded(source, config, draw)


def _assemble_arrays(
    source: Source, pixels: npt.NDArray[Any], config: DataConfig, draw: int
) -> Dataset:
    """Make a data set of images (N, C, H, W) in memory."""
    _, channels, height, width = pixels.shape
    if config.channels not in (None, channels):
        raise FieldError("channels", config.channels, f"must be {channels}, as its images have")
    if config.image_size is not None and (height, width) != (config.image_size,) * 2:
        allowed = f"must be the size of its images, {width}x{height} pixels; arrays aren't resized"
        raise FieldError("image_size", config.image_size, allowed)
    if config.loading == "stream":
        allowed = "must be memory or auto, because its images are in memory"
        raise FieldError("loading", config.loading, allowed)
    selection = _select(source, np.arange(len(pixels)), config, draw)
    places = [selection.numbers[indices] for indices in selection.splits]
    splits = _splits_in_memory(pixels, places, selection.labels)
    content_hash = hashlib.sha256()
    has_splits = (source.splits != UNASSIGNED).any()
    for array in (pixels, source.targets, *([source.splits] if has_splits else [])):
        content_hash.update(f"{array.dtype}{array.shape}".encode())
        content_hash.update(np.ascontiguousarray(array).data.cast("B"))
    return _make_dataset(
        selection, splits, (channels, height, width), content_hash.hexdigest()[:16], config
    )


def _assemble_encoded(source: Source, config: DataConfig, draw: int) -> Dataset:
    """Make a data set of encoded images, which are all brought to one size."""
    scanned = scan(source)
    good = scanned["reason"] == 0
    if not len(good):
        raise ValueError("; ".join(["has no images", *source.notes]))
    bad = [
        f"{source.reader.name(i)} ({reason_text(scanned[i])})"
        for i in np.flatnonzero(~good).tolist()
    ]
    notes = note_unreadable(bad, len(good), "images", config)
    selection = _select(
        replace(source, notes=(*source.notes, *notes)), np.flatnonzero(good), config, draw
    )
    used = scanned[selection.numbers]
    size = _image_size(used, config)
    channels = config.channels or (1 if used["grey"].all() else 3)
    content_hash = fingerprint(selection.source, scanned, selection.numbers)
    is_large = len(used) * channels * size**2 > _MAX_IN_MEMORY
    splits: Sequence[Examples]
    if config.loading == "stream" or (config.loading == "auto" and is_large):
        splits = _streamed_splits(used, selection, size, channels)
    else:
        images = decode_images(
            source.reader,
            selection.numbers,
            fingerprint=content_hash,
            size=size,
            channels=channels,
        )
        splits = _splits_in_memory(images, selection.splits, selection.labels)
    return _make_dataset(selection, splits, (channels, size, size), content_hash, config)


@dataclass(frozen=True)
class _Selection:
    """The images and classes of a source that are used.

    Attributes:
        source: the source with the classes that are used.
        numbers: (N,) the numbers of the images that are used.
        splits: for training, validation and testing, indices into ``numbers``.
        labels: the labels of each of these splits.
        drawn_from: with ``resplit``, how many images training and validation are drawn from.
    """

    source: Source
    numbers: Numbers
    splits: tuple[Numbers, Numbers, Numbers]
    labels: tuple[Tensor, ...]
    drawn_from: int | None


def _make_dataset(
    selection: _Selection,
    splits: Sequence[Examples],
    shape: tuple[int, int, int],
    content_hash: str,
    config: DataConfig,
) -> Dataset:
    train, validation, test = splits
    class_weights = None
    if config.class_weights == "frequency" and selection.source.is_multi_label:
        positives = train.labels.float().sum(dim=0)
        class_weights = positives / positives.mean()
    return Dataset(
        train=train,
        validation=validation,
        test=test,
        classes=selection.source.classes,
        shape=shape,
        fingerprint=content_hash,
        notes=selection.source.notes,
        class_weights=class_weights,
        map_at=config.map_at,
        drawn_from=selection.drawn_from,
    )


def _select(source: Source, numbers: Numbers, config: DataConfig, draw: int) -> _Selection:
    """Split the readable images, without classes that have no training images."""
    is_encoded = not isinstance(source.images, np.ndarray)
    seed = draw_seed(config.split_seed, draw) if config.resplit else config.split_seed
    if config.resplit and (source.splits[numbers] == TEST).any():
        is_drawn = source.splits == VALIDATION
        source = replace(source, splits=np.where(is_drawn, np.int8(TRAIN), source.splits))
    if not (is_encoded and source.is_multi_label):
        given = source.splits[numbers]
        parts = [np.flatnonzero((given == TRAIN) | (given == UNASSIGNED))]
        if is_encoded:
            parts += [np.flatnonzero(given == split) for split in (VALIDATION, TEST)]
        source, numbers = _check_classes(source, numbers, parts, config)
    splits = split_indices(
        source.targets[numbers],
        source.splits[numbers],
        classes=source.classes,
        validation=config.validation,
        test=config.test,
        test_seed=config.split_seed,
        seed=seed,
        train_images=config.train_images,
    )
    pool = np.setdiff1d(np.arange(len(numbers)), splits[2])
    if is_encoded and source.is_multi_label:
        # The classes must be the same in all draws.
        kept_by = pool if config.resplit else splits[0]
        source, numbers = _check_classes(source, numbers, [kept_by], config)
    notes = split_notes(source.splits[numbers])
    labels = tuple(torch.from_numpy(source.targets[numbers[indices]]) for indices in splits)
    _add_label_noise(labels[0], config.label_noise, len(source.classes), seed)
    source = replace(source, notes=(*source.notes, *notes))
    return _Selection(source, numbers, splits, labels, len(pool) if config.resplit else None)


def _check_classes(
    source: Source, numbers: Numbers, splits: Sequence[Numbers], config: DataConfig
) -> tuple[Source, Numbers]:
    """Leave out the classes without training images, if ``bad_images`` is "skip".

    Args:
        source: the images.
        numbers: the numbers of those that can be read.
        splits: for training and perhaps validation and testing, indices into ``numbers``; empty
            for a split that isn't given.
        config: what is done about classes without images in a split.

    Returns:
        The source with the other classes and with notes, and the numbers of their images.

    Raises:
        ValueError: a class has no images in a split and ``bad_images`` isn't "skip", or fewer than
            two classes have training images.
    """
    k = len(source.classes)

    def present(split: Numbers) -> npt.NDArray[np.bool_]:
        targets = source.targets[numbers[split]]
        if targets.ndim == 2:
            return np.asarray(targets.any(axis=0))
        return np.bincount(targets, minlength=k) > 0

    kept = present(splits[0])
    anywhere = present(np.arange(len(numbers)))
    missing = [
        (~anywhere, "no images", "left out"),
        (anywhere & ~kept, "no images for training", "left out"),
    ]
    for split, purpose in zip(splits[1:], ("validation", "testing"), strict=False):
        if len(split):
            missing.append((kept & ~present(split), f"no images for {purpose}", "kept"))
    notes = []
    for is_missing, lacking, action in missing:
        names = [source.classes[i] for i in np.flatnonzero(is_missing)]
        if not names:
            continue
        noun, it = ("class", "it") if len(names) == 1 else ("classes", "them")
        if config.bad_images == "stop":
            remedy = f"leaves {it} out" if action == "left out" else f"keeps {it} anyway"
            found = f"has {lacking} of {noun} {listed(names)}"
            raise ValueError(f"{found}; bad_images skip {remedy}")
        notes.append(f"{lacking} of {noun} {listed(names)}, {action}")
    classes = tuple(source.classes[i] for i in np.flatnonzero(kept))
    if len(classes) < 2:
        raise ValueError(
            f"must have at least two classes to train on, has {listed(classes) or 'none'}"
        )
    if source.is_multi_label:
        targets = source.targets[:, kept]
    else:
        numbers = numbers[kept[source.targets[numbers]]]
        targets = kept.cumsum()[source.targets] - 1  # meaningless for the other classes
    notes_of_all = (*source.notes, *notes)
    return replace(source, targets=targets, classes=classes, notes=notes_of_all), numbers


def _add_label_noise(labels: Tensor, share: float, classes: int, seed: int) -> None:
    """Replace a share of the labels (N,) by other classes, in place."""
    if not share:  # (N, K) labels can't have noise, so they come with a share of 0
        return
    rng = np.random.default_rng(seed)
    wrong = torch.from_numpy(rng.permutation(len(labels))[: round(share * len(labels))])
    shift = torch.from_numpy(rng.integers(1, classes, size=len(wrong)))
    labels[wrong] = (labels[wrong] + shift) % classes


def _image_size(scanned: npt.NDArray[Any], config: DataConfig) -> int:
    """The height and width to which the images are brought."""
    if config.image_size is not None:
        return config.image_size
    sides = np.stack([scanned["width"], scanned["height"]], axis=1)  # (N, 2)
    if (sides == sides[0, 0]).all():
        return int(sides[0, 0])
    areas = sides.astype(np.int64).prod(axis=1)
    small, large = ("{}x{}".format(*sides[i]) for i in (areas.argmin(), areas.argmax()))
    sizes = small if (sides == sides[0]).all() else f"from {small} to {large}"
    allowed = f"must be given: images of {config.name} are {sizes} pixels"
    raise FieldError("image_size", None, allowed)


def _splits_in_memory(
    images: npt.NDArray[Any], places: Sequence[Numbers], labels: Sequence[Tensor]
) -> list[Split]:
    """Make splits in memory.

    Bytes are normalised in each batch, by the mean and standard deviation of each channel. Floats
    are normalised here, by those of all channels.

    Args:
        images: (N, C, H, W), uint8 or float32.
        places: for training, validation and testing, indices into ``images``.
        labels: of each split.
    """
    mean = std = None
    if images.dtype == np.uint8:
        mean, std = _channel_statistics(images, places[0])
    else:
        train = images[places[0]]
        images = (images - train.mean()) / train.std()
    return [
        Split(torch.from_numpy(images[place]), split_labels, mean, std)
        for place, split_labels in zip(places, labels, strict=True)
    ]


def _streamed_splits(
    scanned: npt.NDArray[Any], selection: _Selection, size: int, channels: int
) -> list[StreamedSplit]:
    """Make splits that are streamed, normalised by the files of the training split.

    Every image has the same weight in the mean, however many pixels its file has, because all
    images are brought to one size.
    """
    which = slice(3, 4) if channels == 1 else slice(3)
    train = scanned[selection.splits[0]]
    mean = train["mean"][:, which].mean(axis=0, dtype=np.float64)
    square = train["square"][:, which].mean(axis=0, dtype=np.float64)
    mean, std = _mean_and_std(mean, square, _MIN_STD)
    return [
        StreamedSplit(
            selection.source.reader, selection.numbers[indices], split_labels, size, mean, std
        )
        for indices, split_labels in zip(selection.splits, selection.labels, strict=True)
    ]


def _channel_statistics(images: npt.NDArray[Any], indices: Numbers) -> tuple[Tensor, Tensor]:
    """Compute the mean and standard deviation (C, 1, 1) of some images, from exact sums."""
    total = np.zeros((2, images.shape[1]), np.int64)
    for first in range(0, len(indices), _CHUNK):
        chunk = images[indices[first : first + _CHUNK]].astype(np.int64)
        total += chunk.sum(axis=(0, 2, 3)), (chunk**2).sum(axis=(0, 2, 3))
    mean, square = total / (len(indices) * images[0, 0].size)
    return _mean_and_std(mean, square, 0)


def _mean_and_std(
    mean: npt.NDArray[np.float64], square: npt.NDArray[np.float64], least: float
) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation (C, 1, 1) of the mean and the mean square (C,)."""
    std = np.sqrt(np.maximum(square - mean**2, 0))
    std[std <= least] = 1  # a constant channel holds no information, whatever divides it
    both = torch.from_numpy(np.stack([mean, std])[:, :, None, None].astype(np.float32))
    return both[0], both[1]
