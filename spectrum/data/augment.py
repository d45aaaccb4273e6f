"""Random variation of training images, drawn by seed and applied on the device they live on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["NONE", "Augmentation", "Draws", "augment", "draw"]


@dataclass(frozen=True)
class Augmentation:
    """What is varied at random in a training image.

    Attributes:
        crop: pixels of padding, of the mean colour, on every side; a window of the image's own
            size is cut out of that.
        flip: whether half of the images are mirrored left to right.
        cutout: side of a square of the mean colour at a random place, which may overhang
            (DeVries and Taylor, arXiv:1708.04552); 0 for none.
        area: the least share of an image's area that is cut out and resized; only images that
            stream have pixels to spare for that.
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0
    area: float = 1.0


NONE = Augmentation()


@dataclass(frozen=True)
class Draws:
    """What was drawn for the images of an epoch, a row each; what isn't varied is None.

    Attributes:
        shift: (N, 2), the window's first row and column in the padded image.
        mirrored: (N,) bool.
        hole: (N, 2), the row and column of a square's middle.
    """

    shift: Tensor | None
    mirrored: Tensor | None
    hole: Tensor | None

    def of(self, index: Tensor) -> Draws:
        """Those of some images."""

        def chosen(drawn: Tensor | None) -> Tensor | None:
            return None if drawn is None else drawn[index]

        return Draws(chosen(self.shift), chosen(self.mirrored), chosen(self.hole))


def draw(
    augmentation: Augmentation, n: int, side: tuple[int, int], seed: int, device: torch.device
) -> Draws:
    """Draw the variation of ``n`` images.

    It is drawn on the CPU, so that every device and every number of processes see the same.

    Args:
        augmentation: what is varied.
        n: how many images.
        side: their height and width.
        seed: of the draws.
        device: where they are applied.
    """
    generator = torch.Generator().manual_seed(seed)

    def numbers(*high: int) -> Tensor:
        drawn = [torch.randint(h, (n,), generator=generator) for h in high]
        return torch.stack(drawn, dim=1).to(device)

    shift = numbers(*[2 * augmentation.crop + 1] * 2) if augmentation.crop else None
    mirrored = numbers(2)[:, 0].bool() if augmentation.flip else None
    hole = numbers(*side) if augmentation.cutout else None
    return Draws(shift, mirrored, hole)


def augment(images: Tensor, augmentation: Augmentation, draws: Draws) -> Tensor:
    """Vary images.

    Args:
        images: (N, C, H, W), normalised, so that 0 is the mean colour.
        augmentation: what is varied.
        draws: what was drawn for these images.

    Returns:
        (N, C, H, W), on the same device.
    """
    _, _, height, width = images.shape
    if draws.shift is not None:
        padded = F.pad(images, [augmentation.crop] * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (N, C, places, places, H, W)
        number = torch.arange(len(images), device=images.device)
        images = windows[number, :, draws.shift[:, 0], draws.shift[:, 1]]
    if draws.mirrored is not None:
        images = torch.where(draws.mirrored[:, None, None, None], images.flip(3), images)
    if draws.hole is not None:
        images = images * ~_square((height, width), draws.hole, augmentation.cutout)
    return images


def _square(shape: tuple[int, int], middle: Tensor, side: int) -> Tensor:
    """Where squares lie in images of a shape, (N, 1, H, W)."""
    first = middle - side // 2  # (N, 2)

    def within(length: int, start: Tensor) -> Tensor:
        places = torch.arange(length, device=middle.device)
        return (places >= start[:, None]) & (places < start[:, None] + side)

    rows, columns = within(shape[0], first[:, 0]), within(shape[1], first[:, 1])
    return (rows[:, :, None] & columns[:, None, :])[:, None]
