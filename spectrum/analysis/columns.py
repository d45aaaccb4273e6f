"""The columns of the tables of results, each declared once."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from spectrum.analysis.measure import mean_average_precision
from spectrum.data.config import DataConfig
from spectrum.fields import column_name, field_facts

Role: TypeAlias = Literal["run", "point", "cost", "measured"]

LATENCY = "latency"
"""The milliseconds per batch in inference, in studies that measure latency."""


class Column(NamedTuple):
    """A column of a row of results.

    Attributes:
        name: its name.
        role: what it says: which run this is, what the point is, what the network costs, or what
            the run measured. A failed run lacks what it didn't measure.
        is_text: whether its values are text.
        field: for a column of the point, the table and the name of its field.
    """

    name: str
    role: Role
    is_text: bool = False
    field: tuple[str, str] = ("", "")


_PRECISION = mean_average_precision()
ORIGIN = tuple(
    Column(name, "measured", is_text=True)
    for name in ("processor", "cpu_capability", "python", "torch", "spectrum")
)
"""Where a run was computed. Results that were written before these columns existed lack them."""

ROW = (
    Column("run_id", "run", is_text=True),
    Column("study", "run", is_text=True),
    Column("network", "point", is_text=True, field=("network", "name")),
    Column("data", "point", is_text=True, field=("data", "name")),
    Column("order", "point", is_text=True, field=("network", "order")),
    Column("segments", "point", is_text=True, field=("network", "segments")),
    Column("match", "run", is_text=True),
    Column("activation", "point", is_text=True, field=("network", "activation")),
    Column("residual", "point", field=("network", "residual")),
    Column("hidden", "point", is_text=True, field=("network", "hidden")),
    Column("dropout", "point", field=("network", "dropout")),
    Column("width", "point", field=("network", "width")),
    Column("recipe", "point", is_text=True, field=("recipe", "name")),
    Column("seed", "run"),
    Column("params", "cost"),
    Column("macs", "cost"),
    Column("epochs", "point", field=("recipe", "epochs")),
    Column("val_top1", "measured"),
    Column("test_top1", "measured"),
    Column("test_top5", "measured"),
    Column("test_loss", "measured"),
    Column("train_seconds", "measured"),
    Column("images_per_second", "measured"),
    Column("device", "measured", is_text=True),
    Column("precision", "point", is_text=True, field=("", "precision")),
    Column("threads", "measured"),
    Column("status", "measured", is_text=True),
    Column("error", "measured", is_text=True),
)
"""The columns of every row of results, in their order. ``ORIGIN`` follows, then what varies."""

MULTI_LABEL = tuple(
    Column(name, "measured") for name in (_PRECISION.validation_column, _PRECISION.test_column)
)
"""Further columns if images have several labels."""

CURVE_COLUMNS = (
    "run_id",
    "epoch",
    "samples",
    "lr",
    "train_loss",
    "val_loss",
    "val_top1",
    "seconds",
)
"""The columns of learning curves."""

COMPARED = (
    "test_low",
    "test_high",
    "reference",
    "difference",
    "difference_low",
    "difference_high",
    "p_best",
    "worse_than",
)
"""The columns of a comparison, after its numbers of runs and examples and the measure."""

_SUMMARY = ("runs", "examples", "failed", "left_out", "val_low", "val_high", LATENCY, *COMPARED)
NOT_OF_POINT = {
    *(column.name for column in (*ROW, *ORIGIN, *MULTI_LABEL) if column.role != "point"),
    *_SUMMARY,
}
"""The columns of results, summaries and evidence that aren't part of a point's configuration."""

TASK_COLUMNS = {
    column_name("data", field)
    for field in DataConfig.model_fields
    if field_facts(DataConfig, field).changes_task
}
"""The fields of the data that change what is classified, or the measure."""
