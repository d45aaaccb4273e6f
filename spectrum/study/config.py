"""The configuration of a study: a grid of networks, data, recipes and precisions, and seeds."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from spectrum.data.config import DataConfig
from spectrum.errors import FieldError, as_text
from spectrum.fields import Facts, UserPath, column_name, field_facts
from spectrum.study.grid import GridConfig, check_size

_MAX_RUNS = 1_000_000
_DEFAULT_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


class StudyConfig(GridConfig):
    """What a study trains and compares."""

    compare: Annotated[str, Facts(metavar="FIELD")] = "segments"
    """Field whose values are compared, everything else being equal: segments, or another field with
    several values."""
    sample: Annotated[int | None, Field(gt=0, le=100_000), Facts(metavar="N", unset="all")] = None
    """Number of combinations of the other fields to train, drawn at random, the same ones every
    time, with one seed each."""
    tune_lr: Annotated[
        tuple[Annotated[float, Field(ge=1e-3, le=1e3)], ...], Facts(is_switch=True)
    ] = ()
    """Choose a learning rate for each point by the validation split. A file or Python may list
    factors of the recipe's rate to try, from 0.001 to 1000; true stands for 1/4, 1/2, 1, 2 and
    4."""
    start: Annotated[UserPath | None, Facts(metavar="WEIGHTS", unset="random weights")] = None
    """File of weights to start from, in a format that load_weights reads. They are moved to each
    point of the dial by resegment. It needs the match none."""

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
        factors = {"seeds": self.seeds, "tune_lr": max(len(self.tune_lr), 1)}
        check_size({**self._sizes(), **factors}, _MAX_RUNS, "runs")
        if self.start is not None and self.match != "none":
            raise FieldError(
                "start",
                self.start,
                f"needs match 'none', not {self.match!r}: weights fit the width that they were "
                "trained at",
            )
        if self.tune_lr and len(self.recipe.get("lr", ())) > 1:
            raise FieldError(
                "tune_lr",
                self.tune_lr,
                "must not be given with several learning rates, recipe.lr "
                f"(={as_text(self.recipe['lr'])})",
            )
        varied = {column_name(*axis): axis for axis in self.varied_axes()}
        changes_test = [
            column
            for column, (table, field) in varied.items()
            if table == "data" and field_facts(DataConfig, field).changes_test_images
        ]
        comparable = dict.fromkeys(["segments", *(c for c in varied if c not in changes_test)])
        if self.compare not in comparable:
            allowed = f"must be one of {', '.join(comparable)}, what varies on the same test images"
            raise FieldError("compare", self.compare, allowed)
        if self.sample is not None and not any(
            axis != ("network", "segments") for axis in varied.values()
        ):
            raise FieldError("sample", self.sample, "needs other fields with several values")
        if self.sample is not None and self.seeds > 1:
            raise FieldError(
                "seeds",
                self.seeds,
                f"must be 1 with sample (={self.sample}): each combination counts as a seed, and "
                "seeds of one combination aren't independent",
            )
        if self.sample is not None and changes_test:
            raise FieldError(
                "sample",
                self.sample,
                "needs one set of test images, not several values of " + ", ".join(changes_test),
            )
        return self

    def _sizes(self) -> dict[str, int]:
        sizes = super()._sizes()
        segments = sizes.pop("segments")
        if self.sample is None or self.sample >= math.prod(sizes.values()):
            return {**sizes, "segments": segments}
        check_size(sizes, sys.maxsize, "combinations to draw from")
        return {"sample": self.sample, "segments": segments}

    def _select_combinations(self, others: list[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
        total = math.prod(map(len, others))
        if self.sample is None or self.sample >= total:
            return super()._select_combinations(others)
        drawn = random.Random(0).sample(range(total), self.sample)
        return [_nth_combination(others, i) for i in sorted(drawn)]


def _nth_combination(axes: list[tuple[Any, ...]], n: int) -> tuple[Any, ...]:
    """The item of ``itertools.product(*axes)`` with the number n."""
    picked: list[Any] = []
    for values in reversed(axes):
        n, place = divmod(n, len(values))
        picked.insert(0, values[place])
    return tuple(picked)
