"""The measure that points are chosen and compared by: top-1 accuracy or mean average precision.

Points of a search may also be chosen by a substitute: their accuracy with shared weights, or a
count. The columns of a table of results tell which of them it holds.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectrum.errors import FieldError

if TYPE_CHECKING:
    import pandas as pd

MAP_AT = "map_at"
"""The column that says how many predictions a mean average precision looks at."""


@dataclass(frozen=True)
class Measure:
    """A measure of which higher values are better: its columns, and how texts name it.

    Attributes:
        validation_column: the column of its values on the validation split.
        test_column: the column of its values on the test split.
        name: its name in a sentence.
        short_name: its name in a caption.
        plural: what several of its values are called.
        axis_label: its name on the axis of a figure.
        column_heading: its name in the heading of a printed column.
        better: the phrase for a point with a higher value, as in "is more accurate".
        worse: the phrase for a point with a lower value.
        is_share: whether it is measured on images, and so between 0 and 1; otherwise it is counted.
    """

    validation_column: str
    test_column: str
    name: str
    short_name: str
    plural: str
    axis_label: str
    column_heading: str
    better: str
    worse: str
    is_share: bool = True

    @property
    def validation_label(self) -> str:
        """Its name on the axis of values by which points are chosen."""
        return f"validation {self.axis_label}" if self.is_share else self.axis_label

    @property
    def name_with_article(self) -> str:
        """The name with its indefinite article, as in "an accuracy"."""
        return f"a{'n' * (self.name[0] in 'aeiou')} {self.name}"


ACCURACY = Measure(
    validation_column="val_top1",
    test_column="test_top1",
    name="accuracy",
    short_name="accuracy",
    plural="accuracies",
    axis_label="top-1 accuracy",
    column_heading="top-1",
    better="more accurate",
    worse="less accurate",
)


def mean_average_precision(k: int | None = None) -> Measure:
    """The mean average precision of the first ``k`` predictions.

    Args:
        k: how many predictions it looks at; None where that isn't known.
    """
    short = "MAP" if k is None else f"MAP@{k}"
    return Measure(
        validation_column="val_map",
        test_column="test_map",
        name=f"mean average precision ({short})",
        short_name=short,
        plural=f"values of {short}",
        axis_label=short,
        column_heading=short,
        better=f"higher in {short}",
        worse=f"lower in {short}",
    )


SHARED_ACCURACY = Measure(
    validation_column="shared_top1",
    test_column=ACCURACY.test_column,
    name="accuracy with shared weights",
    short_name="accuracy with shared weights",
    plural="accuracies with shared weights",
    axis_label="top-1 accuracy\nwith shared weights",
    column_heading="top-1, shared",
    better="more accurate with shared weights",
    worse="less accurate with shared weights",
)
"""The accuracy of a network whose weights are those of a ``Supernet``."""


def _counted(cost: str, name: str) -> Measure:
    return Measure(
        validation_column=f"proxy_{cost}",
        test_column=ACCURACY.test_column,
        name=f"number of {name}",
        short_name=f"number of {name}",
        plural=f"numbers of {name}",
        axis_label=name,
        column_heading=name,
        better=f"has more {name}",
        worse=f"has fewer {name}",
        is_share=False,
    )


COUNTS = {"params": _counted("params", "parameters"), "macs": _counted("macs", "MACs")}
"""The measures that stand in for accuracy by counting, by the cost that they count."""


def infer_measure_from_names(names: Container[str]) -> Measure:
    """The measure that some column names or keys belong to.

    Args:
        names: the columns of a table, or the keys of a result or of an evaluation.
    """
    for measure in (SHARED_ACCURACY, *COUNTS.values()):
        if measure.validation_column in names:
            return measure
    precision = mean_average_precision()
    found = precision.validation_column in names or precision.test_column in names
    return precision if found else ACCURACY


def infer_measure(rows: pd.DataFrame, field: str = "rows") -> Measure:
    """The measure of a table of results, trials or evidence, or of a summary.

    Args:
        rows: the table.
        field: what an error calls it, the argument of a caller.

    Raises:
        ValueError: it is no DataFrame.
    """
    if not hasattr(rows, "columns"):
        raise FieldError(field, type(rows).__name__, "must be a DataFrame")
    measure = infer_measure_from_names(rows.columns)
    if measure == ACCURACY or MAP_AT not in rows or rows[MAP_AT].nunique() != 1:
        return measure
    return mean_average_precision(int(rows[MAP_AT].dropna().iloc[0]))
