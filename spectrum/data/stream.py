"""Examples that worker processes read and decode anew for every batch."""

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

from spectrum.data.augment import augment, sample_parameters
from spectrum.data.augmentation import NO_AUGMENTATION, Augmentation
from spectrum.data.dataset import LAYOUTS
from spectrum.data.images import (
    EVALUATION_CROP,
    decode,
    open_image,
    random_resized_crop,
    resize_and_center_crop,
    to_array,
)
from spectrum.data.scan import unreadable
from spectrum.data.source import Numbers, Reader
from spectrum.machine import cpu_count


@dataclass(frozen=True)
class StreamedSplit:
    """The examples of a split whose images stay encoded until a batch needs them.

    Attributes:
        reader: reads the images.
        numbers: (N,) the number of each example's image in the reader.
        labels: (N,) int64, or (N, K) bool. The batches are put on the labels' device.
        size: height and width of the images in a batch.
        mean: (C, 1, 1), the mean of the training split's pixels, in their own units.
        std: (C, 1, 1), their standard deviation.
        num_workers: how many worker processes decode; 0 to decode in this process. None for one
            if the CPU trains, which leaves it the other cores, and for each GPU its share of the
            cores.
        channels_last: whether the batches have the channels-last memory layout or the contiguous
            one; None for either.
    """

    reader: Reader
    numbers: Numbers
    labels: Tensor
    size: int
    mean: Tensor
    std: Tensor
    num_workers: int | None = None
    channels_last: bool | None = None
    is_streamed: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, *, channels_last: bool | None = None) -> StreamedSplit:
        """The examples for a device.

        Args:
            device: where the batches are put.
            channels_last: the memory layout of the batches; None to keep the setting.
        """
        return replace(
            self,
            labels=self.labels.to(device),
            mean=self.mean.to(device),
            std=self.std.to(device),
            channels_last=self.channels_last if channels_last is None else channels_last,
        )

    def batches(
        self,
        size: int,
        order: Tensor | None = None,
        augmentation: Augmentation = NO_AUGMENTATION,
        seed: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the examples in batches, on the device of their labels.

        How an example is varied follows from the seed and its own number, whatever the order and
        the number of workers.

        Args:
            size: images per batch; the last batch may be smaller.
            order: (n,) int64 on the CPU, the numbers of the examples; None for all in order.
            augmentation: how they are varied, if ``order`` is given. If its ``crop_area`` is 1,
                images are cropped to the centre.
            seed: of the augmentation.

        Yields:
            Normalised images (n, C, H, W), float32, and their labels.

        Raises:
            OSError: an image can't be read; the message names it.
        """
        device = self.labels.device
        augmentation = NO_AUGMENTATION if order is None else augmentation
        numbers = np.arange(len(self)) if order is None else order.numpy()
        batches = [numbers[i : i + size] for i in range(0, len(numbers), size)]
        shape = (self.size, self.size)
        parameters = sample_parameters(augmentation, len(self), shape, seed, device)
        flipped = np.zeros(len(self), bool)
        if parameters.flipped is not None and parameters.offset is None:
            # The workers copy the pixels anyway, so mirroring costs nothing there. If a window is
            # cut out, which happens on the device, mirroring must wait for it.
            flipped = parameters.flipped.cpu().numpy()
            parameters = replace(parameters, flipped=None)
        decoder = _BatchDecoder(
            self.reader, self.numbers, self.size, len(self.mean), augmentation.crop_area, seed
        )
        loader = DataLoader(
            decoder,
            batch_size=None,  # one worker makes a whole batch, in one block of memory
            sampler=[(batch, flipped[batch]) for batch in batches],
            # Each worker limits itself to one thread.
            num_workers=_default_workers(device) if self.num_workers is None else self.num_workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # training uses the global generator
        )
        for batch, images in zip(batches, loader, strict=True):
            if isinstance(images, OSError):
                raise images
            index = torch.from_numpy(batch).to(device)
            # Bytes are sent to the device; the floats, four times as large, are made there.
            pixels = images.to(device, non_blocking=True).float()
            pixels.sub_(self.mean).div_(self.std)
            varied = augment(pixels, augmentation, parameters.select(index))
            yield varied.to(memory_format=LAYOUTS[self.channels_last]), self.labels[index]


def _default_workers(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return max(cpu_count() // max(torch.cuda.device_count(), 1), 1)


@dataclass(frozen=True)
class _BatchDecoder(Dataset[Tensor | OSError]):
    """Decodes batches of images (n, C, H, W), or returns why an image can't be read."""

    reader: Reader
    numbers: Numbers
    size: int
    channels: int
    crop_area: float
    seed: int

    def __getitem__(self, batch: tuple[Numbers, npt.NDArray[np.bool_]]) -> Tensor | OSError:
        """Decode the images of some examples, given with whether each of them is mirrored."""
        images = np.empty((len(batch[0]), self.channels, self.size, self.size), np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd files that it can read
            for pixels, example, flipped in zip(images, *batch, strict=True):
                number = int(self.numbers[example])
                try:
                    decoded = to_array(self._decode(number, int(example)))
                # The DataLoader would put a traceback into the text of an exception.
                except Exception as error:
                    return unreadable(self.reader, number, error)
                pixels[:] = decoded[:, :, ::-1] if flipped else decoded
        return torch.from_numpy(images)

    def _decode(self, number: int, example: int) -> Image.Image:
        with open_image(self.reader.read(number)) as image:
            if self.crop_area < 1:
                rng = np.random.default_rng([self.seed, example])
                return random_resized_crop(image, self.size, self.channels, self.crop_area, rng)
            return resize_and_center_crop(decode(image, self.channels), self.size, EVALUATION_CROP)
