"""The configuration of a study: a grid of networks, data, recipes and precisions, and seeds."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from pydantic import Field, field_validator, model_validator

from spectrum.costs.choices import CountedCost
from spectrum.data.config import DataConfig
from spectrum.errors import CombinationError, FieldError, as_text
from spectrum.fields import Facts, UserPath, column_name, field_facts
from spectrum.segments import format_setting
from spectrum.study.grid import Combination, GridConfig, check_size, shown_value

MOST_TRIED = 100
"""Combinations that a sampled study tries for each one that is wanted."""
_MAX_RUNS = 1_000_000
_DEFAULT_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
_LENGTHS = ("", "lengths")
_EPOCHS = ("recipe", "epochs")


class StudyConfig(GridConfig):
    """What a study trains and compares."""

    compare: Annotated[str, Facts(metavar="FIELD")] = "segments"
    """Field whose values are compared, everything else being equal: segments, or another field with
    several values."""
    against: Annotated[str | None, Facts(metavar="VALUE", unset="all pairs")] = None
    """Value of that field that each other one is compared with, instead of all pairs with each
    other. Fewer comparisons need fewer seeds."""
    equal_within: Annotated[float, Field(ge=0, le=100), Facts(metavar="POINTS")] = 1.0
    """Percentage points by which values may differ and still count as equal. It is fixed before
    training."""
    sample: Annotated[int | None, Field(gt=0, le=100_000), Facts(metavar="N", unset="all")] = None
    """Number of combinations of all fields but segments to train, drawn at random, the same ones
    every time, with one seed each. With limits, each point of the dial has as many that are within
    them."""
    sample_seed: Annotated[int, Field(ge=0, le=2**32 - 1), Facts(metavar="N")] = 0
    """Seed of the draw of these combinations."""
    min_params: Annotated[
        int | None, Field(gt=0, le=10**15), Facts(metavar="N", unset="no limit")
    ] = None
    """Draw no network with fewer trainable parameters."""
    min_macs: Annotated[
        int | None, Field(gt=0, le=10**18), Facts(metavar="N", unset="no limit")
    ] = None
    """Draw no network with fewer multiply-adds for one image."""
    min_activations: Annotated[
        int | None, Field(gt=0, le=10**18), Facts(metavar="N", unset="no limit")
    ] = None
    """Draw no network with fewer activations for one image."""
    tune_lr: Annotated[
        tuple[Annotated[float, Field(ge=1e-3, le=1e3)], ...], Facts(is_switch=True)
    ] = ()
    """Choose a learning rate for each point by the validation split. A file or Python may list
    factors of the recipe's rate to try, from 0.001 to 1000; true stands for 1/4, 1/2, 1, 2 and
    4."""
    start: Annotated[UserPath | None, Facts(metavar="WEIGHTS", unset="random weights")] = None
    """File of weights to start from, in a format that load_weights reads. They are moved to each
    point of the dial by resegment. It needs the match none."""
    compare_with: Annotated[tuple[UserPath, ...], Facts(metavar="FOLDERS")] = ()
    """Folders of other studies of the same data, such as outputs/relu. Each point that this study
    has in common with one of them is compared with it."""
    lengths: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...], Facts(metavar="FACTORS", table="")
    ] = (1,)
    """Multiples of the epochs to train each point for, such as 1,2,4. Points are compared at each
    length by itself."""

    @field_validator("tune_lr", mode="before")
    @classmethod
    def _parse_factors(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return _DEFAULT_FACTORS if value else ()
        if not isinstance(value, list | tuple):
            raise ValueError("must be true, false or a list of factors")
        return value

    @field_validator("compare_with", mode="before")
    @classmethod
    def _parse_folders(cls, value: Any) -> Any:
        if isinstance(value, str):
            return value.split(",")
        return (value,) if isinstance(value, Path) else value

    @field_validator("lengths")
    @classmethod
    def _check_lengths(cls, lengths: tuple[float, ...]) -> tuple[float, ...]:
        if not lengths or len(set(lengths)) < len(lengths):
            raise ValueError("must be one or more different multiples of the epochs")
        return lengths

    @model_validator(mode="after")
    def _check_study(self) -> Self:
        if self.sample is not None and "seeds" not in self.model_fields_set:
            object.__setattr__(self, "seeds", 1)
        self._check_resplit()
        self._check_bands()
        factors = {"seeds": self.seeds, "tune_lr": max(len(self.tune_lr), 1)}
        check_size({**self._sizes(), **factors}, _MAX_RUNS, "runs")
        if self.sample is not None and len(self.lengths) > 1:
            raise FieldError(
                "lengths",
                self.lengths,
                f"must be one with sample (={self.sample}): each combination counts as a seed, and "
                "lengths of one combination aren't independent",
            )
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
        if self.sample is not None and self.compare != "segments":
            allowed = f"must be segments with sample (={self.sample}), which draws all other fields"
            raise FieldError("compare", self.compare, allowed)
        if self.sample is None and self.sample_seed != 0:
            raise FieldError("sample_seed", self.sample_seed, "needs sample, which it draws")
        if self.against is not None:
            self._check_against()
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

    def _check_bands(self) -> None:
        for cost, (low, high) in self.bands().items():
            limit = f"max_{cost}" if low is None else f"min_{cost}"
            if self.sample is None:
                raise FieldError(limit, getattr(self, limit), "needs sample, which is drawn within")
            if low is not None and high is not None and low > high:
                raise FieldError(limit, low, f"must be at most max_{cost} (={high})")

    def bands(self) -> dict[CountedCost, tuple[int | None, int | None]]:
        """The least and the most that a drawn network may have of each cost that is limited."""
        bands: dict[CountedCost, tuple[int | None, int | None]] = {
            cost: (getattr(self, f"min_{cost}"), getattr(self, f"max_{cost}"))
            for cost in get_args(CountedCost)
        }
        return {cost: band for cost, band in bands.items() if band != (None, None)}

    @property
    def counts_activations(self) -> bool:
        """Whether activations are limited, so that results have them."""
        return "activations" in self.bands()

    @field_validator("against", mode="before")
    @classmethod
    def _parse_against(cls, value: Any) -> Any:
        return value if value is None or isinstance(value, bool) else str(value)

    def compared_axis(self) -> tuple[str, str]:
        """The table and the name of the field whose values are compared."""
        axes = {column_name(*axis): axis for axis in self.varied_axes()}
        return axes.get(self.compare, ("network", "segments"))

    def _check_against(self) -> None:
        if self.compare in ("segments", "pointwise_segments"):
            with suppress(FieldError):  # it isn't among the values, then
                object.__setattr__(self, "against", format_setting(self.against or ""))
        shown = (shown_value(one, *self.compared_axis()) for one in self.combinations())
        values = dict.fromkeys(str(value) or "none" for value in shown)
        if self.against not in values:
            allowed = f"must be one of {', '.join(values)}, the values of {self.compare}"
            raise FieldError("against", self.against, allowed)

    def axes(self) -> dict[tuple[str, str], tuple[Any, ...]]:
        """The values of every field of the grid; the lengths come before the segments."""
        *others, segments = super().axes().items()
        return dict([*others, (_LENGTHS, self.lengths), segments])

    def varied_axes(self) -> list[tuple[str, str]]:
        """The table and name of every field with more than one value; lengths vary the epochs."""
        axes = (_EPOCHS if axis == _LENGTHS else axis for axis in super().varied_axes())
        return list(dict.fromkeys(axes))

    def make_combination(self, values: Mapping[tuple[str, str], Any]) -> Combination:
        """Builds and validates the combination with the given value of each field.

        Its epochs are those that are given, or else the recipe's, times its length.
        """
        combination, length = super().make_combination(values), values[_LENGTHS]
        if length == 1:
            return combination
        base = combination.recipe.epochs
        epochs = Fraction(str(length)) * base
        if epochs.denominator > 1:
            allowed = f"must give whole numbers of epochs, not {length:g} x {base}"
            raise FieldError("lengths", self.lengths, allowed)
        try:
            return super().make_combination({**values, _EPOCHS: int(epochs)})
        except FieldError as error:
            raise FieldError("lengths", self.lengths, f"must be others: {error}") from None

    def _check_resplit(self) -> None:
        values = self.axes().get(("data", "resplit"), ())
        if len(values) > 1:
            allowed = "must be one value: images are drawn for each seed, or they aren't"
            raise FieldError("resplit", values, allowed)
        if True in values and self.sample is not None:
            allowed = f"must not be given with sample (={self.sample}), whose runs have one seed"
            raise FieldError("resplit", True, allowed)
        if True in values and self.seeds == 1:
            raise FieldError("resplit", True, "needs at least 2 seeds, which draw their own images")

    def _sizes(self) -> dict[str, int]:
        sizes = super()._sizes()
        segments = sizes.pop("segments")
        if self.sample is None or self.sample >= math.prod(sizes.values()):
            return {**sizes, "segments": segments}
        check_size(sizes, sys.maxsize, "combinations to draw from")
        return {"sample": self.sample, "segments": segments}

    def _select_combinations(self, others: list[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
        if self.sample is None:
            return super()._select_combinations(others)
        drawn: list[int] = []
        refused: list[CombinationError] = []
        axes = self._drawn_axes()
        for i in self._draw_numbers(math.prod(map(len, others))):
            if len(drawn) == self.sample:
                break
            try:
                self._make_nth(axes, i, self.segments[0])
                drawn.append(i)
            except CombinationError as error:
                refused.append(error)
        if refused and len(drawn) < self.sample:
            tried = len(drawn) + len(refused)
            found = f"only {len(drawn):,} of {tried:,} combinations tried are networks"
            raise FieldError("sample", self.sample, f"must be fewer: {found}; {refused[-1]}")
        return [_nth_combination(others, i) for i in sorted(drawn)]

    def _draw_numbers(self, total: int) -> Iterator[int]:
        """Yields numbers of combinations: as many as are wanted, then others in their place."""
        assert self.sample is not None
        first = random.Random(self.sample_seed).sample(range(total), min(self.sample, total))
        yield from first
        most = min(MOST_TRIED * self.sample, total)
        others = random.Random(self.sample_seed).sample(range(total), most)
        known = {*first}
        yield from (i for i in others if i not in known)

    def _drawn_axes(self) -> dict[tuple[str, str], tuple[Any, ...]]:
        axes = self.axes()
        del axes["network", "segments"]
        return axes

    def _make_nth(
        self, axes: dict[tuple[str, str], tuple[Any, ...]], n: int, segments: str
    ) -> Combination:
        values = dict(zip(axes, _nth_combination([*axes.values()], n), strict=True))
        return self.make_combination({**values, ("network", "segments"): segments})

    def draw(self, segments: str, most: int) -> Iterator[Combination]:
        """Yields combinations with one setting of the dial in the order in which they are drawn.

        The order is the same for each setting. Values that aren't allowed together are passed over.

        Args:
            segments: the setting.
            most: how many are drawn at most.
        """
        axes = self._drawn_axes()
        for i in self._drawn_numbers(most):
            try:
                combination = self._make_nth(axes, i, segments)
            except CombinationError:
                continue
            yield combination

    def _drawn_numbers(self, most: int) -> list[int]:
        total = math.prod(map(len, self._drawn_axes().values()))
        return random.Random(self.sample_seed).sample(range(total), min(most, total))

    def includes(self, other: Self) -> bool:
        """As for any grid. Points within limits are those whose draw begins as the other's."""
        if self.sample is None or other.sample is None or not self.bands():
            return super().includes(other)
        segments, most = other.segments[0], MOST_TRIED * other.sample
        numbers = other._drawn_numbers(most)
        # Numbers stand for combinations by the order of these fields.
        axes, others = (
            [axis for axis in config._drawn_axes().items() if len(axis[1]) > 1]
            for config in (self, other)
        )
        return (
            {*other.segments} <= {*self.segments}
            and other.sample <= self.sample
            and axes == others
            and next(other.draw(segments, most), None) == next(self.draw(segments, most), None)
            and numbers == self._drawn_numbers(MOST_TRIED * self.sample)[: len(numbers)]
        )


def _nth_combination(axes: list[tuple[Any, ...]], n: int) -> tuple[Any, ...]:
    """The item of ``itertools.product(*axes)`` with the number n."""
    picked: list[Any] = []
    for values in reversed(axes):
        n, place = divmod(n, len(values))
        picked.insert(0, values[place])
    return tuple(picked)
