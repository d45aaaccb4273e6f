from .benchmark import load_benchmark
from .comparison import compare, comparison_columns
from .evidence import compare_pairs, training_gains
from .folder import load_curves, load_results
from .front import pareto_front
from .measure import Measure, infer_measure
from .order import compare_orders
from .planned import MissingRuns
from .populations import error_distribution, likely_best, segment_width_trend
from .published import load_published
from .sentences import state_evidence
from .statistics import mean_interval, summarize
from .studies import compare_points
from .trials import hypervolume, search_front, search_progress

__all__ = [
    "Measure",
    "MissingRuns",
    "compare",
    "compare_orders",
    "compare_pairs",
    "compare_points",
    "comparison_columns",
    "error_distribution",
    "hypervolume",
    "infer_measure",
    "likely_best",
    "load_benchmark",
    "load_curves",
    "load_published",
    "load_results",
    "mean_interval",
    "pareto_front",
    "search_front",
    "search_progress",
    "segment_width_trend",
    "state_evidence",
    "summarize",
    "training_gains",
]
