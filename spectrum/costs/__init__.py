"""What a network costs: counted exactly, and the width that meets a budget."""

from spectrum.costs.budget import Match, build_on_meta, match_budget, reference
from spectrum.costs.count import Costs, count_costs, count_parameters
from spectrum.costs.fast import count_config
from spectrum.costs.grid import CostGrid, Matching, cost_grid
from spectrum.costs.rows import cost_rows

__all__ = [
    "CostGrid",
    "Costs",
    "Match",
    "Matching",
    "build_on_meta",
    "cost_grid",
    "cost_rows",
    "count_config",
    "count_costs",
    "count_parameters",
    "match_budget",
    "reference",
]
