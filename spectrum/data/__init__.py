"""Images and labels in fixed splits, one file a source."""

from spectrum.data.augment import Augmentation
from spectrum.data.config import DATA_SETS, DataConfig, ceiling, load_data
from spectrum.data.dataset import Dataset, Examples, Split

__all__ = [
    "DATA_SETS",
    "Augmentation",
    "DataConfig",
    "Dataset",
    "Examples",
    "Split",
    "ceiling",
    "load_data",
]
