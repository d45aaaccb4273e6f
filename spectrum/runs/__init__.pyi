from .config import RunConfig
from .load import load_run
from .point import Point
from .store import Store

__all__ = [
    "Point",
    "RunConfig",
    "Store",
    "load_run",
]
