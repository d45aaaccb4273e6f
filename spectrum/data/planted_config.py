"""The configuration of planted images: what is planted, and into how many images of which size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["NUM_CLASSES", "NUM_QUARTERS", "PLANTED_DEFAULTS", "PlantedConfig"]

NUM_CLASSES = 8
NUM_QUARTERS = 4
PLANTED_DEFAULTS: dict[str, dict[str, Any]] = {
    "rank": {"rank": 1, "channels": 8, "template": 5, "copies": 3, "signal": 4.0},
    "block": {"channels": 16, "template": 3, "copies": 2, "signal": 5.5},
}
"""The defaults of each kind of planted images."""

_MAX_PIXELS = 200_000_000  # values in all channels of all images: 1.6 GB while they are drawn


@dataclass(frozen=True)
class PlantedConfig:
    """What is planted, and into which images; see ``planted.py``.

    Attributes:
        rank: the rank of a class's template as a matrix of channels x space; None for kind block.
        block: the number of channels that share a pattern; None for kind rank.
        images: the number of images.
        side: the height and width of an image, in pixels.
        channels: the number of channels of an image.
        template: the height and width of a template, in pixels.
        copies: the number of copies of each template in an image (or of each block's template),
            each at a random place and, for kind block, with a random sign.
        signal: the norm of a copy over the standard deviation of the noise.
        image_seed: the seed of all random numbers.
    """

    rank: int | None
    block: int | None
    images: int
    side: int
    channels: int
    template: int
    copies: int
    signal: float
    image_seed: int

    def __post_init__(self) -> None:
        """Raise a ValueError if the fields don't fit each other."""
        pixels = self.images * self.channels * self.side**2
        if pixels > _MAX_PIXELS:
            raise ValueError(
                f"images (={self.images}) of {self.channels} channels and {self.side}x{self.side} "
                f"pixels must be at most {_MAX_PIXELS // (self.channels * self.side**2)}, to be "
                "held in memory"
            )
        if self.template > self.side:
            raise ValueError(
                f"template (={self.template}) must be in 1..{self.side}, an image's side"
            )
        max_rank = min(self.channels, self.template**2)
        if self.rank is not None and not 1 <= self.rank <= max_rank:
            raise ValueError(
                f"rank (={self.rank}) must be in 1..{max_rank}, for {self.channels} channels of "
                f"{self.template}x{self.template}"
            )
        if self.block is not None and (self.block % NUM_QUARTERS or self.channels % self.block):
            raise ValueError(
                f"block (={self.block}) must be a multiple of {NUM_QUARTERS} that divides the "
                f"{self.channels} channels"
            )
