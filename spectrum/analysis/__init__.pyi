from .comparison import compare, comparison_columns
from .front import pareto_front
from .measure import Measure, infer_measure
from .published import load_published
from .sentences import state_evidence
from .statistics import mean_interval, summarize
from .trials import hypervolume, search_front, search_progress

__all__ = [
    "Measure",
    "compare",
    "comparison_columns",
    "hypervolume",
    "infer_measure",
    "load_published",
    "mean_interval",
    "pareto_front",
    "search_front",
    "search_progress",
    "state_evidence",
    "summarize",
]
