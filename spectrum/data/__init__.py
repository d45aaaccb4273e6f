"""Images and labels in fixed splits, one file a source."""

from spectrum.data.config import DATA_SETS, DataConfig, ceiling, load_data
from spectrum.data.dataset import Dataset, Split

__all__ = ["DATA_SETS", "DataConfig", "Dataset", "Split", "ceiling", "load_data"]
