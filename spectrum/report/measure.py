"""What points are chosen and compared by: top-1 accuracy, or mean average precision.

Results say which of the two they are of by the columns that they have.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import pandas as pd

__all__ = ["ACCURACY", "MAP_AT", "Measure", "measure_among", "measure_of", "precision_at"]

MAP_AT = "map_at"
"""The column of how many predictions a mean average precision looks at."""


@dataclass(frozen=True)
class Measure:
    """A measure, the higher the better, with the columns and the words for it.

    Attributes:
        validation: its column on the validation split.
        test: likewise on the test split.
        name: in a sentence.
        word: in a caption.
        many: several values of it.
        label: of an axis.
        short: of a column that people read.
        more: what a point is that has more of it.
        less: likewise, less.
    """

    validation: str
    test: str
    name: str
    word: str
    many: str
    label: str
    short: str
    more: str
    less: str

    @property
    def a_name(self) -> str:
        """Its name with an article."""
        return f"a{'n' * (self.name[0] in 'aeiou')} {self.name}"


ACCURACY = Measure(
    validation="val_top1",
    test="test_top1",
    name="accuracy",
    word="accuracy",
    many="accuracies",
    label="top-1 accuracy",
    short="top-1",
    more="more accurate",
    less="less accurate",
)


def precision_at(k: int | None = None) -> Measure:
    """The mean average precision of the first ``k`` predictions; None where that isn't known."""
    short = "MAP" if k is None else f"MAP@{k}"
    return Measure(
        validation="val_map",
        test="test_map",
        name=f"mean average precision ({short})",
        word=short,
        many=f"values of {short}",
        label=short,
        short=short,
        more=f"higher in {short}",
        less=f"lower in {short}",
    )


def measure_among(names: Container[str]) -> Measure:
    """The measure of what has these columns or keys, such as a result or a line of a curve."""
    precision = precision_at()
    found = precision.validation in names or precision.test in names
    return precision if found else ACCURACY


def measure_of(rows: pd.DataFrame) -> Measure:
    """The measure of a table: of results, a summary, evidence or trials."""
    measure = measure_among(rows.columns)
    if measure == ACCURACY or MAP_AT not in rows or rows[MAP_AT].nunique() != 1:
        return measure
    return precision_at(int(rows[MAP_AT].dropna().iloc[0]))
