"""From encoded images to three splits: what can't be read, which classes, which size, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spectrum.data.dataset import Dataset, Examples, Split, class_weights, mislabel, moments
from spectrum.data.division import divide, notes_of
from spectrum.data.memory import decoded
from spectrum.data.scan import Scan, fingerprint, scan
from spectrum.data.source import TEST, TRAIN, UNDIVIDED, VALIDATION, Source
from spectrum.data.stream import Stream

if TYPE_CHECKING:
    from spectrum.data.config import DataConfig

__all__ = ["assemble"]

_MEMORY = 2**30  # bytes of decoded images that are held in memory unasked
_NAMED = 3  # images or classes that a message names
_LONG = 120  # characters of a name that a message shows
_LEAST = 0.05  # of a deviation; float32 sums of squares tell no smaller ones from 0

Numbers = npt.NDArray[np.int64]


def assemble(source: Source, config: DataConfig) -> Dataset:
    """Scan images, divide those that are good and make them ready for use.

    Args:
        source: of the images, with their labels and the splits that are given.
        config: what is done about bad images, splits that aren't given, and so on.

    Raises:
        ValueError: images or classes that can't be used, unless these are to be left out; nothing
            that can be trained on or divided; no size that the images share.
        OSError: an image has changed since it was scanned.
    """
    if config.label_noise and source.targets.ndim == 2:
        raise ValueError(
            f"label_noise (={config.label_noise}) must be 0, images have several labels"
        )
    found = scan(source, config)
    try:
        numbers, notes = _readable(source, found, config)
        chosen = _divided(source, numbers, config)
    except ValueError as error:
        raise ValueError(f"data (={config.name}): {error}") from None
    source, numbers = chosen.source, chosen.numbers
    size = _size(found, numbers, config)
    channels = config.channels or (1 if found.grey[numbers].all() else 3)
    content = fingerprint(source, found, numbers)
    labels = torch.from_numpy(source.targets[numbers])
    of_train = labels[torch.from_numpy(chosen.parts[0])]
    weights = class_weights(of_train, config.class_weights)
    mislabel(of_train, config.label_noise, len(source.classes), config.split_seed)
    all_labels = (of_train, *(labels[torch.from_numpy(part)] for part in chosen.parts[1:]))
    make = _streams if _is_streamed(len(numbers), channels, size, config) else _splits
    train, validation, test = make(found, chosen, all_labels, content, size, channels)
    return Dataset(
        train=train,
        validation=validation,
        test=test,
        classes=source.classes,
        shape=(channels, size, size),
        fingerprint=content,
        notes=(*source.notes, *notes, *chosen.notes),
        class_weights=weights,
        map_at=config.map_at,
    )


@dataclass(frozen=True)
class _Chosen:
    """What is kept of a source.

    Attributes:
        source: its classes, and the targets of all its images, are those that are kept.
        numbers: (N,) of the images that are kept.
        parts: places among these, for training, validation and testing.
        notes: what was left out.
    """

    source: Source
    numbers: Numbers
    parts: tuple[Numbers, Numbers, Numbers]
    notes: tuple[str, ...]


def _readable(source: Source, found: Scan, config: DataConfig) -> tuple[Numbers, tuple[str, ...]]:
    """The numbers of the images that can be read, and what is to be said of the others."""
    good, bad = np.flatnonzero(found.good), np.flatnonzero(~found.good)
    if not len(found.good):
        raise ValueError("has no images")
    if not len(bad):
        return good, ()
    names = [f"{_short(source.reader.name(int(i)))} ({found.reason(i)})" for i in bad[:_NAMED]]
    which = _listed(names, len(bad))
    count = f"{len(bad)} of {len(found.good)} images"
    if config.bad_images == "stop" or not len(good):
        hint = "; bad_images skip leaves them out" if len(good) else ""
        raise ValueError(f"{count} can't be read: {which}{hint}")
    return good, (f"{count} can't be read and are left out: {which}",)


def _divided(source: Source, numbers: Numbers, config: DataConfig) -> _Chosen:
    """The images of the classes that can be learnt, in three parts."""
    skip, several = config.bad_images == "skip", source.targets.ndim == 2
    notes: tuple[str, ...] = ()
    if not several:
        splits = source.splits[numbers]
        pool = np.flatnonzero((splits == TRAIN) | (splits == UNDIVIDED))
        given = (np.flatnonzero(splits == split) for split in (VALIDATION, TEST))
        left, notes = _classes(source, numbers, (pool, *given), skip)
        numbers = numbers[left[source.targets[numbers]]]
        source = _relabelled(source, left)
    parts = divide(
        source.targets[numbers],
        source.splits[numbers],
        classes=source.classes,
        validation=config.validation,
        test=config.test,
        seed=config.split_seed,
        train_images=config.train_images,
    )
    if several:
        left, notes = _classes(source, numbers, parts, skip)
        source = _relabelled(source, left)
    return _Chosen(source, numbers, parts, (*notes, *notes_of(source.splits[numbers])))


def _classes(
    source: Source, numbers: Numbers, parts: Sequence[Numbers], skip: bool
) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    """Which classes (K,) have images to train on, and what is to be said of the others.

    Args:
        source: of the images.
        numbers: of those that can be read.
        parts: places among these, for training, validation and testing; empty where there is none.
        skip: whether classes may be left out, or be missing from the other parts.
    """
    k = len(source.classes)

    def present(part: Numbers) -> npt.NDArray[np.bool_]:
        targets = source.targets[numbers[part]]
        if targets.ndim == 2:
            return np.asarray(targets.any(axis=0))
        return np.bincount(targets, minlength=k) > 0

    train = present(parts[0])
    anywhere = present(np.arange(len(numbers)))
    missing = [
        (~anywhere, "no images", "left out"),
        (anywhere & ~train, "no images for training", "left out"),
        *(
            (train & ~present(part), f"no images for {purpose}", "kept")
            for part, purpose in zip(parts[1:], ("validation", "testing"), strict=True)
            if len(part) and source.targets.ndim == 1  # of many labels some are rare
        ),
    ]
    notes = []
    for which, lacking, fate in missing:
        names = [_short(source.classes[i]) for i in np.flatnonzero(which)]
        if not names:
            continue
        what = f"{'class' if len(names) == 1 else 'classes'} {_listed(names[:_NAMED], len(names))}"
        if not skip:
            it = "it" if len(names) == 1 else "them"
            result = f"leaves {it} out" if fate == "left out" else f"keeps {it} all the same"
            raise ValueError(f"{lacking} of {what}; bad_images skip {result}")
        notes.append(f"{lacking} of {what}, {fate}")
    if train.sum() < 2:
        only = ", ".join(source.classes[i] for i in np.flatnonzero(train)) or "none"
        raise ValueError(f"must have at least two classes to train on, has {_short(only)}")
    return train, tuple(notes)


def _relabelled(source: Source, left: npt.NDArray[np.bool_]) -> Source:
    """With some of its classes; the target of an image of another class means nothing."""
    targets = (
        source.targets[:, left] if source.targets.ndim == 2 else left.cumsum()[source.targets] - 1
    )
    classes = tuple(source.classes[i] for i in np.flatnonzero(left))
    return replace(source, targets=targets, classes=classes)


def _listed(names: Sequence[str], n: int) -> str:
    more = f" and {n - len(names)} more" if n > len(names) else ""
    return ", ".join(names) + more


def _short(name: str) -> str:
    return name if len(name) <= _LONG else f"{name[: _LONG // 2]}...{name[-_LONG // 2 :]}"


def _size(found: Scan, numbers: Numbers, config: DataConfig) -> int:
    """Height and width that the images are brought to."""
    if config.image_size is not None:
        return config.image_size
    sides = np.stack([found.widths[numbers], found.heights[numbers]], axis=1)  # (N, 2)
    if (sides == sides[0, 0]).all():
        return int(sides[0, 0])
    areas = sides.astype(np.int64).prod(axis=1)
    small, large = ("{}x{}".format(*sides[i]) for i in (areas.argmin(), areas.argmax()))
    what = small if (sides == sides[0]).all() else f"from {small} to {large}"
    raise ValueError(f"image_size (=None) must be given: images of {config.name} are {what} pixels")


def _is_streamed(n: int, channels: int, size: int, config: DataConfig) -> bool:
    if config.loading == "auto":
        return n * channels * size * size > _MEMORY
    return config.loading == "stream"


def _splits(
    found: Scan, chosen: _Chosen, labels: Sequence[Tensor], content: str, size: int, channels: int
) -> list[Examples]:
    """Splits in memory, normalised by the pixels that are trained on."""
    images = decoded(
        chosen.source.reader, chosen.numbers, fingerprint=content, size=size, channels=channels
    )
    mean, deviation = moments(images, chosen.parts[0])
    return [
        Split(torch.from_numpy(images[part]), own, mean, deviation)
        for part, own in zip(chosen.parts, labels, strict=True)
    ]


def _streams(
    found: Scan, chosen: _Chosen, labels: Sequence[Tensor], content: str, size: int, channels: int
) -> list[Examples]:
    """Splits that stream, normalised by the images that are trained on as they are in the files.

    Each counts as much as another, however many pixels it has: they are brought to one size.
    """
    which = slice(3, 4) if channels == 1 else slice(3)
    train = chosen.numbers[chosen.parts[0]]
    mean = found.means[train, which].mean(axis=0, dtype=np.float64)
    square = found.squares[train, which].mean(axis=0, dtype=np.float64)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    deviation[deviation < _LEAST] = 1  # the same everywhere, it tells nothing however divided
    both = torch.from_numpy(np.stack([mean, deviation]).astype(np.float32)[:, :, None, None])
    return [
        Stream(chosen.source.reader, chosen.numbers[part], own, size, both[0], both[1])
        for part, own in zip(chosen.parts, labels, strict=True)
    ]
