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
    rows = torch.arange(height, device=images.device).expand(len(images), -1)  # (N, H)
    columns = torch.arange(width, device=images.device).expand(len(images), -1)  # (N, W)
    if draws.shift is not None or draws.mirrored is not None:
        images = _cut_out(images, rows, columns, augmentation.crop, draws)
    if draws.hole is not None:
        images = images.masked_fill(_square(rows, columns, draws.hole, augmentation.cutout), 0)
    return images


def _cut_out(images: Tensor, rows: Tensor, columns: Tensor, crop: int, draws: Draws) -> Tensor:
    """A window of each image, mirrored where that was drawn; its channels are last in memory."""
    n, c, height, width = images.shape
    if draws.mirrored is not None:
        columns = torch.where(draws.mirrored[:, None], columns.flip(1), columns)
    if draws.shift is not None:
        images = F.pad(images, [crop] * 4)
        rows, columns = rows + draws.shift[:, :1], columns + draws.shift[:, 1:]
    high, wide = images.shape[2:]
    first = torch.arange(n, device=images.device)[:, None] * high
    # One index of whole pixels is gathered twice as fast as three, of image, row and column.
    places = ((first + rows) * wide)[:, :, None] + columns[:, None, :]  # (N, H, W)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, c).index_select(0, places.flatten())
    return pixels.view(n, height, width, c).permute(0, 3, 1, 2)  # (N, C, H, W)


def _square(rows: Tensor, columns: Tensor, middle: Tensor, side: int) -> Tensor:
    """Where squares lie, (N, 1, H, W)."""
    first = middle - side // 2

    def within(places: Tensor, start: Tensor) -> Tensor:
        return (places >= start) & (places < start + side)

    inside = within(rows, first[:, :1])[:, :, None] & within(columns, first[:, 1:])[:, None, :]
    return inside[:, None]
