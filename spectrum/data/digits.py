"""scikit-learn's digits: 1,797 handwritten digits of 8x8 pixels, which come with the library.

They are the test part of Alpaydin and Kaynak's Optical Recognition of Handwritten Digits.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from spectrum.data.config import DataConfig
from spectrum.data.source import Source, unassigned


def read_digits(_: DataConfig) -> Source:
    """Read the images (1797, 1, 8, 8), float32 from 0 to 16, and their labels."""
    found = find_spec("sklearn")
    assert found is not None
    assert found.origin is not None
    # sklearn.datasets.load_digits returns the same, but its import takes longer than all else.
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    table = np.loadtxt(path, delimiter=",", dtype=np.int64)
    return Source(
        images=table[:, :-1].reshape(-1, 1, 8, 8).astype(np.float32),
        targets=np.ascontiguousarray(table[:, -1]),
        classes=tuple(map(str, range(10))),
        splits=unassigned(len(table)),
    )
