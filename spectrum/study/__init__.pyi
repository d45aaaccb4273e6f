from .config import StudyConfig
from .study import run_study

__all__ = [
    "StudyConfig",
    "run_study",
]
