"""Planted images: generated, with a structure that decides which number of segments suits them.

Copies of templates are put at random places into white noise of variance 1. The class decides the
templates, and so what a convolution has to see at once. There are two kinds.

**Rank.** Each class has a template of ``channels x size x size``: a random matrix of channels x
space with a chosen rank. At rank 1 it is one pattern over channels times one pattern over space.
The correlations across channels and across space then separate exactly, which is what Xception
assumes about its features (arXiv:1610.02357, section 1.1). At full rank they don't separate at all.

**Block.** The channels form blocks. Each block has copies of one spatial pattern, at places and
with signs of its own. The class, one of eight, is in the signs of a block's four quarters relative
to each other, the same in every block. A single channel says nothing about the class.

For kind block the best accuracy of a network whose channels never meet before its classifier is
known. The classifier is linear in pooled features, so the logits are sums of what each segment
sees. If a segment sees no more than a quarter of a block, flipping the sign of that quarter
changes the class, and doesn't change the distribution of what any one segment sees. Averaging over
both signs lowers a convex loss, so at the minimum of the cross-entropy all classes have the same
logit, and the accuracy is 1/8. Halves of blocks tell two of the three bits, which gives 1/2; whole
blocks tell all, which gives 1. (Other losses could do better: thresholds on a sum of two halves get
the third bit right three times in four.)
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import logsumexp

from spectrum.data.config import NUM_QUARTERS, DataConfig
from spectrum.data.source import Source, unassigned

NUM_CLASSES = 8

T = TypeVar("T")

_CHUNK = 500  # images that the matched filter classifies at a time

Floats = npt.NDArray[np.float64]


def read_planted(config: DataConfig) -> Source:
    """Generate the images of a configuration, as a source."""
    images, labels = generate_planted(config)
    classes = tuple(map(str, range(NUM_CLASSES)))
    return Source(images, labels, classes, unassigned(len(labels)))


def templates(config: DataConfig, rng: np.random.Generator | None = None) -> Floats:
    """The templates, (8, blocks, signs, channels, size, size), each of norm 1.

    Kind rank has one block, of all channels, and one sign. They are what is drawn first from the
    random numbers of the images.
    """
    rng = rng or np.random.default_rng(config.image_seed)
    channels, size = _filled_in(config.channels), _filled_in(config.template)
    if config.block is None:
        across = rng.standard_normal((NUM_CLASSES, channels, config.rank or 1))
        space = rng.standard_normal((NUM_CLASSES, config.rank or 1, size * size))
        found = (across @ space).reshape(NUM_CLASSES, 1, 1, channels, size, size)
    else:
        pattern = rng.standard_normal((size, size))
        bits = (np.arange(NUM_CLASSES)[:, None] >> np.arange(NUM_QUARTERS - 1)) & 1
        # (8, 4): the first quarter's sign is fixed, because only relative signs matter.
        quarters = np.hstack([np.ones((NUM_CLASSES, 1)), 1 - 2 * bits])
        signs = np.repeat(quarters, config.block // NUM_QUARTERS, axis=1)  # (8, block)
        blocks = channels // config.block
        found = np.zeros((NUM_CLASSES, blocks, 2, channels, size, size))
        for i in range(blocks):
            own = slice(i * config.block, (i + 1) * config.block)
            found[:, i, 0, own] = signs[:, :, None, None] * pattern
            found[:, i, 1, own] = -found[:, i, 0, own]
    return np.asarray(found / np.sqrt((found**2).sum(axis=(-3, -2, -1), keepdims=True)))


def generate_planted(
    config: DataConfig,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Generate noise with copies of the templates of each image's class.

    Returns:
        Images (N, channels, side, side), and their classes (N,), whose counts differ by at most 1.
    """
    rng = np.random.default_rng(config.image_seed)
    added = _filled_in(config.signal) * templates(config, rng)
    _, blocks, signs, channels, size, _ = added.shape
    n, side = config.images, config.side
    labels = rng.permutation(np.arange(n) % NUM_CLASSES)
    images = rng.standard_normal((n, channels, side, side))
    windows = sliding_window_view(images, (size, size), axis=(2, 3), writeable=True)
    for i in range(blocks):
        for _ in range(_filled_in(config.copies)):
            y, x = rng.integers(side - size + 1, size=(2, n))
            sign = rng.integers(signs, size=n)
            windows[np.arange(n), :, y, x] += added[labels, i, sign]  # one place per image
    return images.astype(np.float32), labels.astype(np.int64)


def _filled_in(value: T | None) -> T:
    """The value of a field that has one in every configuration of planted images."""
    assert value is not None
    return value


def matched_filter(images: npt.NDArray[np.float32], config: DataConfig) -> npt.NDArray[np.int64]:
    """The most likely classes (N,), given the templates.

    The likelihood of a class is taken over all places and signs of copies that don't overlap. Its
    accuracy is a ceiling for any network, except that it doesn't model overlapping copies.

    Args:
        images: (N, channels, side, side), as ``generate_planted`` returns them, not normalised.
        config: what is in them.
    """
    added = _filled_in(config.signal) * templates(config)
    windows = sliding_window_view(images, added.shape[-2:], axis=(2, 3))  # (N, C, h, w, size, size)
    scores = np.zeros((len(images), NUM_CLASSES))
    for first in range(0, len(images), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        for i in range(added.shape[1]):
            # (n, h, w, 8, signs), then summed to the likelihood of a copy at any place and sign
            products = np.tensordot(windows[chunk], added[:, i], axes=([1, 4, 5], [2, 3, 4]))
            scores[chunk] += _filled_in(config.copies) * logsumexp(products, axis=(1, 2, 4))
    return np.asarray(scores.argmax(axis=1))
