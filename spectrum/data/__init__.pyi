from .augmentation import Augmentation
from .config import DATA_SETS, DataConfig
from .dataset import Dataset, Examples, Split
from .load import ceiling, load_data

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
