"""What every source of data becomes: three splits of images and labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from spectrum.data.augment import augment, sample_parameters
from spectrum.data.augmentation import NO_AUGMENTATION, Augmentation
from spectrum.data.source import listed

LAYOUTS = {
    None: torch.preserve_format,
    False: torch.contiguous_format,
    True: torch.channels_last,
}
"""The memory layout of images by ``channels_last``."""


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
        return Split(
            self.images.to(device, memory_format=LAYOUTS[channels_last]),
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


@dataclass(frozen=True, repr=False)
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
        drawn_from: with ``resplit``, how many images training and validation are drawn from; else
            None.
        name: what it was loaded by; empty if a user's code made it.
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
    drawn_from: int | None = None
    name: str = ""

    @property
    def is_multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.train.labels.ndim == 2

    def __repr__(self) -> str:
        """The name, the classes, the shape and the sizes of the splits, in two lines."""
        sizes = ", ".join(f"{len(split)} {name}" for name, split in self._splits().items())
        return (
            f"Dataset({self.name!r}, images of {'x'.join(map(str, self.shape))}: {sizes};\n"
            f"        {len(self.classes)} classes: {listed(self.classes, 8)})"
        )

    def _repr_html_(self) -> str:
        """The same with a table of the splits, for notebooks."""
        import pandas as pd  # training doesn't need it

        rows = []
        for name, split in self._splits().items():
            labels = split.labels.cpu()
            if self.is_multi_label:
                counts = labels.sum(dim=0)
            else:
                counts = labels.bincount(minlength=len(self.classes))
            rows.append((name, len(split), int(counts.min()), int(counts.max())))
        columns = ["split", "images", "fewest of a class", "most of a class"]
        table = pd.DataFrame(rows, columns=columns).to_html(index=False)
        return f"<pre>{escape(repr(self))}</pre>{table}"

    def _splits(self) -> dict[str, Examples]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


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
