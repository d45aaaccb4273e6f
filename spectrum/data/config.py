"""The configuration of the data: which source, how it is split."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from spectrum.data.dataset import Dataset, split_images
from spectrum.data.digits import read_digits
from spectrum.data.planted import CLASSES, KINDS, Planting, matched_filter, plant

__all__ = ["DATA_SETS", "DataConfig", "ceiling", "load_data"]

DATA_SETS = ("digits", "planted")
_PLANTED = tuple(Planting.__dataclass_fields__)


def _known(name: str) -> str:
    if name not in DATA_SETS:
        raise ValueError(f"must be one of {', '.join(DATA_SETS)}")
    return name


class DataConfig(BaseModel):
    """A data set and its division, as a value.

    Attributes:
        name: the source: ``"digits"``, or ``"planted"``, generated images whose structure is known.
        validation: the share of the images that anything is chosen by.
        test: the share of the images for the final figure.
        split_seed: of the division; it is the same for every point and seed of a study.
        train_images: how many of the rest are trained on, each class in proportion; None for all.
        label_noise: the share of the training labels that are replaced by another class.
        rank: of planted templates, as matrices of channels x space; 1 where ``block`` isn't given.
        block: instead, channels that share a planted pattern, a multiple of 4.
        images: how many planted images there are.
        side: their height and width.
        channels: theirs; None for 8 with ``rank``, 16 with ``block``.
        template: height and width of the planted templates; None for 5 and 3.
        copies: of a template in an image (and block); None for 3 and 2.
        signal: norm of a template over the noise's standard deviation; None for 4 and 5.5.
        image_seed: of the planted images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, BeforeValidator(_known)] = "digits"
    validation: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    split_seed: int = Field(default=0, ge=0, lt=2**32)
    train_images: PositiveInt | None = None
    label_noise: float = Field(default=0.0, ge=0, lt=1)
    rank: PositiveInt | None = None
    block: PositiveInt | None = None
    images: int = Field(default=5000, ge=80, le=1_000_000)
    side: int = Field(default=12, ge=1, le=512)
    channels: int | None = Field(default=None, ge=1, le=4096)
    template: PositiveInt | None = None
    copies: int | None = Field(default=None, ge=1, le=1000)
    signal: float | None = Field(default=None, gt=0, le=1000)
    image_seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _leaves_training_images(self) -> Self:
        if self.validation + self.test > 0.95:
            raise ValueError(
                f"validation (={self.validation}) and test (={self.test}) must leave at least "
                "0.05 for training"
            )
        return self

    @model_validator(mode="after")
    def _fits_the_source(self) -> Self:
        if self.name != "planted":
            for field in _PLANTED:
                value = getattr(self, field)
                if value != type(self).model_fields[field].default:
                    raise ValueError(
                        f"{field} (={value}) must not be given for {self.name}, which isn't planted"
                    )
            return self
        if self.rank is not None and self.block is not None:
            raise ValueError(f"rank (={self.rank}) must not be given with block (={self.block})")
        for field, value in KINDS["rank" if self.block is None else "block"].items():
            if getattr(self, field) is None:
                object.__setattr__(self, field, value)
        _planting(self)
        return self


def _planting(config: DataConfig) -> Planting:
    return Planting(**config.model_dump(include=set(_PLANTED)))


def load_data(data: str | DataConfig = "digits") -> Dataset:
    """The images and labels of a data set, normalised and split.

    Args:
        data: a name, ``"digits"`` or ``"planted"``, or a configuration.

    Raises:
        ValueError: an unknown name, or splits too small for the classes.
    """
    if not isinstance(data, DataConfig) and data not in DATA_SETS:
        raise ValueError(f"data (={data!r}) must be one of {', '.join(DATA_SETS)}")
    config = data if isinstance(data, DataConfig) else DataConfig(name=data)
    if config.name == "planted":
        images, labels = plant(_planting(config))
        classes = tuple(map(str, range(CLASSES)))
    else:
        images, labels, classes = read_digits()
    return split_images(
        images,
        labels,
        classes,
        validation=config.validation,
        test=config.test,
        seed=config.split_seed,
        train_images=config.train_images,
        label_noise=config.label_noise,
    )


def ceiling(data: DataConfig) -> float:
    """The accuracy on planted images of a matched filter, which knows their templates.

    Args:
        data: planted images; all of them are classified, since nothing is fitted.

    Raises:
        ValueError: the data aren't planted.
    """
    if data.name != "planted":
        raise ValueError(f"data (={data.name}) must be planted, to have a known ceiling")
    planting = _planting(data)
    images, labels = plant(planting)
    return float((matched_filter(images, planting) == labels).mean())
