"""scikit-learn's digits: 1,797 handwritten digits of 8x8 pixels, which come with the library.

They are the test part of Alpaydin and Kaynak's Optical Recognition of Handwritten Digits.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from spectrum.data.config import DataConfig
from spectrum.data.source import Source, unassigned


def read_digits(_: DataConfig) -> Source:
    """Read the images (1797, 1, 8, 8), float32 from 0 to 16, and their labels."""
    digits = load_digits()
    return Source(
        images=digits.images.astype(np.float32)[:, None],
        targets=digits.target.astype(np.int64),
        classes=tuple(map(str, digits.target_names)),
        splits=unassigned(len(digits.target)),
    )
