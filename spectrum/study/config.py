"""The configuration of a study: a grid of networks, data, recipes and precisions, and seeds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from spectrum.study.grid import GridConfig, as_text, column_name

__all__ = ["StudyConfig"]

_DEFAULT_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
# Fields of the data that don't change the test images, so that their values can be compared.
_KEEPS_TEST_IMAGES = {"train_images", "label_noise"}


class StudyConfig(GridConfig):
    """What a study trains and compares: the fields of ``GridConfig``, and these.

    Attributes:
        compare: the field whose values are compared, everything else being equal: ``"segments"``,
            or another field with several values.
        sample: how many combinations of the fields other than ``segments`` to train, drawn at
            random, the same ones every time, with one seed each; None for all combinations.
        tune_lr: factors to multiply the recipe's learning rate by, from 0.001 to 1000. Each point
            trains with the rate that is best on the validation split. True for 1/4, 1/2, 1, 2 and
            4; empty or False for no tuning.
        start: a file of weights to start from, in a format that ``load_weights`` reads. They are
            moved to each point of the dial by ``resegment``; ``match`` must be ``"none"``. None
            for random weights.
    """

    compare: str = "segments"
    sample: PositiveInt | None = None
    tune_lr: tuple[Annotated[float, Field(ge=1e-3, le=1e3)], ...] = ()
    start: Path | None = None

    @field_validator("tune_lr", mode="before")
    @classmethod
    def _parse_factors(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return _DEFAULT_FACTORS if value else ()
        if not isinstance(value, list | tuple):
            raise ValueError("must be true, false or a list of factors")
        return value

    @model_validator(mode="after")
    def _check_study(self) -> Self:
        if self.sample is not None and "seeds" not in self.model_fields_set:
            object.__setattr__(self, "seeds", 1)
        if self.start is not None and self.match != "none":
            raise ValueError(
                f"start (={self.start}) needs match 'none', not {self.match!r}: weights fit the "
                "width that they were trained at"
            )
        if self.tune_lr and len(self.recipe.get("lr", ())) > 1:
            raise ValueError(
                f"tune_lr (={as_text(self.tune_lr)}) must not be given with several learning "
                f"rates, recipe.lr (={as_text(self.recipe['lr'])})"
            )
        varied = {column_name(*axis): axis for axis in self.varied_axes()}
        changes_test = [
            c for c, (table, f) in varied.items() if table == "data" and f not in _KEEPS_TEST_IMAGES
        ]
        comparable = dict.fromkeys(["segments", *(c for c in varied if c not in changes_test)])
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
        if self.sample is not None and changes_test:
            raise ValueError(
                f"sample (={self.sample}) needs one set of test images, not several values of "
                f"{', '.join(changes_test)}"
            )
        return self

    def _select_combinations(self, others: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        if self.sample is None or self.sample >= len(others):
            return others
        drawn = random.Random(0).sample(range(len(others)), self.sample)
        return [others[i] for i in sorted(drawn)]
