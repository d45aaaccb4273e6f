"""The configuration of augmentation: how training images are varied at random."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """How a training image is varied at random.

    Attributes:
        crop: pixels of padding, in the mean colour, on every side; a window of the image's own
            size is cut out of the padded image.
        flip: whether half of the images are mirrored left to right.
        cutout: side of a square of the mean colour at a random place, which may overlap the
            image's edge (DeVries and Taylor, arXiv:1708.04552); 0 for none.
        crop_area: the smallest share of an image's area that is cut out and resized; 1 for no
            such crop. Only streamed images are cropped so, because only they have more pixels
            than are needed.
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0
    crop_area: float = 1.0


NO_AUGMENTATION = Augmentation()
