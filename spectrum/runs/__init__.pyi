from .config import RunConfig
from .point import Point
from .store import Store, load_run

__all__ = [
    "Point",
    "RunConfig",
    "Store",
    "load_run",
]
