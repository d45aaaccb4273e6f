"""The configuration of the data: which source, how it is split."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from spectrum.data.dataset import Dataset, split_images
from spectrum.data.digits import read_digits
from spectrum.data.planted import CLASSES, KINDS, Planting, matched_filter, plant

__all__ = ["DATA_SETS", "DataConfig", "ceiling", "load_data"]

DATA_SETS = ("digits", "planted")
_KINDS = ("folder", "parquet", "hub")
_KNOWN = (
    f"{', '.join(DATA_SETS)}, folder:PATH, parquet:PATH, hub:NAME[@CONFIG] or "
    "package.module:callable"
)
_PLANTED = tuple(Planting.__dataclass_fields__)
# Fields of some kinds of source alone; "planted" has those of what is planted.
_FILES = ("folder", "parquet", "hub", "code")
_ONLY_OF = {
    **{field: ("planted",) for field in _PLANTED},
    "channels": ("planted", *_FILES),
    **dict.fromkeys(("image_size", "bad_images", "loading", "class_weights", "map_at"), _FILES),
    **dict.fromkeys(("image_column", "label_column"), ("parquet", "hub")),
}


def _known(name: Any) -> Any:
    kind, _, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
    if name not in DATA_SETS and not (rest and (kind in _KINDS or _is_callable(name))):
        raise ValueError(f"must be one of {_KNOWN}")
    return name


def _is_callable(name: str) -> bool:
    """Whether a name has the form of a user's own source, ``package.module:callable``."""
    module, _, attribute = name.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    return module not in _KINDS and all(part.isidentifier() for part in parts)


class DataConfig(BaseModel):
    """A data set and its division, as a value.

    Attributes:
        name: the source: ``"digits"``; ``"planted"``, generated images whose structure is known;
            ``"folder:PATH"`` of class folders; ``"parquet:PATH"``; ``"hub:NAME[@CONFIG]"``, through
            Hugging Face's ``datasets``; or ``"package.module:callable"``, your own.
        validation: the share of the images that anything is chosen by.
        test: the share of the images for the final figure.
        split_seed: of the division; it is the same for every point and seed of a study.
        train_images: how many of the rest are trained on, each class in proportion; None for all.
        label_noise: the share of the training labels that are replaced by another class.
        rank: of planted templates, as matrices of channels x space; 1 where ``block`` isn't given.
        block: instead, channels that share a planted pattern, a multiple of 4.
        images: how many planted images there are.
        side: their height and width.
        channels: of planted images, None for 8 with ``rank`` and 16 with ``block``; of other
            images, 1 (grey) or 3 (RGB), None for what they have.
        template: height and width of the planted templates; None for 5 and 3.
        copies: of a template in an image (and block); None for 3 and 2.
        signal: norm of a template over the noise's standard deviation; None for 4 and 5.5.
        image_seed: of the planted images.
        image_size: height and width that images are brought to; None for their own, where all
            are alike.
        image_column: of a table; None for the one column of images.
        label_column: likewise, of labels.
        bad_images: ``"stop"`` or ``"skip"``: what to do about images that can't be read.
        loading: ``"memory"``: images are decoded once and live on the device; ``"stream"``: they
            are read and decoded anew in every epoch; ``"auto"``: by how much memory they need.
        class_weights: ``"equal"``, or ``"frequency"``, by how common a class is in the training
            split: in the mean average precision of images with several labels.
        map_at: how many predictions that precision looks at.
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
    image_size: int | None = Field(default=None, ge=1, le=4096)
    image_column: str | None = None
    label_column: str | None = None
    bad_images: Literal["stop", "skip"] = "stop"
    loading: Literal["auto", "memory", "stream"] = "auto"
    class_weights: Literal["equal", "frequency"] = "equal"
    map_at: PositiveInt = 100

    @property
    def kind(self) -> str:
        """Of the source: digits, planted, folder, parquet, hub or code."""
        kind, _, rest = self.name.partition(":")
        return kind if not rest or kind in _KINDS else "code"

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
        for field, kinds in _ONLY_OF.items():
            value = getattr(self, field)
            if self.kind not in kinds and value != type(self).model_fields[field].default:
                reason = "" if kinds != ("planted",) else ", which isn't planted"
                raise ValueError(f"{field} (={value}) must not be given for {self.name}{reason}")
        if self.kind != "planted":
            if self.kind in _FILES and self.channels not in (None, 1, 3):
                raise ValueError(f"channels (={self.channels}) must be 1 (grey) or 3 (RGB)")
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
        data: a name, as ``DataConfig`` takes it, or a configuration.

    Raises:
        ValueError: an unknown name, images or labels that aren't there or can't be read, or splits
            too small for the classes.
    """
    try:
        config = data if isinstance(data, DataConfig) else DataConfig(name=data)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        reason = found["msg"].removeprefix("Value error, ")
        raise ValueError(f"data (={data!r}) {reason}") from None
    if config.kind in _FILES:
        return _own(config)
    if config.kind == "planted":
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


def _own(config: DataConfig) -> Dataset:
    """A user's own images."""
    dataset = _read(config)
    for field in ("class_weights", "map_at"):
        value = getattr(config, field)
        if not dataset.is_multi_label and value != DataConfig.model_fields[field].default:
            raise ValueError(
                f"{field} (={value}) must not be given for {config.name}, whose images have one "
                "label each"
            )
    for purpose in ("train", "validation", "test"):
        labels = getattr(dataset, purpose).labels
        if dataset.is_multi_label and not labels.any():
            raise ValueError(f"data (={config.name}): no image of the {purpose} split has a label")
    return dataset


def _read(config: DataConfig) -> Dataset:
    # What reads them is imported here, so that others needn't wait for it.
    rest = config.name.partition(":")[2]
    if config.kind == "code":
        from spectrum.data.code import read_code

        return read_code(config.name, config)
    from spectrum.data.assemble import assemble

    if config.kind == "folder":
        from spectrum.data.folder import read_folder

        return assemble(read_folder(rest, config), config)
    from spectrum.data.records import read_hub, read_parquet

    read = read_hub if config.kind == "hub" else read_parquet
    return assemble(read(rest, config), config)


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
