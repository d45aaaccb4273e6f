"""What a run that trains a ``Supernet`` depends on, beside what any run does."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, field_validator

from spectrum.costs.choices import CountedCost
from spectrum.fields import Config
from spectrum.segments import Segments


def _canonical(value: object) -> str:
    return str(Segments(value))  # type: ignore[arg-type]


class SharedTraining(Config):
    """The networks that share their weights, and how they are trained.

    Attributes:
        segments: the candidates of each layer, as in ``Supernet``.
        widths: the widths, as in ``Supernet``; None for the network's own.
        members: as in ``Sandwich``.
        distill: as in ``Sandwich``.
        budget: as in ``Sandwich``.
        match: as in ``Sandwich``.
    """

    segments: tuple[Annotated[str, BeforeValidator(_canonical)], ...] = Field(min_length=1)
    widths: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(default=None, min_length=1)
    members: NonNegativeInt = 2
    distill: bool = True
    budget: PositiveInt | None = None
    match: CountedCost = "params"

    @field_validator("segments", "widths")
    @classmethod
    def _check_once(cls, values: tuple[object, ...] | None) -> tuple[object, ...] | None:
        if values and len(set(values)) < len(values):
            raise ValueError("must name each once")
        return values
