"""The learning curve of a training run, and the check of one that is read from a file."""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt, TypeAdapter

from spectrum.errors import FieldError
from spectrum.fields import Share, Stored, check_stored

Evaluation: TypeAlias = dict[str, float]
"""A line of the learning curve.

Its keys are ``epoch, samples, lr, train_loss, val_loss, val_top1, seconds``, and ``val_map`` if
images have several labels. ``samples`` and ``seconds`` count training from its start, without the
evaluations. ``lr`` is the learning rate of the next step.
"""


class _Line(Stored):
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
    epochs = [line.epoch for line in check_stored(_CURVE, lines)]
    if epochs != list(range(1, len(epochs) + 1)):
        raise FieldError("epoch", epochs, "must be 1, 2 and so on, line by line")
