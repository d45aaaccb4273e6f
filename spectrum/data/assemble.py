"""Makes a data set of encoded images: scans them, chooses images and classes, splits and loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spectrum.data.config import DataConfig
from spectrum.data.dataset import (
    Dataset,
    Examples,
    Split,
    add_label_noise,
    channel_statistics,
    compute_class_weights,
)
from spectrum.data.memory import decode_images
from spectrum.data.scan import Scan, fingerprint, scan
from spectrum.data.source import TEST, TRAIN, UNASSIGNED, VALIDATION, Source
from spectrum.data.splitting import split_indices, split_notes
from spectrum.data.stream import StreamedSplit

__all__ = ["assemble"]

_MAX_IN_MEMORY = 2**30  # bytes of decoded images up to which loading "auto" is "memory"
_MAX_NAMED = 3  # images or classes that a message names
_MAX_NAME_LENGTH = 120  # characters of a name that a message shows
_MIN_STD = 0.05  # float32 means of squares can't tell a smaller standard deviation from 0

Numbers = npt.NDArray[np.int64]


def assemble(source: Source, config: DataConfig) -> Dataset:
    """Scan images, split those that can be read, and decode them or make them stream.

    Args:
        source: the images, with their labels and given splits.
        config: how images are split, what is done about bad images, and so on.

    Raises:
        ValueError: images can't be read or classes have no images, unless ``bad_images`` is
            "skip"; there are too few images or classes; or ``image_size`` is needed and isn't
            given.
        OSError: an image has changed since it was scanned.
    """
    if config.label_noise and source.targets.ndim == 2:
        raise ValueError(
            f"label_noise (={config.label_noise}) must be 0 for images with several labels"
        )
    scanned = scan(source, config)
    try:
        numbers, notes = _readable_images(source, scanned, config)
        selection = _select(source, numbers, config)
    except ValueError as error:
        raise ValueError(f"data (={config.name}): {error}") from None
    source, numbers = selection.source, selection.numbers
    size = _image_size(scanned, numbers, config)
    channels = config.channels or (1 if scanned.grey[numbers].all() else 3)
    content_hash = fingerprint(source, scanned, numbers)
    labels = torch.from_numpy(source.targets[numbers])
    train_labels = labels[torch.from_numpy(selection.splits[0])]
    weights = compute_class_weights(train_labels, config.class_weights)
    add_label_noise(train_labels, config.label_noise, len(source.classes), config.split_seed)
    all_labels = (train_labels, *(labels[torch.from_numpy(i)] for i in selection.splits[1:]))
    is_streamed = _is_streamed(len(numbers), channels, size, config)
    make_splits = _streamed_splits if is_streamed else _splits_in_memory
    train, validation, test = make_splits(
        scanned, selection, all_labels, content_hash, size, channels
    )
    return Dataset(
        train=train,
        validation=validation,
        test=test,
        classes=source.classes,
        shape=(channels, size, size),
        fingerprint=content_hash,
        notes=(*source.notes, *notes, *selection.notes),
        class_weights=weights,
        map_at=config.map_at,
    )


@dataclass(frozen=True)
class _Selection:
    """The images and classes of a source that are used.

    Attributes:
        source: the source with the classes that are used.
        numbers: (N,) the numbers of the images that are used.
        splits: for training, validation and testing, indices into ``numbers``.
        notes: what was left out.
    """

    source: Source
    numbers: Numbers
    splits: tuple[Numbers, Numbers, Numbers]
    notes: tuple[str, ...]


def _readable_images(
    source: Source, scanned: Scan, config: DataConfig
) -> tuple[Numbers, tuple[str, ...]]:
    """The numbers of the images that can be read, and notes about the others."""
    good, bad = np.flatnonzero(scanned.readable), np.flatnonzero(~scanned.readable)
    if not len(scanned.readable):
        raise ValueError("has no images")
    if not len(bad):
        return good, ()
    names = [
        f"{_shorten(source.reader.name(int(i)))} ({scanned.reason(i)})" for i in bad[:_MAX_NAMED]
    ]
    listed = _listed(names, len(bad))
    count = f"{len(bad)} of {len(scanned.readable)} images"
    if config.bad_images == "stop" or not len(good):
        hint = "; bad_images skip leaves them out" if len(good) else ""
        raise ValueError(f"{count} can't be read: {listed}{hint}")
    return good, (f"{count} can't be read and are left out: {listed}",)


def _select(source: Source, numbers: Numbers, config: DataConfig) -> _Selection:
    """Split the readable images, without classes that have no training images."""
    skip, is_multi_label = config.bad_images == "skip", source.targets.ndim == 2
    notes: tuple[str, ...] = ()
    if not is_multi_label:
        given = source.splits[numbers]
        pool = np.flatnonzero((given == TRAIN) | (given == UNASSIGNED))
        others = (np.flatnonzero(given == split) for split in (VALIDATION, TEST))
        kept, notes = _check_classes(source, numbers, (pool, *others), skip)
        numbers = numbers[kept[source.targets[numbers]]]
        source = _keep_classes(source, kept)
    splits = split_indices(
        source.targets[numbers],
        source.splits[numbers],
        classes=source.classes,
        validation=config.validation,
        test=config.test,
        seed=config.split_seed,
        train_images=config.train_images,
    )
    if is_multi_label:
        kept, notes = _check_classes(source, numbers, splits, skip)
        source = _keep_classes(source, kept)
    return _Selection(source, numbers, splits, (*notes, *split_notes(source.splits[numbers])))


def _check_classes(
    source: Source, numbers: Numbers, splits: Sequence[Numbers], skip: bool
) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    """Which classes (K,) have training images, and notes about classes without images.

    Args:
        source: the images.
        numbers: the numbers of those that can be read.
        splits: for training, validation and testing, indices into ``numbers``; empty for a split
            that isn't given.
        skip: whether classes may be left out, or may have no validation or test images.

    Raises:
        ValueError: a class has no images in a split and ``skip`` is False, or fewer than two
            classes have training images.
    """
    k = len(source.classes)

    def present(split: Numbers) -> npt.NDArray[np.bool_]:
        targets = source.targets[numbers[split]]
        if targets.ndim == 2:
            return np.asarray(targets.any(axis=0))
        return np.bincount(targets, minlength=k) > 0

    train = present(splits[0])
    anywhere = present(np.arange(len(numbers)))
    missing = [
        (~anywhere, "no images", "left out"),
        (anywhere & ~train, "no images for training", "left out"),
        *(
            (train & ~present(split), f"no images for {purpose}", "kept")
            for split, purpose in zip(splits[1:], ("validation", "testing"), strict=True)
            if len(split) and source.targets.ndim == 1  # of several labels, some may be rare
        ),
    ]
    notes = []
    for is_missing, lacking, action in missing:
        names = [_shorten(source.classes[i]) for i in np.flatnonzero(is_missing)]
        if not names:
            continue
        noun = "class" if len(names) == 1 else "classes"
        listed = f"{noun} {_listed(names[:_MAX_NAMED], len(names))}"
        if not skip:
            it = "it" if len(names) == 1 else "them"
            remedy = f"leaves {it} out" if action == "left out" else f"keeps {it} anyway"
            raise ValueError(f"{lacking} of {listed}; bad_images skip {remedy}")
        notes.append(f"{lacking} of {listed}, {action}")
    if train.sum() < 2:
        only = ", ".join(source.classes[i] for i in np.flatnonzero(train)) or "none"
        raise ValueError(f"must have at least two classes to train on, has {_shorten(only)}")
    return train, tuple(notes)


def _keep_classes(source: Source, kept: npt.NDArray[np.bool_]) -> Source:
    """The source with some of its classes; targets of other classes become meaningless."""
    targets = (
        source.targets[:, kept] if source.targets.ndim == 2 else kept.cumsum()[source.targets] - 1
    )
    classes = tuple(source.classes[i] for i in np.flatnonzero(kept))
    return replace(source, targets=targets, classes=classes)


def _listed(names: Sequence[str], n: int) -> str:
    """The names as text, and how many more of ``n`` there are."""
    more = f" and {n - len(names)} more" if n > len(names) else ""
    return ", ".join(names) + more


def _shorten(name: str) -> str:
    if len(name) <= _MAX_NAME_LENGTH:
        return name
    return f"{name[: _MAX_NAME_LENGTH // 2]}...{name[-_MAX_NAME_LENGTH // 2 :]}"


def _image_size(scanned: Scan, numbers: Numbers, config: DataConfig) -> int:
    """The height and width to which the images are brought."""
    if config.image_size is not None:
        return config.image_size
    sides = np.stack([scanned.widths[numbers], scanned.heights[numbers]], axis=1)  # (N, 2)
    if (sides == sides[0, 0]).all():
        return int(sides[0, 0])
    areas = sides.astype(np.int64).prod(axis=1)
    small, large = ("{}x{}".format(*sides[i]) for i in (areas.argmin(), areas.argmax()))
    sizes = small if (sides == sides[0]).all() else f"from {small} to {large}"
    raise ValueError(
        f"image_size (=None) must be given: images of {config.name} are {sizes} pixels"
    )


def _is_streamed(n: int, channels: int, size: int, config: DataConfig) -> bool:
    if config.loading == "auto":
        return n * channels * size * size > _MAX_IN_MEMORY
    return config.loading == "stream"


def _splits_in_memory(
    scanned: Scan,
    selection: _Selection,
    labels: Sequence[Tensor],
    content_hash: str,
    size: int,
    channels: int,
) -> list[Examples]:
    """Make splits in memory, normalised by the pixels of the training split."""
    images = decode_images(
        selection.source.reader,
        selection.numbers,
        fingerprint=content_hash,
        size=size,
        channels=channels,
    )
    mean, std = channel_statistics(images, selection.splits[0])
    return [
        Split(torch.from_numpy(images[indices]), split_labels, mean, std)
        for indices, split_labels in zip(selection.splits, labels, strict=True)
    ]


def _streamed_splits(
    scanned: Scan,
    selection: _Selection,
    labels: Sequence[Tensor],
    content_hash: str,
    size: int,
    channels: int,
) -> list[Examples]:
    """Make splits that are streamed, normalised by the files of the training split.

    Every image has the same weight in the mean, however many pixels its file has, because all
    images are brought to one size.
    """
    which = slice(3, 4) if channels == 1 else slice(3)
    train = selection.numbers[selection.splits[0]]
    mean = scanned.means[train, which].mean(axis=0, dtype=np.float64)
    square = scanned.squares[train, which].mean(axis=0, dtype=np.float64)
    std = np.sqrt(np.maximum(square - mean**2, 0))
    std[std < _MIN_STD] = 1  # a constant channel holds no information, whatever divides it
    mean_and_std = torch.from_numpy(np.stack([mean, std]).astype(np.float32)[:, :, None, None])
    return [
        StreamedSplit(
            selection.source.reader,
            selection.numbers[indices],
            split_labels,
            size,
            mean_and_std[0],
            mean_and_std[1],
        )
        for indices, split_labels in zip(selection.splits, labels, strict=True)
    ]
