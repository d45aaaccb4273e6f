from .comparison import compare_points
from .config import StudyConfig
from .results import load_curves, load_results
from .study import run_study

__all__ = [
    "StudyConfig",
    "compare_points",
    "load_curves",
    "load_results",
    "run_study",
]
