"""The recipe: how a network is trained, as a configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import (
    Field,
    model_validator,
)

from spectrum.data.augmentation import Augmentation
from spectrum.errors import FieldError
from spectrum.fields import Config, Facts, check_needs, field_facts

Precision: TypeAlias = Literal["float32", "bfloat16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

_PAPER = {
    "epochs": 100,
    "momentum": 0.9,
    "schedule": "exponential",
    "label_smoothing": 0.0,
    "weight_decay": 1e-5,
    "average": 0.9999,
    "precise_bn": 8192,
    "clip": 0.0,
}
# The defaults that each name sets; those of "small" are the fields' own.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "small": {},
    "imagenet": {
        **_PAPER,
        "optimizer": "sgd",
        "lr": 0.045,
        "decay": 0.94,
        "decay_every": 2,
        "decay_unit": "epochs",
    },
    "jft": {
        **_PAPER,
        "optimizer": "rmsprop",
        "lr": 0.001,
        "decay": 0.9,
        "decay_every": 3_000_000,
        "decay_unit": "samples",
    },
}
RECIPES: tuple[str, ...] = tuple(_DEFAULTS)
# What a field needs that has an effect beside some optimisers or schedules only.
_MOMENTUM = ("optimizer", ("sgd", "rmsprop"))
_ONE_CYCLE = ("schedule", ("one_cycle",))
_EXPONENTIAL = ("schedule", ("exponential",))


class Recipe(Config):
    """The optimiser, the learning rate's schedule, and all else that shapes the weights.

    The name sets the defaults of the other fields; each of them can still be given.

    - ``"small"`` is AdamW under a one-cycle schedule, evaluated with averaged weights as the paper
      does. Its defaults were chosen on the validation split of digits (studies/recipe.md).
    - ``"imagenet"`` and ``"jft"`` are the paper's (sections 4.2 and 4.3): SGD or RMSprop with
      momentum, a learning rate that falls in steps, and averaged weights. ``"imagenet"`` also
      puts a dropout of 0.5 into the network (``default_dropout``). The paper doesn't give the
      number of epochs, the batch size or the decay of the average; 100, 32 and 0.9999 are ours.
      Its weight decay for Inception V3 is 4e-5.

    Attributes:
        name: ``"small"``, ``"imagenet"`` or ``"jft"``: the defaults of the other fields.
        epochs: passes over the training split.
        batch_size: images per step. The last batch of an epoch is left out if it is smaller.
        optimizer: ``"adamw"``, ``"sgd"`` or ``"rmsprop"``, as in ``torch.optim``.
        lr: the initial learning rate; under ``"one_cycle"``, the highest.
        momentum: of SGD and RMSprop. AdamW has torch's betas; one-cycle also cycles the first.
        schedule: of the learning rate: ``"one_cycle"``, or ``"exponential"``, which multiplies it
            by ``decay`` after every ``decay_every``.
        warmup: under ``"one_cycle"``, the share of all steps in which the learning rate rises.
        decay: under ``"exponential"``, the factor of the learning rate.
        decay_every: under ``"exponential"``, the number of epochs or samples between two decays.
        decay_unit: what ``decay_every`` counts: ``"epochs"``, or ``"samples"`` seen in training.
        weight_decay: decoupled from the gradient in AdamW, added to the gradient in SGD and
            RMSprop (L2).
        label_smoothing: the share of the target that is spread evenly over all classes.
        average: the decay per step of the moving average of the weights, with which the network
            is evaluated; 0 for no average.
        precise_bn: the number of training images from which batch normalisation's statistics are
            recomputed for the evaluated weights (Wu and Johnson, arXiv:2105.07576); 0 for the
            running statistics, which are averaged with the weights.
        clip: the largest norm of the gradient; 0 for no clipping.
        channels_last: whether images and weights have the channels-last memory layout.
        crop: pixels of padding on each side of a training image, out of which a random window of
            the image's own size is cut.
        flip: whether half of the training images are mirrored. None stands for True if images
            are streamed, and for False if they are in memory.
        cutout: side of the square that is blanked out at a random place of a training image, in
            pixels; 0 for none.
        crop_area: the smallest share of an image's area that a random crop takes before it is
            resized (RandomResizedCrop). Only streamed images are cropped so, because only they
            have more pixels than are needed; None stands for 0.08 there.
        batch_norm: the images over which batch normalisation computes its statistics if several
            processes train: ``"synchronised"``, the whole batch, as in one process; or
            ``"local"``, each process's own share.
    """

    name: Literal["small", "imagenet", "jft"] = "small"
    epochs: int = Field(default=10, gt=0, le=1_000_000)
    batch_size: int = Field(default=32, gt=0, le=10_000_000)
    optimizer: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    lr: float = Field(default=4e-3, gt=0, le=1e12)
    momentum: Annotated[float, Field(ge=0, lt=1), Facts(needs=_MOMENTUM)] = 0.0
    schedule: Literal["one_cycle", "exponential"] = "one_cycle"
    warmup: Annotated[float, Field(gt=0, lt=1), Facts(needs=_ONE_CYCLE)] = 0.3
    decay: Annotated[float, Field(gt=0, le=1), Facts(needs=_EXPONENTIAL)] = 1.0
    decay_every: Annotated[float, Field(gt=0, le=1e12), Facts(needs=_EXPONENTIAL)] = 1
    decay_unit: Annotated[Literal["epochs", "samples"], Facts(needs=_EXPONENTIAL)] = "epochs"
    weight_decay: float = Field(default=1e-2, ge=0, le=1e6)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    average: float = Field(default=0.98, ge=0, lt=1)
    precise_bn: int = Field(default=0, ge=0, le=1_000_000_000)
    clip: float = Field(default=1.0, ge=0, le=1e12)
    channels_last: bool = True
    crop: int = Field(default=0, ge=0, le=256)
    flip: bool | None = None
    cutout: int = Field(default=0, ge=0, le=4096)
    crop_area: float | None = Field(default=None, gt=0, le=1)
    batch_norm: Literal["synchronised", "local"] = "synchronised"

    @model_validator(mode="before")
    @classmethod
    def _set_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("name", "small") not in RECIPES:
            return given
        values = {**_DEFAULTS[given.get("name", "small")], **given}
        for field in cls.model_fields.keys() - given.keys():
            needs = field_facts(cls, field).needs
            if needs and values.get(needs[0], cls.model_fields[needs[0]].default) not in needs[1]:
                values.pop(field, None)  # a default that is for another optimiser or schedule
        return values

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        check_needs(self)
        return self

    def augmentation(self, is_streamed: bool) -> Augmentation:
        """How training images are varied.

        Args:
            is_streamed: whether they are streamed rather than in memory.

        Raises:
            ValueError: ``crop_area`` is given and images are in memory.
        """
        if self.crop_area is not None and not is_streamed:
            raise FieldError(
                "recipe.crop_area",
                self.crop_area,
                "needs images that are streamed (data.loading 'stream'); those in memory have no "
                "pixels to spare",
            )
        crop_area = 0.08 if self.crop_area is None else self.crop_area
        return Augmentation(
            crop=self.crop,
            flip=is_streamed if self.flip is None else self.flip,
            cutout=self.cutout,
            crop_area=crop_area if is_streamed else 1.0,
        )


def default_dropout(recipe: str) -> float:
    """The dropout before the classifier that goes with a recipe's name (section 4.2)."""
    return 0.5 if recipe == "imagenet" else 0.0
