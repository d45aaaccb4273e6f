from .config import RunConfig
from .load import load_run
from .point import Point
from .sandwich import Sandwich, score
from .shared_training import SharedTraining
from .store import Store

__all__ = [
    "Point",
    "RunConfig",
    "Sandwich",
    "SharedTraining",
    "Store",
    "load_run",
    "score",
]
