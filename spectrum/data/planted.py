"""Generated images whose structure is known: which point of the dial suits them follows from it.

Copies of templates lie at random places in white noise of variance 1. What a class is decides what
a convolution needs to see at once. There are two kinds.

**Rank.** Each class has a template of ``channels x size x size``, a random matrix of channels x
space of a chosen rank. At rank 1 it is one pattern of channels times one pattern of space: the
correlations across channels and across space separate exactly, which is what Xception supposes of
its features (arXiv:1610.02357, section 1.1). At full rank they don't separate at all.

**Block.** The channels form blocks, and each block has copies of one spatial pattern of its own
place and random sign. The class, one of eight, is in the signs of a block's four quarters relative
to each other, the same in every block; a channel alone says nothing. So a network whose channels
never meet before its classifier, which is linear in pooled features, gives logits that are sums of
what each segment sees. Where a segment sees no more than a quarter of a block, turning that
quarter's sign changes the class and not the distribution of what any one segment sees; averaging
over the turn lowers a convex loss, so at the minimum of the cross-entropy all classes have one
logit, and the accuracy is 1/8. Halves tell two of the three bits, 1/2; whole blocks all, 1. (Other
losses could do better: thresholds on a sum of two halves get the third bit right three times in
four.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import logsumexp

__all__ = ["CLASSES", "KINDS", "Planting", "matched_filter", "plant", "templates"]

CLASSES = 8
KINDS: dict[str, dict[str, Any]] = {
    "rank": {"rank": 1, "channels": 8, "template": 5, "copies": 3, "signal": 4.0},
    "block": {"channels": 16, "template": 3, "copies": 2, "signal": 5.5},
}
"""What each kind has where nothing else is said."""

_QUARTERS = 4
_MOST = 200_000_000  # numbers in all images, 1.6 GB while they are drawn
_AT_ONCE = 500  # images that the matched filter looks at

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Planting:
    """What is planted, and in what.

    Attributes:
        rank: of a class's template as a matrix of channels x space; None where blocks are planted.
        block: channels that share a pattern; None where ranks are planted.
        images: how many.
        side: height and width of an image, in pixels.
        channels: of an image.
        template: height and width of a template.
        copies: of each template in an image, each at a place (and with a sign) of its own.
        signal: norm of a copy over the standard deviation of the noise.
        image_seed: what all is drawn from.
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
        """Raise a ValueError for what can't be planted."""
        numbers = self.images * self.channels * self.side**2
        if numbers > _MOST:
            raise ValueError(
                f"images (={self.images}) of {self.channels} channels and {self.side}x{self.side} "
                f"pixels must be at most {_MOST // (self.channels * self.side**2)}, to be held "
                "in memory"
            )
        if self.template > self.side:
            raise ValueError(
                f"template (={self.template}) must be in 1..{self.side}, an image's side"
            )
        most = min(self.channels, self.template**2)
        if self.rank is not None and not 1 <= self.rank <= most:
            raise ValueError(
                f"rank (={self.rank}) must be in 1..{most}, for {self.channels} channels of "
                f"{self.template}x{self.template}"
            )
        if self.block is not None and (self.block % _QUARTERS or self.channels % self.block):
            raise ValueError(
                f"block (={self.block}) must be a multiple of {_QUARTERS} that divides the "
                f"{self.channels} channels"
            )


def templates(planting: Planting) -> Floats:
    """What is added to the images: (8, blocks, signs, channels, size, size), each of norm 1.

    With ``rank`` there is one block, of all channels, and one sign.
    """
    return _templates(planting, np.random.default_rng(planting.image_seed))


def _templates(planting: Planting, rng: np.random.Generator) -> Floats:
    channels, size = planting.channels, planting.template
    if planting.block is None:
        across = rng.standard_normal((CLASSES, channels, planting.rank or 1))
        space = rng.standard_normal((CLASSES, planting.rank or 1, size * size))
        found = (across @ space).reshape(CLASSES, 1, 1, channels, size, size)
    else:
        pattern = rng.standard_normal((size, size))
        bits = (np.arange(CLASSES)[:, None] >> np.arange(_QUARTERS - 1)) & 1
        quarters = np.hstack([np.ones((CLASSES, 1)), 1 - 2 * bits])  # (8, 4), the first is fixed
        signs = np.repeat(quarters, planting.block // _QUARTERS, axis=1)  # (8, block)
        blocks = channels // planting.block
        found = np.zeros((CLASSES, blocks, 2, channels, size, size))
        for i in range(blocks):
            own = slice(i * planting.block, (i + 1) * planting.block)
            found[:, i, 0, own] = signs[:, :, None, None] * pattern
            found[:, i, 1, own] = -found[:, i, 0, own]
    return np.asarray(found / np.sqrt((found**2).sum(axis=(-3, -2, -1), keepdims=True)))


def plant(planting: Planting) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Noise with copies of the templates of each image's class.

    Returns:
        Images (N, channels, side, side) and their classes (N,), as many of each but for one.
    """
    rng = np.random.default_rng(planting.image_seed)
    added = planting.signal * _templates(planting, rng)
    _, blocks, signs, channels, size, _ = added.shape
    n, side = planting.images, planting.side
    labels = rng.permutation(np.arange(n) % CLASSES)
    noisy = rng.standard_normal((n, channels, side, side))
    windows = sliding_window_view(noisy, (size, size), axis=(2, 3), writeable=True)
    for i in range(blocks):
        for _ in range(planting.copies):
            y, x = rng.integers(side - size + 1, size=(2, n))
            sign = rng.integers(signs, size=n)
            windows[np.arange(n), :, y, x] += added[labels, i, sign]  # a place an image
    return noisy.astype(np.float32), labels.astype(np.int64)


def matched_filter(images: npt.NDArray[np.float32], planting: Planting) -> npt.NDArray[np.int64]:
    """The classes (N,) that one who knows the templates answers.

    The likelihood of each class over all places and signs, of copies that don't overlap: a
    ceiling for any network, but for the overlaps that it doesn't know of.

    Args:
        images: (N, channels, side, side), as ``plant`` gives them, not normalised.
        planting: what is in them.
    """
    added = planting.signal * templates(planting)
    windows = sliding_window_view(images, added.shape[-2:], axis=(2, 3))  # (N, C, h, w, size, size)
    scores = np.zeros((len(images), CLASSES))
    for first in range(0, len(images), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        for i in range(added.shape[1]):
            found = np.tensordot(windows[some], added[:, i], axes=([1, 4, 5], [2, 3, 4]))
            # (n, h, w, 8, signs) to the likelihood of a copy at any place and sign
            scores[some] += planting.copies * logsumexp(found, axis=(1, 2, 4))
    return np.asarray(scores.argmax(axis=1))
