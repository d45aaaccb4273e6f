from .config import SearchConfig
from .search import SearchResult, run_search
from .table import load_trials

__all__ = [
    "SearchConfig",
    "SearchResult",
    "load_trials",
    "run_search",
]
