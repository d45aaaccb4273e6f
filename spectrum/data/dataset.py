"""What every source of data becomes: three splits of images and labels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spectrum.data.augment import augment, sample_parameters
from spectrum.data.augmentation import NO_AUGMENTATION, Augmentation
from spectrum.data.source import UNASSIGNED
from spectrum.data.splitting import split_indices, split_notes

__all__ = [
    "Dataset",
    "Examples",
    "Split",
    "add_label_noise",
    "channel_statistics",
    "compute_class_weights",
    "dataset_from_arrays",
]

_CHUNK = 1000  # images that are summed up at a time


@dataclass(frozen=True)
class Split:
    """The examples of a split, in memory, on any device.

    Attributes:
        images: (N, C, H, W), float32 and normalised, or uint8 to be normalised in each batch.
        labels: (N,) int64, the class of each image; or (N, K) bool if images have several labels.
        mean: (C, 1, 1), the mean of the training split's pixels, in their own units; None for
            float32 images.
        std: (C, 1, 1), their standard deviation; None for float32 images.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor | None = None
    std: Tensor | None = None
    is_streamed: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, *, channels_last: bool | None = None) -> Split:
        """The examples on a device.

        Args:
            device: where to.
            channels_last: whether the images have the channels-last memory layout or the
                contiguous one; None to keep theirs.
        """
        layout = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last is None:
            layout = torch.preserve_format
        return Split(
            self.images.to(device, memory_format=layout),
            self.labels.to(device),
            None if self.mean is None else self.mean.to(device),
            None if self.std is None else self.std.to(device),
        )

    def batches(
        self,
        size: int,
        order: Tensor | None = None,
        augmentation: Augmentation = NO_AUGMENTATION,
        seed: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the examples in batches, on their device.

        How an example is varied follows from the seed and its own number, whatever the order.

        Args:
            size: images per batch; the last batch may be smaller.
            order: (n,) int64 on the CPU, the numbers of the examples; None for all in order.
            augmentation: how they are varied, if ``order`` is given.
            seed: of the augmentation.

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
        parameters = sample_parameters(augmentation, len(self), (height, width), seed, device)
        for index in order.to(device).split(size):
            images = self._normalised(self.images[index])
            yield augment(images, augmentation, parameters.select(index)), self.labels[index]

    def _normalised(self, images: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            return images
        return (images - self.mean) / self.std


@dataclass(frozen=True)
class Dataset:
    """Images and labels in three splits.

    Attributes:
        train: the examples that a network is trained on.
        validation: the examples by which everything is chosen.
        test: the examples for the final metrics, read once at the end of a run.
        classes: the names of the labels.
        shape: (C, H, W) of an image.
        fingerprint: a hash of the images and labels, before they are split.
        notes: what a user should know about how the data were found and split.
        class_weights: (K,), the weights of the classes in the mean average precision of images
            with several labels; None for equal weights.
        map_at: k, how many predictions per image the mean average precision (MAP@k) looks at.
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
        """Whether an image may have several labels."""
        return self.train.labels.ndim == 2


class Examples(Protocol):
    """The examples of a split, in memory (``Split``) or streamed (``StreamedSplit``).

    Attributes:
        is_streamed: whether images are read and decoded anew for every batch.
    """

    is_streamed: ClassVar[bool]

    @property
    def labels(self) -> Tensor:
        """The labels, (N,) int64 or (N, K) bool."""
        ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str, *, channels_last: bool | None = None) -> Examples:
        """The examples for a device; see ``Split.to``."""
        ...

    def batches(
        self,
        size: int,
        order: Tensor | None = None,
        augmentation: Augmentation = NO_AUGMENTATION,
        seed: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over normalised images and labels in batches; see ``Split.batches``."""
        ...


def compute_class_weights(labels: Tensor, by: str) -> Tensor | None:
    """Compute weights (K,) of the classes, whose mean is 1.

    Args:
        labels: of the training split, (N, K) bool if images have several labels.
        by: ``"equal"``, or ``"frequency"`` for weights in proportion to how common a class is.

    Returns:
        The weights; None if they are equal or images have one label each.
    """
    if by == "equal" or labels.ndim == 1:
        return None
    positives = labels.float().sum(dim=0)
    return positives / positives.mean()


def dataset_from_arrays(
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
    """Split images as ``split_indices`` does, and normalise them by the training split.

    Args:
        images: (N, C, H, W). float32 images are normalised here, by one mean and standard
            deviation of all channels; uint8 images in each batch, by those of each channel.
        labels: (N,), or (N, K) bool if images have several labels.
        classes: the names of the labels.
        validation: the share of the images for validation.
        test: the share of the images for testing.
        seed: of the split; it is independent of the seed of training.
        splits: (N,) the split of each image, as in ``Source``; None if all are unassigned.
        train_images: the number of training images, out of those that are left; None for all.
        label_noise: the share of the training labels that are replaced by another class.

    Raises:
        ValueError: a split would have fewer images than there are classes, a class has too few
            images to be split, there are fewer training images than are asked for, or label noise
            is asked for and images have several labels.
    """
    if label_noise and labels.ndim == 2:
        raise ValueError(f"label_noise (={label_noise}) must be 0 for images with several labels")
    given_splits = np.full(len(labels), UNASSIGNED, np.int8) if splits is None else splits
    fingerprint = hashlib.sha256()
    for array in (images, labels) if splits is None else (images, labels, splits):
        fingerprint.update(f"{array.dtype}{array.shape}".encode())
        fingerprint.update(np.ascontiguousarray(array).data.cast("B"))
    train_indices, validation_indices, test_indices = split_indices(
        labels,
        given_splits,
        classes=classes,
        validation=validation,
        test=test,
        seed=seed,
        train_images=train_images,
    )
    mean = std = None
    pixels: npt.NDArray[Any] = images
    if images.dtype == np.uint8:
        mean, std = channel_statistics(images, train_indices)
    else:
        pixels = (images - images[train_indices].mean()) / images[train_indices].std()
    values, targets = torch.from_numpy(pixels), torch.from_numpy(labels)

    def make_split(indices: npt.NDArray[np.int64]) -> Split:
        index = torch.from_numpy(indices)
        return Split(values[index], targets[index], mean, std)

    train = make_split(train_indices)
    add_label_noise(train.labels, label_noise, len(classes), seed)
    _, c, h, w = images.shape
    return Dataset(
        train=train,
        validation=make_split(validation_indices),
        test=make_split(test_indices),
        classes=tuple(classes),
        shape=(c, h, w),
        fingerprint=fingerprint.hexdigest()[:16],
        notes=split_notes(given_splits),
    )


def channel_statistics(
    images: npt.NDArray[Any], indices: npt.NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Compute the mean and standard deviation (C, 1, 1) of some images, from exact sums."""
    total = np.zeros((2, images.shape[1]), np.int64)
    for first in range(0, len(indices), _CHUNK):
        chunk = images[indices[first : first + _CHUNK]].astype(np.int64)
        total += chunk.sum(axis=(0, 2, 3)), (chunk**2).sum(axis=(0, 2, 3))
    mean, square = total / (len(indices) * images[0, 0].size)
    # A constant channel holds no information, so it may be divided by anything but 0.
    std = np.sqrt(np.maximum(square - mean**2, 0))
    std[std == 0] = 1
    both = torch.from_numpy(np.stack([mean, std])[:, :, None, None].astype(np.float32))
    return both[0], both[1]


def add_label_noise(labels: Tensor, share: float, classes: int, seed: int) -> None:
    """Replace a share of the labels (N,) by other classes, in place."""
    if not share:  # (N, K) labels can't have noise, so they come with a share of 0
        return
    rng = np.random.default_rng(seed)
    wrong = torch.from_numpy(rng.permutation(len(labels))[: round(share * len(labels))])
    shift = torch.from_numpy(rng.integers(1, classes, size=len(wrong)))
    labels[wrong] = (labels[wrong] + shift) % classes
