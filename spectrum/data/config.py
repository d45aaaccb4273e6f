"""The configuration of the data: which source it comes from, and how it is split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)

from spectrum.errors import FieldError, counted
from spectrum.fields import Config, Facts, check_needs
from spectrum.files import as_path
from spectrum.user_code import is_callable_name

DATA_SETS = ("digits", "fashion_mnist", "planted")
USER_KINDS = ("folder", "parquet", "idx", "hub", "code")
"""The kinds of source that a user's own images come from."""

_PREFIXES = ("folder", "parquet", "idx", "hub")
_ALLOWED_NAMES = (
    f"{', '.join(DATA_SETS)}, folder:PATH, parquet:PATH, idx:PATH, hub:NAME[@CONFIG] "
    "or package.module:callable"
)
NUM_QUARTERS = 4
"""The parts of a block of planted images, whose signs decide the class."""

# The defaults of each kind of planted images.
_PLANTED_DEFAULTS: dict[str, dict[str, Any]] = {
    "rank": {"rank": 1, "channels": 8, "template": 5, "copies": 3, "signal": 4.0},
    "block": {"channels": 16, "template": 3, "copies": 2, "signal": 5.5},
}
_MAX_PIXELS = 200_000_000  # values in all channels of all planted images: 1.6 GB while drawn
# What a field needs that is for some kinds of source only.
_PLANTED = ("kind", ("planted",))
_TABLES = ("kind", ("parquet", "hub"))
_USER = ("kind", USER_KINDS)
_RESIZED = ("kind", ("fashion_mnist", *USER_KINDS))


def _check_name(name: Any) -> Any:
    prefix, _, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
    if name not in DATA_SETS and not (rest and (prefix in _PREFIXES or is_callable_name(name))):
        raise ValueError(f"must be one of {_ALLOWED_NAMES}")
    try:
        name.encode()
    except UnicodeEncodeError:  # results and pages, which hold the name, couldn't be written
        raise ValueError("must be text in UTF-8; a link can give a folder such a name") from None
    return name


