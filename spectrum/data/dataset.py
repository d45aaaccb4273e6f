"""What every source of data gives: three splits of images and labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spectrum.data.augment import NONE, Augmentation, augment, draw
from spectrum.data.division import divide, notes_of
from spectrum.data.source import UNDIVIDED

__all__ = ["Dataset", "Examples", "Split", "class_weights", "mislabel", "moments", "split_images"]

_AT_ONCE = 1000  # images that are summed up together


@dataclass(frozen=True)
class Split:
    """Examples that live in memory, on any device.

    Attributes:
        images: (N, C, H, W), float32 and normalised, or uint8 to be normalised when they are used.
        labels: (N,) int64, the class of each image; or (N, K) bool where it has several labels.
        mean: (C, 1, 1), of the training split, in the pixels' own units; None for float32.
        deviation: likewise, the standard deviation.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor | None = None
    deviation: Tensor | None = None
    streams: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, *, channels_last: bool | None = None) -> Split:
        """The same examples on another device, in the memory layout asked for, if one is."""
        layout = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last is None:
            layout = torch.preserve_format
        return Split(
            self.images.to(device, memory_format=layout),
            self.labels.to(device),
            None if self.mean is None else self.mean.to(device),
            None if self.deviation is None else self.deviation.to(device),
        )

    def batches(
        self,
        size: int,
        order: Tensor | None = None,
        augmentation: Augmentation = NONE,
        seed: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The examples in batches, on the device they are on.

        What an example is varied by follows from the seed and its own number, whatever the order.

        Args:
            size: of a batch; the last may be smaller.
            order: (n,) int64 on the CPU, the examples wanted; None for all, as they stand.
            augmentation: how they are varied, where an order is given.
            seed: of the variation.

        Yields:
            Normalised images (n, C, H, W), float32, and their labels.
        """
        if order is None:
            for images, labels in zip(
                self.images.split(size), self.labels.split(size), strict=True
            ):
                yield self._normalised(images), labels
            return
        device = self.images.device
        height, width = self.images.shape[2:]
        draws = draw(augmentation, len(self), (height, width), seed, device)
        for chosen in order.to(device).split(size):
            images = self._normalised(self.images[chosen])
            yield augment(images, augmentation, draws.of(chosen)), self.labels[chosen]

    def _normalised(self, images: Tensor) -> Tensor:
        if self.mean is None or self.deviation is None:
            return images
        return (images - self.mean) / self.deviation


@dataclass(frozen=True)
class Dataset:
    """Images for training, for choosing (validation) and for the final figure (test).

    Attributes:
        train: what a network is fitted to.
        validation: what anything is chosen by.
        test: read once, at the end of a run.
        classes: the names of the labels.
        shape: (C, H, W) of an image.
        fingerprint: a hash of the images and labels, before they are split.
        notes: what a user should know of how the data were found and divided.
        class_weights: (K,), of the classes in the mean average precision of images with several
            labels; None for equal ones.
        map_at: how many predictions that precision looks at.
    """

    train: Examples
    validation: Examples
    test: Examples
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    fingerprint: str
    notes: tuple[str, ...] = ()
    class_weights: Tensor | None = None
    map_at: int = 100

    @property
    def is_multi_label(self) -> bool:
        """Whether an image has any number of labels."""
        return self.train.labels.ndim == 2


class Examples(Protocol):
    """The examples of a split, in memory (``Split``) or not (``Stream``).

    Attributes:
        streams: whether images are read anew whenever they are asked for.
    """

    streams: ClassVar[bool]

    @property
    def labels(self) -> Tensor:
        """(N,) int64, or (N, K) bool."""
        ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str, *, channels_last: bool | None = None) -> Examples:
        """The same examples for another device."""
        ...

    def batches(
        self,
        size: int,
        order: Tensor | None = None,
        augmentation: Augmentation = NONE,
        seed: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images and labels in batches, as ``Split.batches`` gives them."""
        ...


def class_weights(labels: Tensor, by: str) -> Tensor | None:
    """Weights (K,) of the classes, of mean 1; None for equal ones.

    Args:
        labels: of the training split, (N, K) bool where images have several.
        by: ``"equal"``, or ``"frequency"``, how common a class is.
    """
    if by == "equal" or labels.ndim == 1:
        return None
    positives = labels.float().sum(dim=0)
    return positives / positives.mean()


def split_images(
    images: npt.NDArray[np.float32] | npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64] | npt.NDArray[np.bool_],
    classes: Sequence[str],
    *,
    validation: float,
    test: float,
    seed: int,
    splits: npt.NDArray[np.int8] | None = None,
    train_images: int | None = None,
    label_noise: float = 0.0,
) -> Dataset:
    """Divide images as ``divide`` does, and normalise them by those for training.

    Args:
        images: (N, C, H, W). Those of float32 are normalised by one mean and deviation; those of
            uint8 when they are used, by one a channel.
        labels: (N,), or (N, K) bool where images have several.
        classes: the names of the labels.
        validation: the share of the images for validation.
        test: the share of the images for testing.
        seed: of the division, apart from any seed of training.
        splits: (N,) where each belongs, as in ``Source``; None for images that are undivided.
        train_images: how many of the rest are trained on; None for all.
        label_noise: the share of the training labels that are replaced by another class.

    Raises:
        ValueError: a split would hold fewer images than there are classes, a class has too few
            images to be divided, more training images are asked for than are left, or images of
            several labels are to have wrong ones.
    """
    if label_noise and labels.ndim == 2:
        raise ValueError(f"label_noise (={label_noise}) must be 0, images have several labels")
    belong = np.full(len(labels), UNDIVIDED, np.int8) if splits is None else splits
    fingerprint = hashlib.sha256()
    for array in (images, labels) if splits is None else (images, labels, splits):
        fingerprint.update(f"{array.dtype}{array.shape}".encode())
        fingerprint.update(np.ascontiguousarray(array).data.cast("B"))
    train_part, validation_part, test_part = divide(
        labels,
        belong,
        classes=classes,
        validation=validation,
        test=test,
        seed=seed,
        train_images=train_images,
    )
    mean = deviation = None
    pixels: npt.NDArray[Any] = images
    if images.dtype == np.uint8:
        mean, deviation = moments(images, train_part)
    else:
        pixels = (images - images[train_part].mean()) / images[train_part].std()
    values, targets = torch.from_numpy(pixels), torch.from_numpy(labels)

    def part(indices: npt.NDArray[np.int64]) -> Split:
        chosen = torch.from_numpy(indices)
        return Split(values[chosen], targets[chosen], mean, deviation)

    train = part(train_part)
    mislabel(train.labels, label_noise, len(classes), seed)
    _, c, h, w = images.shape
    return Dataset(
        train=train,
        validation=part(validation_part),
        test=part(test_part),
        classes=tuple(classes),
        shape=(c, h, w),
        fingerprint=fingerprint.hexdigest()[:16],
        notes=notes_of(belong),
    )


def moments(images: npt.NDArray[Any], part: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """The mean and deviation (C, 1, 1) of each channel of some images, from exact sums."""
    total = np.zeros((2, images.shape[1]), np.int64)
    for first in range(0, len(part), _AT_ONCE):
        some = images[part[first : first + _AT_ONCE]].astype(np.int64)
        total += some.sum(axis=(0, 2, 3)), (some**2).sum(axis=(0, 2, 3))
    mean, square = total / (len(part) * images[0, 0].size)
    # A channel that is the same everywhere tells nothing, whatever it is divided by.
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    deviation[deviation == 0] = 1
    both = torch.from_numpy(np.stack([mean, deviation])[:, :, None, None].astype(np.float32))
    return both[0], both[1]


def mislabel(labels: Tensor, share: float, classes: int, seed: int) -> None:
    """Replace a share of the labels by another class each, in place."""
    if not share:  # labels of several classes have no other one
        return
    rng = np.random.default_rng(seed)
    wrong = torch.from_numpy(rng.permutation(len(labels))[: round(share * len(labels))])
    shift = torch.from_numpy(rng.integers(1, classes, size=len(wrong)))
    labels[wrong] = (labels[wrong] + shift) % classes
