"""scikit-learn's digits: 1,797 handwritten digits of 8x8 pixels, which come with the library.

They are the test part of Alpaydin and Kaynak's Optical Recognition of Handwritten Digits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

__all__ = ["read_digits"]


def read_digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], tuple[str, ...]]:
    """Read the images (1797, 1, 8, 8) from 0 to 16, the labels (1797,) and the class names."""
    digits = load_digits()
    images = digits.images.astype(np.float32)[:, None]
    return images, digits.target.astype(np.int64), tuple(map(str, digits.target_names))
