"""The learning curve of a training run, and the check of one that is read from a file."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from spectrum.errors import FieldError, first_field_error

Evaluation: TypeAlias = dict[str, float]
"""A line of the learning curve.

Its keys are ``epoch, samples, lr, train_loss, val_loss, val_top1, seconds``, and ``val_map`` if
images have several labels. ``samples`` and ``seconds`` count training from its start, without the
evaluations. ``lr`` is the learning rate of the next step.
"""
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class _Line(BaseModel):
    """A line of a file. Later versions may write further fields."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    epoch: PositiveInt
    samples: NonNegativeInt
    lr: NonNegativeFloat
    train_loss: NonNegativeFloat
    val_loss: NonNegativeFloat
    val_top1: Share
    val_map: Share | None = None
    seconds: NonNegativeFloat


_CURVE = TypeAdapter(list[_Line])


def check_curve(lines: Any) -> None:
    """Checks the lines of a learning curve, one for each epoch.

    Raises:
        FieldError: a line is missing, lacks a field, or has a value that it can't have.
    """
    try:
        epochs = [line.epoch for line in _CURVE.validate_python(lines)]
    except ValidationError as error:
        place = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise first_field_error(error).renamed(place or "curve") from None
    if epochs != list(range(1, len(epochs) + 1)):
        raise FieldError("epoch", epochs, "must be 1, 2 and so on, line by line")
