"""Augmentation of images on their device, with parameters that are drawn by seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spectrum.data.augmentation import Augmentation


@dataclass(frozen=True)
class AugmentationParameters:
    """The random parameters of images, one row per image; None for what isn't varied.

    Attributes:
        offset: (N, 2), the first row and column of the window in the padded image.
        flipped: (N,) bool, whether the image is mirrored.
        hole: (N, 2), the row and column of the cutout square's centre.
    """

    offset: Tensor | None
    flipped: Tensor | None
    hole: Tensor | None

    def select(self, index: Tensor) -> AugmentationParameters:
        """The parameters of the images with these numbers."""

        def rows(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[index]

        return AugmentationParameters(rows(self.offset), rows(self.flipped), rows(self.hole))


def sample_parameters(
    augmentation: Augmentation, n: int, side: tuple[int, int], seed: int, device: torch.device
) -> AugmentationParameters:
    """Draw the augmentation parameters of ``n`` images.

    They are drawn on the CPU, so that they are the same for every device and number of processes.

    Args:
        augmentation: what is varied.
        n: the number of images.
        side: height and width of the images.
        seed: of the random numbers.
        device: where the parameters are put.
    """
    generator = torch.Generator().manual_seed(seed)

    def integers(*high: int) -> Tensor:
        columns = [torch.randint(h, (n,), generator=generator) for h in high]
        return torch.stack(columns, dim=1).to(device)

    offset = integers(*[2 * augmentation.crop + 1] * 2) if augmentation.crop else None
    flipped = integers(2)[:, 0].bool() if augmentation.flip else None
    hole = integers(*side) if augmentation.cutout else None
    return AugmentationParameters(offset, flipped, hole)


def augment(
    images: Tensor, augmentation: Augmentation, parameters: AugmentationParameters
) -> Tensor:
    """Vary images.

    Args:
        images: (N, C, H, W), normalised, so that 0 is the mean colour.
        augmentation: what is varied.
        parameters: those of these images.

    Returns:
        (N, C, H, W), on the same device.
    """
    _, _, height, width = images.shape
    if parameters.offset is not None:
        padded = F.pad(images, [augmentation.crop] * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, rows, columns, H, W)
        number = torch.arange(len(images), device=images.device)
        images = windows[number, :, parameters.offset[:, 0], parameters.offset[:, 1]]
    if parameters.flipped is not None:
        images = torch.where(parameters.flipped[:, None, None, None], images.flip(3), images)
    if parameters.hole is not None:
        images = images * ~_square_masks((height, width), parameters.hole, augmentation.cutout)
    return images


def _square_masks(shape: tuple[int, int], center: Tensor, side: int) -> Tensor:
    """Where squares lie in images of a shape, (N, 1, H, W) bool."""
    first = center - side // 2  # (N, 2)

    def within(length: int, start: Tensor) -> Tensor:
        places = torch.arange(length, device=center.device)
        return (places >= start[:, None]) & (places < start[:, None] + side)

    rows, columns = within(shape[0], first[:, 0]), within(shape[1], first[:, 1])
    return (rows[:, :, None] & columns[:, None, :])[:, None]