class DataConfig(Config):
    """A data set, and how it is split into training, validation and test.

    Fields that aren't for the chosen source must not be given.

    Attributes:
        name: the source. ``"digits"``: scikit-learn's handwritten digits. ``"fashion_mnist"``:
            70,000 images of clothes. ``"planted"``: generated images with a known structure.
            ``"folder:PATH"``: a folder with a folder of images for each class. ``"parquet:PATH"``:
            a Parquet file, or a folder of them. ``"idx:PATH"``: a folder of IDX files, the format
            of MNIST. ``"hub:NAME[@CONFIG]"``: a data set of the Hugging Face hub.
            ``"package.module:callable"``: what your own function returns.
        validation: the share of the images by which everything is chosen. It is used unless the
            source comes with a validation and a test split. If it comes with one of them, that one
            is for testing, and this is a share of its training images.
        test: the share of the images for the final metrics. It is used if the source comes with
            neither a validation nor a test split.
        split_seed: the seed of the split. It is the same for every point and seed of a study.
        resplit: whether each seed of a study draws its own training and validation images, out of
            all that aren't for testing. The test images stay the same. A validation split that
            comes with a test split is drawn anew too.
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
            their own, if all image files are squares of one size. A callable's arrays aren't
            resized.
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

    name: Annotated[str, BeforeValidator(_check_name)] = "digits"
    validation: float = Field(default=0.2, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    split_seed: int = Field(default=0, ge=0, lt=2**32)
    resplit: Annotated[
        bool, Field(strict=True), Facts(changes_task=False, changes_test_images=False)
    ] = False
    train_images: Annotated[
        int | None, Field(gt=0, le=1_000_000_000), Facts(changes_test_images=False)
    ] = None
    label_noise: Annotated[float, Field(ge=0, lt=1), Facts(changes_test_images=False)] = 0.0
    rank: Annotated[int | None, Field(gt=0, le=4096), Facts(needs=_PLANTED)] = None
    block: Annotated[int | None, Field(gt=0, le=4096), Facts(needs=_PLANTED)] = None
    images: Annotated[int, Field(ge=80, le=1_000_000), Facts(needs=_PLANTED)] = 5000
    side: Annotated[int, Field(ge=1, le=512), Facts(needs=_PLANTED)] = 12
    channels: Annotated[
        int | None, Field(ge=1, le=4096), Facts(needs=("kind", ("planted", *USER_KINDS)))
    ] = None
    template: Annotated[int | None, Field(gt=0, le=512), Facts(needs=_PLANTED)] = None
    copies: Annotated[int | None, Field(ge=1, le=1000), Facts(needs=_PLANTED)] = None
    signal: Annotated[float | None, Field(gt=0, le=1000), Facts(needs=_PLANTED)] = None
    image_seed: Annotated[int, Field(ge=0, lt=2**32), Facts(needs=_PLANTED)] = 0
    image_size: Annotated[int | None, Field(ge=1, le=4096), Facts(needs=_RESIZED)] = None
    image_column: Annotated[str | None, Facts(needs=_TABLES)] = None
    label_column: Annotated[str | None, Facts(needs=_TABLES)] = None
    bad_images: Annotated[Literal["stop", "skip"], Facts(needs=_USER, names_run=False)] = "stop"
    loading: Annotated[
        Literal["auto", "memory", "stream"], Facts(needs=_USER, changes_task=False)
    ] = "auto"
    class_weights: Annotated[Literal["equal", "frequency"], Facts(needs=_USER)] = "equal"
    map_at: Annotated[int, Field(gt=0, le=1_000_000), Facts(needs=_USER)] = 100

    @property
    def kind(self) -> str:
        """The kind of source: a data set's name, folder, parquet, idx, hub or code (a callable)."""
        prefix, _, rest = self.name.partition(":")
        return prefix if not rest or prefix in _PREFIXES else "code"

    @property
    def location(self) -> str:
        """What follows the kind in the name: a path, or a name on the hub."""
        return self.name.partition(":")[2]

    @property
    def path(self) -> Path:
        """The location as a path; ``~`` is the user's home folder.

        Raises:
            ValueError: it can't be the path of a file.
        """
        return as_path(self.location)

    @property
    def name_in_id(self) -> str:
        """The name for a run's id: without the path of files, whose content has a fingerprint."""
        return self.kind if self.kind in ("folder", "parquet", "idx") else self.name

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        if self.validation + self.test > 0.95:
            raise FieldError(
                "validation",
                self.validation,
                f"and test (={self.test}) must leave at least 0.05 for training",
            )
        return self

    @model_validator(mode="after")
    def _check_fields_of_kind(self) -> Self:
        check_needs(self)
        if self.kind != "planted":
            if self.channels not in (None, 1, 3):
                raise FieldError("channels", self.channels, "must be 1 (grey) or 3 (RGB)")
            return self
        if self.rank is not None and self.block is not None:
            raise FieldError("rank", self.rank, f"must not be given with block (={self.block})")
        defaults = _PLANTED_DEFAULTS["rank" if self.block is None else "block"]
        for field, value in defaults.items():
            if getattr(self, field) is None:
                object.__setattr__(self, field, value)
        self._check_planted(self.channels or 0, self.template or 0)
        return self

    def _check_planted(self, channels: int, template: int) -> None:
        pixels = channels * self.side**2
        if self.images * pixels > _MAX_PIXELS:
            shape = f"{counted(channels, 'channel')} and {self.side}x{self.side} pixels"
            allowed = f"must be at most {_MAX_PIXELS // pixels} of {shape}, to be held in memory"
            raise FieldError("images", self.images, allowed)
        if template > self.side:
            raise FieldError("template", template, f"must be in 1..{self.side}, an image's side")
        max_rank = min(channels, template**2)
        if self.rank is not None and self.rank > max_rank:
            of_what = f"{counted(channels, 'channel')} of {template}x{template}"
            allowed = f"must be in 1..{max_rank}, for {of_what}"
            raise FieldError("rank", self.rank, allowed)
        if self.block is not None and (self.block % NUM_QUARTERS or channels % self.block):
            allowed = f"must be a multiple of {NUM_QUARTERS} that divides the {channels} channels"
            raise FieldError("block", self.block, allowed)
