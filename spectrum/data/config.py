"""The configuration of the data: which source, how it is split."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, model_validator

from spectrum.data.dataset import Dataset, split_images
from spectrum.data.digits import read_digits

__all__ = ["DATA_SETS", "DataConfig", "load_data"]

_READERS = {"digits": read_digits}
DATA_SETS: tuple[str, ...] = tuple(_READERS)


def _known(name: str) -> str:
    if name not in DATA_SETS:
        raise ValueError(f"must be one of {', '.join(DATA_SETS)}")
    return name


class DataConfig(BaseModel):
    """A data set and its division, as a value.

    Attributes:
        name: the source: ``"digits"``.
        validation: the share of the images that anything is chosen by.
        test: the share of the images for the final figure.
        split_seed: of the division; it is the same for every point and seed of a study.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, BeforeValidator(_known)] = "digits"
    validation: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    split_seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _leaves_training_images(self) -> Self:
        if self.validation + self.test > 0.95:
            raise ValueError(
                f"validation (={self.validation}) and test (={self.test}) must leave at least "
                "0.05 for training"
            )
        return self


def load_data(data: str | DataConfig = "digits") -> Dataset:
    """The images and labels of a data set, normalised and split.

    Args:
        data: a name, ``"digits"``, or a configuration.

    Raises:
        ValueError: an unknown name, or splits too small for the classes.
    """
    if not isinstance(data, DataConfig) and data not in DATA_SETS:
        raise ValueError(f"data (={data!r}) must be one of {', '.join(DATA_SETS)}")
    config = data if isinstance(data, DataConfig) else DataConfig(name=data)
    images, labels, classes = _READERS[config.name]()
    return split_images(
        images,
        labels,
        classes,
        validation=config.validation,
        test=config.test,
        seed=config.split_seed,
    )
