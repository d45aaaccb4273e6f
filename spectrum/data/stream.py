"""Examples that are read and decoded anew whenever they are asked for, by worker processes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spectrum.data.augment import NONE, Augmentation, augment, draw
from spectrum.data.images import EVALUATED, centred, decode, random_crop, to_array
from spectrum.data.processes import processors
from spectrum.data.scan import reason_of
from spectrum.data.source import Reader

__all__ = ["Stream"]

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Stream:
    """Examples whose images stay encoded.

    Attributes:
        reader: of the images.
        numbers: (N,) the number of each example's image in the reader.
        labels: (N,) int64, or (N, K) bool; where they are, the batches will be.
        size: height and width of the images that are given.
        mean: (C, 1, 1), of the training split, in the pixels' own units.
        deviation: likewise, the standard deviation.
        loaders: how many worker processes decode; 0 for none, which is this process; None for one
            where a CPU trains, which has work of its own, and for the cores of each GPU here.
        channels_last: the memory layout of the batches; None for the one that is at hand.
    """

    reader: Reader
    numbers: Numbers
    labels: Tensor
    size: int
    mean: Tensor
    deviation: Tensor
    loaders: int | None = None
    channels_last: bool | None = None
    streams: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, *, channels_last: bool | None = None) -> Stream:
        """The same examples for another device, in the memory layout asked for, if one is."""
        return replace(
            self,
            labels=self.labels.to(device),
            mean=self.mean.to(device),
            deviation=self.deviation.to(device),
            channels_last=self.channels_last if channels_last is None else channels_last,
        )

    def batches(
        self,
        size: int,
        order: Tensor | None = None,
        augmentation: Augmentation = NONE,
        seed: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The examples in batches, on the device that their labels are on.

        What an example is varied by follows from the seed and its own number, whatever the order
        and the number of workers.

        Args:
            size: of a batch; the last may be smaller.
            order: (n,) int64 on the CPU, the examples wanted; None for all, as they stand.
            augmentation: how they are varied, where an order is given; without an ``area`` to
                cut out, the middle is taken.
            seed: of the variation.

        Yields:
            Normalised images (n, C, H, W), float32, and their labels.

        Raises:
            OSError: an image can't be read; the message names it.
        """
        device = self.labels.device
        varied = NONE if order is None else augmentation
        wanted = np.arange(len(self)) if order is None else order.numpy()
        batches = [wanted[i : i + size] for i in range(0, len(wanted), size)]
        draws = draw(varied, len(self), (self.size, self.size), seed, device)
        mirrored = np.zeros(len(self), bool)
        if draws.mirrored is not None and draws.shift is None:
            # Bytes that are copied anyway are mirrored for nothing; with a window it's cut first.
            mirrored, draws = draws.mirrored.cpu().numpy(), replace(draws, mirrored=None)
        loader = DataLoader(
            _Decoding(self.reader, self.numbers, self.size, len(self.mean), varied.area, seed),
            batch_size=None,  # a batch is made by one worker, in one piece of memory
            sampler=[(chosen, mirrored[chosen]) for chosen in batches],
            # Each limits itself to one thread.
            num_workers=_cores_for(device) if self.loaders is None else self.loaders,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # the global one is the training's
        )
        for chosen, images in zip(batches, loader, strict=True):
            if isinstance(images, str):
                raise OSError(images)
            index = torch.from_numpy(chosen).to(device)
            # Bytes travel; numbers four times as large are made where they are used.
            pixels = images.to(device, non_blocking=True).float()
            pixels.sub_(self.mean).div_(self.deviation)
            yield self._laid_out(augment(pixels, varied, draws.of(index))), self.labels[index]

    def _laid_out(self, images: Tensor) -> Tensor:
        if self.channels_last is None:
            return images
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=layout)


def _cores_for(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return max(processors() // max(torch.cuda.device_count(), 1), 1)


@dataclass(frozen=True)
class _Decoding(Dataset[Tensor | str]):
    """Batches of decoded images, (n, C, H, W); or else what is wrong with one of them."""

    reader: Reader
    numbers: Numbers
    size: int
    channels: int
    area: float
    seed: int

    def __getitem__(self, wanted: tuple[Numbers, npt.NDArray[np.bool_]]) -> Tensor | str:
        """Some examples, and which of them are mirrored."""
        batch = np.empty((len(wanted[0]), self.channels, self.size, self.size), np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of odd files that it reads all the same
            for pixels, example, mirrored in zip(batch, *wanted, strict=True):
                number = int(self.numbers[example])
                try:
                    found = to_array(self._decoded(number, int(example)))
                # An exception would come with another's traceback in its text.
                except Exception as error:
                    return f"{self.reader.name(number)} can't be read ({reason_of(error)})"
                pixels[:] = found[:, :, ::-1] if mirrored else found
        return torch.from_numpy(batch)

    def _decoded(self, number: int, example: int) -> Image.Image:
        with self.reader.open(number) as image:
            if self.area < 1:
                rng = np.random.default_rng([self.seed, example])
                return random_crop(image, self.size, self.channels, self.area, rng)
            return centred(decode(image, self.channels), self.size, EVALUATED)
