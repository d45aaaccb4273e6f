"""The configuration of the data: which source it comes from, and how it is split."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from spectrum.data.planted_config import PLANTED_DEFAULTS, PlantedConfig
from spectrum.user_code import is_callable_name

__all__ = ["DATA_SETS", "USER_KINDS", "DataConfig"]

DATA_SETS = ("digits", "planted")
USER_KINDS = ("folder", "parquet", "hub", "code")
"""The kinds of source that a user's own images come from."""

_PREFIXES = ("folder", "parquet", "hub")
_ALLOWED_NAMES = (
    f"{', '.join(DATA_SETS)}, folder:PATH, parquet:PATH, hub:NAME[@CONFIG] or "
    "package.module:callable"
)
_PLANTED_FIELDS = tuple(PlantedConfig.__dataclass_fields__)
# The kinds of source that a field is for; all other fields are for every kind.
_KINDS_OF_FIELD = {
    **{field: ("planted",) for field in _PLANTED_FIELDS},
    "channels": ("planted", *USER_KINDS),
    **dict.fromkeys(("image_size", "bad_images", "loading", "class_weights", "map_at"), USER_KINDS),
    **dict.fromkeys(("image_column", "label_column"), ("parquet", "hub")),
}


def _check_name(name: Any) -> Any:
    prefix, _, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
    if name not in DATA_SETS and not (rest and (prefix in _PREFIXES or is_callable_name(name))):
        raise ValueError(f"must be one of {_ALLOWED_NAMES}")
    return name


class DataConfig(BaseModel):
    """A data set, and how it is split into training, validation and test.

    Fields that aren't for the chosen source must not be given.

    Attributes:
        name: the source. ``"digits"``: scikit-learn's handwritten digits. ``"planted"``: generated
            images with a known structure. ``"folder:PATH"``: a folder with a folder of images for
            each class. ``"parquet:PATH"``: a Parquet file, or a folder of them.
            ``"hub:NAME[@CONFIG]"``: a data set of the Hugging Face hub.
            ``"package.module:callable"``: what your own function returns.
        validation: the share of the images by which everything is chosen. It is used unless the
            source comes with a validation and a test split. If it comes with one of them, that one
            is for testing, and this is a share of its training images.
        test: the share of the images for the final metrics. It is used if the source comes with
            neither a validation nor a test split.
        split_seed: the seed of the split. It is the same for every point and seed of a study.
        train_images: how many of the remaining images to train on, stratified by class; None for
            all.
        label_noise: the share of the training labels that are replaced by another class.
        rank: for planted images, the rank of each class's template as a matrix of channels x
            space. It is 1 unless ``rank`` or ``block`` is given.
        block: for planted images, the number of channels that share a pattern, a multiple of 4. It
            is given instead of ``rank``.
        images: how many images are planted.
        side: height and width of planted images, in pixels.
        channels: the number of channels. Planted images have 8 by default, 16 with ``block``. Image
            files are converted to 1 (grey) or 3 (RGB); None: grey if all images are grey, otherwise
            RGB. Arrays keep theirs.
        template: height and width of planted templates, in pixels; 5 by default, 3 with ``block``.
        copies: how many copies of a template a planted image has, in each block with ``block``;
            3 by default, 2 with ``block``.
        signal: the norm of a planted template over the standard deviation of the noise; 4 by
            default, 5.5 with ``block``.
        image_seed: the seed of planted images.
        image_size: height and width to which images are resized and cropped, in pixels; None for
            their own, if all image files are squares of one size. Arrays aren't resized.
        image_column: the column of images in a table; None for the only one.
        label_column: the column of labels in a table; None for the only one.
        bad_images: what to do if an image can't be read or a class has no training images:
            ``"stop"`` with an error, or ``"skip"`` it.
        loading: ``"memory"``: images are decoded once and kept on the device. ``"stream"``: they
            are read and decoded anew in every epoch. ``"auto"``: memory if they need at most 1 GiB
            there.
        class_weights: the weights of the classes in the mean average precision of images with
            several labels: ``"equal"``, or ``"frequency"``, in proportion to how common a class is
            in the training split.
        map_at: k, how many predictions per image the mean average precision (MAP@k) looks at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, BeforeValidator(_check_name)] = "digits"
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
        """The kind of source: digits, planted, folder, parquet, hub or code (a callable)."""
        prefix, _, rest = self.name.partition(":")
        return prefix if not rest or prefix in _PREFIXES else "code"

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.validation + self.test > 0.95:
            raise ValueError(
                f"validation (={self.validation}) and test (={self.test}) must leave at least "
                "0.05 for training"
            )
        return self

    @model_validator(mode="after")
    def _check_fields_of_kind(self) -> Self:
        for field, kinds in _KINDS_OF_FIELD.items():
            value = getattr(self, field)
            if self.kind not in kinds and value != type(self).model_fields[field].default:
                reason = "" if kinds != ("planted",) else ", which isn't planted"
                raise ValueError(f"{field} (={value}) must not be given for {self.name}{reason}")
        if self.kind != "planted":
            if self.kind in USER_KINDS and self.channels not in (None, 1, 3):
                raise ValueError(f"channels (={self.channels}) must be 1 (grey) or 3 (RGB)")
            return self
        if self.rank is not None and self.block is not None:
            raise ValueError(f"rank (={self.rank}) must not be given with block (={self.block})")
        defaults = PLANTED_DEFAULTS["rank" if self.block is None else "block"]
        for field, value in defaults.items():
            if getattr(self, field) is None:
                object.__setattr__(self, field, value)
        self.planted_config()
        return self

    def planted_config(self) -> PlantedConfig:
        """What is planted if ``name`` is ``"planted"``.

        Raises:
            ValueError: the fields don't fit each other.
        """
        return PlantedConfig(**self.model_dump(include=set(_PLANTED_FIELDS)))
