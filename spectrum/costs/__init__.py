"""What a network costs: counted exactly, and the width that meets a budget."""

from spectrum.costs.budget import Match, build_on_meta, match_budget, reference
from spectrum.costs.count import Costs, count_costs, count_parameters

__all__ = [
    "Costs",
    "Match",
    "build_on_meta",
    "count_costs",
    "count_parameters",
    "match_budget",
    "reference",
]
