"""What a network is trained with, as a value."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

__all__ = ["PRECISIONS", "RECIPES", "Precision", "Recipe"]

Precision: TypeAlias = Literal["float32", "bfloat16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
RECIPES = ("small",)


class Recipe(BaseModel):
    """The optimiser, its schedule, and what else shapes the weights.

    AdamW under a one-cycle schedule, evaluated with averaged weights as the paper does
    (section 4.2). The defaults were chosen on the validation split of digits (studies/recipe.md).

    Attributes:
        name: of the recipe.
        epochs: passes over the training split.
        batch_size: images a step; the last, smaller batch of an epoch is left out.
        lr: the highest learning rate of the cycle.
        warmup: the share of the steps in which the learning rate rises.
        weight_decay: AdamW's, decoupled from the gradient.
        label_smoothing: the share of the target spread over all classes.
        average: decay a step of the moving average of the weights; 0 for no average.
        clip: the largest norm of the gradient; 0 for no clipping.
        channels_last: whether images and weights lie in memory channels last.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Literal["small"] = "small"
    epochs: PositiveInt = 10
    batch_size: PositiveInt = 32
    lr: float = Field(default=4e-3, gt=0)
    warmup: float = Field(default=0.3, gt=0, lt=1)
    weight_decay: float = Field(default=1e-2, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    average: float = Field(default=0.98, ge=0, lt=1)
    clip: float = Field(default=1.0, ge=0)
    channels_last: bool = True
