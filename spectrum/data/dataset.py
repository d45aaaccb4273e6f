"""What every source of data gives: three splits of images and labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

__all__ = ["Dataset", "Split", "split_images"]


@dataclass(frozen=True)
class Split:
    """Examples that live in memory.

    Attributes:
        images: (N, C, H, W), float32, normalised by the training split's mean and deviation.
        labels: (N,), int64, the class of each image.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, *, channels_last: bool | None = None) -> Split:
        """The same examples on another device, in the memory layout asked for, if one is."""
        layout = torch.channels_last if channels_last else torch.contiguous_format
        if channels_last is None:
            layout = torch.preserve_format
        return Split(self.images.to(device, memory_format=layout), self.labels.to(device))


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
    """

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    fingerprint: str


def split_images(
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    *,
    validation: float,
    test: float,
    seed: int,
    train_images: int | None = None,
    label_noise: float = 0.0,
) -> Dataset:
    """Divide images at random, each class in proportion, and normalise them.

    Args:
        images: (N, C, H, W).
        labels: (N,).
        classes: the names of the labels.
        validation: the share of the images for validation.
        test: the share of the images for testing.
        seed: of the division, apart from any seed of training.
        train_images: how many of the rest are trained on; None for all.
        label_noise: the share of the training labels that are replaced by another class.

    Raises:
        ValueError: a split would hold fewer images than there are classes, or more training images
            are asked for than are left.
    """
    fingerprint = hashlib.sha256()
    for array in (images, labels):
        fingerprint.update(f"{array.dtype}{array.shape}".encode())
        fingerprint.update(np.ascontiguousarray(array).tobytes())

    everything = np.arange(len(labels))
    n_test, n_validation = round(test * len(labels)), round(validation * len(labels))
    for name, n, share in (("test", n_test, test), ("validation", n_validation, validation)):
        if n < len(classes):
            raise ValueError(
                f"{name} (={share}) must be at least {len(classes) / len(labels):.3g}, "
                f"one image of {len(labels)} for each of {len(classes)} classes"
            )
    rest, test_part = train_test_split(
        everything, test_size=n_test, stratify=labels, random_state=seed
    )
    train_part, validation_part = train_test_split(
        rest, test_size=n_validation, stratify=labels[rest], random_state=seed
    )
    if train_images is not None:
        train_part = _fewer(train_part, labels, train_images, len(classes), seed)
    mean, deviation = images[train_part].mean(), images[train_part].std()
    normalised = torch.from_numpy((images - mean) / deviation)
    targets = torch.from_numpy(labels)

    def part(indices: npt.NDArray[np.int64]) -> Split:
        chosen = torch.from_numpy(indices)
        return Split(normalised[chosen], targets[chosen])

    train = part(train_part)
    _mislabel(train.labels, label_noise, len(classes), seed)
    _, c, h, w = images.shape
    return Dataset(
        train=train,
        validation=part(validation_part),
        test=part(test_part),
        classes=tuple(classes),
        shape=(c, h, w),
        fingerprint=fingerprint.hexdigest()[:16],
    )


def _fewer(
    part: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], n: int, classes: int, seed: int
) -> npt.NDArray[np.int64]:
    """Some of the training images, each class in proportion."""
    if not classes <= n <= len(part):
        raise ValueError(
            f"train_images (={n}) must be in {classes}..{len(part)}, what the other splits leave"
        )
    if n > len(part) - classes:  # too few left over to take out in proportion
        return part[:n]
    kept, _ = train_test_split(part, train_size=n, stratify=labels[part], random_state=seed)
    return np.asarray(kept)


def _mislabel(labels: Tensor, share: float, classes: int, seed: int) -> None:
    """Replace a share of the labels by another class each, in place."""
    rng = np.random.default_rng(seed)
    wrong = torch.from_numpy(rng.permutation(len(labels))[: round(share * len(labels))])
    shift = torch.from_numpy(rng.integers(1, classes, size=len(wrong)))
    labels[wrong] = (labels[wrong] + shift) % classes
