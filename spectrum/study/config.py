"""The configuration of a study: a grid of networks, data, recipes and precisions, and seeds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from spectrum.study.grid import GridConfig, column, shown

__all__ = ["StudyConfig"]

_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
# What may vary of the data where runs are compared: the test images stay the same.
_SAME_TEST = {"train_images", "label_noise"}


class StudyConfig(GridConfig):
    """What a study compares, and how; the fields of ``GridConfig``, and these.

    Attributes:
        compare: the field whose values the evidence compares at equal others: ``"segments"``, or
            one that takes several values.
        sample: how many combinations of the other fields than ``segments`` to take, at random but
            always the same, with one seed each; None for all.
        tune_lr: factors of the recipe's learning rate, of which each point gets the one that
            classifies the validation split best; True for 1/4, 1/2, 1, 2 and 4, none for no
            tuning.
        start: a file of weights to start from, as ``load_weights`` takes it, moved to each point
            of the dial by ``resegment``; ``match`` must be ``"none"`` then.
    """

    compare: str = "segments"
    sample: PositiveInt | None = None
    tune_lr: tuple[Annotated[float, Field(ge=1e-3, le=1e3)], ...] = ()
    start: Path | None = None

    @field_validator("tune_lr", mode="before")
    @classmethod
    def _factors(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return _FACTORS if value else ()
        if not isinstance(value, list | tuple):
            raise ValueError("must be true, false or a list of factors")
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.sample is not None and "seeds" not in self.model_fields_set:
            object.__setattr__(self, "seeds", 1)
        if self.start is not None and self.match != "none":
            raise ValueError(
                f"start (={self.start}) needs match 'none', not {self.match!r}: weights fit the "
                "width that they were trained at"
            )
        if self.tune_lr and len(self.recipe.get("lr", ())) > 1:
            raise ValueError(
                f"tune_lr (={shown(self.tune_lr)}) must not be given with several learning rates, "
                f"recipe.lr (={shown(self.recipe['lr'])})"
            )
        varied = {column(*axis): axis for axis in self.varied()}
        apart = [c for c, (room, f) in varied.items() if room == "data" and f not in _SAME_TEST]
        comparable = dict.fromkeys(["segments", *(c for c in varied if c not in apart)])
        if self.compare not in comparable:
            raise ValueError(
                f"compare (={self.compare!r}) must be one of {', '.join(comparable)}, what varies "
                "on the same test images"
            )
        if self.sample is not None and not any(
            axis != ("network", "segments") for axis in varied.values()
        ):
            raise ValueError(f"sample (={self.sample}) needs other fields with several values")
        if self.sample is not None and self.seeds > 1:
            raise ValueError(
                f"seeds (={self.seeds}) must be 1 with sample (={self.sample}): each combination "
                "counts as a seed, and seeds of one combination aren't independent"
            )
        if self.sample is not None and apart:
            raise ValueError(
                f"sample (={self.sample}) needs one set of test images, not several values of "
                f"{', '.join(apart)}"
            )
        return self

    def _chosen(self, others: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        if self.sample is None or self.sample >= len(others):
            return others
        drawn = random.Random(0).sample(range(len(others)), self.sample)
        return [others[i] for i in sorted(drawn)]
