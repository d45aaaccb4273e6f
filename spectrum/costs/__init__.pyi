from .batch_size import find_batch_size
from .budget import Match, match_budget, reference_config
from .choices import Matching, MeasuredPrecision
from .count import count_costs, count_parameters
from .fast import count_config
from .grid import CostGrid, cost_grid, cost_rows
from .latency import (
    LATENCY_BATCH,
    LatencyConditions,
    LatencyMatch,
    Reference,
    match_latency,
    measure_latency,
    measure_reference,
)
from .measure import MeasuredCosts, measure_costs
from .rows import Costs
from .timing import Ratio, Timing, checked_device, ratio, time_interleaved
from .workload import Workload, make_workload, preserve_rng_state

__all__ = [
    "LATENCY_BATCH",
    "CostGrid",
    "Costs",
    "LatencyConditions",
    "LatencyMatch",
    "Match",
    "Matching",
    "MeasuredCosts",
    "MeasuredPrecision",
    "Ratio",
    "Reference",
    "Timing",
    "Workload",
    "checked_device",
    "cost_grid",
    "cost_rows",
    "count_config",
    "count_costs",
    "count_parameters",
    "find_batch_size",
    "make_workload",
    "match_budget",
    "match_latency",
    "measure_costs",
    "measure_latency",
    "measure_reference",
    "preserve_rng_state",
    "ratio",
    "reference_config",
    "time_interleaved",
]
