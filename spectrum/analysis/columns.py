"""The columns of the tables of results, each declared once."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

from spectrum.analysis.measure import mean_average_precision
from spectrum.data.config import DataConfig
from spectrum.fields import column_name, field_facts

Role: TypeAlias = Literal["run", "point", "cost", "measured"]

STATUSES = ("done", "diverged", "failed", "out_of_memory", "io_error", "stopped")
"""The statuses of runs. Only a run that is done has measured everything."""

ACTIVATIONS = "activations"
"""The outputs of convolutions and linear layers for one image, where they are limited or a goal."""

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
        low: the least number that it may hold.
        high: the largest number that it may hold.
        is_whole: whether its numbers are whole.
        is_truth: whether its values are True and False.
    """

    name: str
    role: Role
    is_text: bool = False
    field: tuple[str, str] = ("", "")
    low: float = -math.inf
    high: float = math.inf
    is_whole: bool = False
    is_truth: bool = False


_PRECISION = mean_average_precision()
ORIGIN = tuple(
    Column(name, "measured", is_text=True)
    for name in ("processor", "cpu_capability", "python", "torch", "spectrum", "plans")
)
"""Where and how a run was computed. Earlier results lack some or all of these columns."""

ROW = (
    Column("run_id", "run", is_text=True),
    Column("study", "run", is_text=True),
    Column("network", "point", is_text=True, field=("network", "name")),
    Column("data", "point", is_text=True, field=("data", "name")),
    Column("order", "point", is_text=True, field=("network", "order")),
    Column("segments", "point", is_text=True, field=("network", "segments")),
    Column("match", "run", is_text=True),
    Column("activation", "point", is_text=True, field=("network", "activation")),
    Column("residual", "point", field=("network", "residual"), is_truth=True),
    Column("hidden", "point", is_text=True, field=("network", "hidden")),
    Column("dropout", "point", field=("network", "dropout"), low=0, high=1),
    Column("width", "point", field=("network", "width"), low=0),
    Column("recipe", "point", is_text=True, field=("recipe", "name")),
    Column("seed", "run", low=0, is_whole=True),
    Column("params", "cost", low=0, is_whole=True),
    Column("macs", "cost", low=0, is_whole=True),
    Column("epochs", "point", field=("recipe", "epochs"), low=1, is_whole=True),
    Column("val_top1", "measured", low=0, high=1),
    Column("test_top1", "measured", low=0, high=1),
    Column("test_top5", "measured", low=0, high=1),
    Column("test_loss", "measured", low=0),
    Column("train_seconds", "measured", low=0),
    Column("images_per_second", "measured", low=0),
    Column("device", "measured", is_text=True),
    Column("precision", "point", is_text=True, field=("", "precision")),
    Column("threads", "measured", low=1, is_whole=True),
    Column("status", "measured", is_text=True),
    Column("error", "measured", is_text=True),
)
"""The columns of every row of results, in their order. ``ORIGIN`` follows, then what varies."""

MULTI_LABEL = tuple(
    Column(name, "measured", low=0, high=1)
    for name in (_PRECISION.validation_column, _PRECISION.test_column)
)
"""Further columns if images have several labels."""

DRAWN = (
    Column("images_drawn", "cost", low=1, is_whole=True),
    Column("drawn_from", "cost", low=1, is_whole=True),
)
"""Further columns if each seed draws its images: how many it trains on, and out of how many."""

CURVE = (
    Column("run_id", "run", is_text=True),
    Column("epoch", "measured", low=1, is_whole=True),
    Column("samples", "measured", low=0, is_whole=True),
    Column("lr", "measured", low=0),
    Column("train_loss", "measured", low=0),
    Column("val_loss", "measured", low=0),
    Column("val_top1", "measured", low=0, high=1),
    Column("seconds", "measured", low=0),
)
"""The columns of learning curves."""

COMPARED = (
    "test_low",
    "test_high",
    "reference",
    "difference",
    "difference_low",
    "difference_high",
    "p_better",
    "p_best",
    "verdict",
    "worse_than",
    "close_to",
    "seeds_to_settle",
    "against",
    "equal_within",
    "look",
)
"""The columns of a comparison, after its numbers of runs and examples and the measure."""

COMPARED_TEXTS = ("reference", "verdict", "worse_than", "close_to", "against")
"""Those of them that hold text."""

GAIN = ("gain", "gain_low", "gain_high")
"""The columns of what the last third of training gained."""

_SUMMARY = (
    "runs",
    "seeds",
    "examples",
    "failed",
    "left_out",
    "val_low",
    "val_high",
    ACTIVATIONS,
    LATENCY,
    *COMPARED,
    *GAIN,
)
NOT_OF_POINT = {
    *(column.name for column in (*ROW, *ORIGIN, *MULTI_LABEL, *DRAWN) if column.role != "point"),
    *_SUMMARY,
}
"""The columns of results, summaries and evidence that aren't part of a point's configuration."""

TASK_COLUMNS = {
    column_name("data", field)
    for field in DataConfig.model_fields
    if field_facts(DataConfig, field).changes_task
}
"""The fields of the data that change what is classified, or the measure."""
