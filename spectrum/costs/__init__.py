"""What a network costs: counted exactly, measured, and the width that meets a budget."""

from spectrum.costs.batch_size import find_batch_size
from spectrum.costs.budget import Match, build_on_meta, match_budget, reference
from spectrum.costs.count import Costs, count_costs, count_parameters
from spectrum.costs.fast import count_config
from spectrum.costs.grid import CostGrid, Matching, cost_grid
from spectrum.costs.latency import (
    LATENCY_BATCH,
    Conditions,
    LatencyMatch,
    Yardstick,
    latency_beside,
    match_latency,
    measure_yardstick,
)
from spectrum.costs.measure import MeasuredCosts, measure_costs
from spectrum.costs.memory import is_out_of_memory
from spectrum.costs.rows import cost_rows
from spectrum.costs.timing import Ratio, Timing, checked_device, ratio, time_interleaved
from spectrum.costs.workload import (
    MeasuredPrecision,
    Workload,
    keeping_random_state,
    make_workload,
)

__all__ = [
    "LATENCY_BATCH",
    "Conditions",
    "CostGrid",
    "Costs",
    "LatencyMatch",
    "Match",
    "Matching",
    "MeasuredCosts",
    "MeasuredPrecision",
    "Ratio",
    "Timing",
    "Workload",
    "Yardstick",
    "build_on_meta",
    "checked_device",
    "cost_grid",
    "cost_rows",
    "count_config",
    "count_costs",
    "count_parameters",
    "find_batch_size",
    "is_out_of_memory",
    "keeping_random_state",
    "latency_beside",
    "make_workload",
    "match_budget",
    "match_latency",
    "measure_costs",
    "measure_yardstick",
    "ratio",
    "reference",
    "time_interleaved",
]
