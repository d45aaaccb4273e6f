"""What a network is trained with, as a value."""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from spectrum.data import Augmentation

__all__ = ["PRECISIONS", "RECIPES", "Precision", "Recipe", "dropout_of"]

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
# What each recipe has where nothing else is said; "small" has the defaults of the fields.
_NAMED: dict[str, dict[str, Any]] = {
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
RECIPES: tuple[str, ...] = tuple(_NAMED)
# Fields that say something under one value of another alone.
_ONLY_WITH = {
    "momentum": ("optimizer", ("sgd", "rmsprop")),
    "warmup": ("schedule", ("one_cycle",)),
    "decay": ("schedule", ("exponential",)),
    "decay_every": ("schedule", ("exponential",)),
    "decay_unit": ("schedule", ("exponential",)),
}


class Recipe(BaseModel):
    """The optimiser, its schedule, and what else shapes the weights.

    ``"small"`` is AdamW under a one-cycle schedule, evaluated with averaged weights as the paper
    does; its defaults were chosen on the validation split of digits (studies/recipe.md).
    ``"imagenet"`` and ``"jft"`` are the paper's (sections 4.2 and 4.3): SGD or RMSprop with
    momentum, a learning rate that falls by steps, averaged weights, and for ``"imagenet"`` a
    dropout of 0.5 in the network (``dropout_of``). The paper gives neither epochs nor batch size,
    nor the decay of its average; 100, 32 and 0.9999 are ours. Its weight decay for Inception V3
    is 4e-5. Every field can be set under any name.

    Attributes:
        name: ``"small"``, ``"imagenet"`` or ``"jft"``: the values of the fields not given.
        epochs: passes over the training split.
        batch_size: images a step; the last, smaller batch of an epoch is left out.
        optimizer: ``"adamw"``, ``"sgd"`` or ``"rmsprop"``, as in ``torch.optim``.
        lr: the first learning rate; of a cycle, the highest.
        momentum: of SGD and RMSprop. AdamW's betas are torch's, the first cycled with the rate.
        schedule: ``"one_cycle"``, or ``"exponential"``: times ``decay`` every ``decay_every``.
        warmup: the share of the steps of a cycle in which the learning rate rises.
        decay: factor of the learning rate.
        decay_every: after how many epochs or samples, as ``decay_unit`` says.
        decay_unit: ``"epochs"`` or ``"samples"`` seen in training.
        weight_decay: decoupled from the gradient in AdamW, added to it in the others (L2).
        label_smoothing: the share of the target spread over all classes.
        average: decay a step of the moving average of the weights; 0 for no average.
        precise_bn: training images from which batch normalisation's statistics are computed anew
            for the evaluated weights (Wu and Johnson, arXiv:2105.07576); 0 for the running ones,
            averaged with the weights.
        clip: the largest norm of the gradient; 0 for no clipping.
        channels_last: whether images and weights lie in memory channels last.
        crop: pixels of padding around a training image, of which a window of the image's own size
            is cut out at random.
        flip: whether half of the training images are mirrored; None where images stream alone.
        cutout: side of the square that is blanked out at random in a training image.
        crop_area: the least share of an image that a random crop of it takes before it is brought
            to the size of the others (RandomResizedCrop); only images that stream have pixels to
            spare for that, and None stands for 0.08 there.
        batch_norm: in training on several processes, over which of the images of a step batch
            normalisation's statistics are: ``"synchronised"``, all, as one process has it; or
            ``"local"``, each process over its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Literal["small", "imagenet", "jft"] = "small"
    epochs: PositiveInt = 10
    batch_size: PositiveInt = 32
    optimizer: Literal["adamw", "sgd", "rmsprop"] = "adamw"
    lr: float = Field(default=4e-3, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    schedule: Literal["one_cycle", "exponential"] = "one_cycle"
    warmup: float = Field(default=0.3, gt=0, lt=1)
    decay: float = Field(default=1.0, gt=0, le=1)
    decay_every: PositiveFloat = 1
    decay_unit: Literal["epochs", "samples"] = "epochs"
    weight_decay: float = Field(default=1e-2, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    average: float = Field(default=0.98, ge=0, lt=1)
    precise_bn: NonNegativeInt = 0
    clip: float = Field(default=1.0, ge=0)
    channels_last: bool = True
    crop: int = Field(default=0, ge=0, le=256)
    flip: bool | None = None
    cutout: int = Field(default=0, ge=0, le=4096)
    crop_area: float | None = Field(default=None, gt=0, le=1)
    batch_norm: Literal["synchronised", "local"] = "synchronised"

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("name", "small") not in RECIPES:
            return given
        filled = {**_NAMED[given.get("name", "small")], **given}
        for field, (other, values) in _ONLY_WITH.items():
            if (
                field not in given
                and filled.get(other, cls.model_fields[other].default) not in values
            ):
                filled.pop(field, None)  # another optimiser or schedule was asked for
        return filled

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for field, (other, values) in _ONLY_WITH.items():
            value, chosen = getattr(self, field), getattr(self, other)
            if chosen not in values and value != type(self).model_fields[field].default:
                raise ValueError(
                    f"{field} (={value}) needs {other} {' or '.join(values)}, not {chosen}"
                )
        return self

    def augmentation(self, streams: bool) -> Augmentation:
        """How training images are varied.

        Args:
            streams: whether they stream.

        Raises:
            ValueError: ``crop_area`` is given and they don't.
        """
        if self.crop_area is not None and not streams:
            raise ValueError(
                f"recipe.crop_area (={self.crop_area}) needs images that stream (data.loading "
                "'stream'): those in memory have no pixels to spare"
            )
        return Augmentation(
            crop=self.crop,
            flip=streams if self.flip is None else self.flip,
            cutout=self.cutout,
            area=(0.08 if self.crop_area is None else self.crop_area) if streams else 1.0,
        )


def dropout_of(recipe: str) -> float:
    """The dropout before the classifier that a recipe's name stands for (section 4.2)."""
    return 0.5 if recipe == "imagenet" else 0.0
