"""torchvision and timm, importable beside a build of torch that lacks torchvision's operators."""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType

import torch

__all__ = ["import_peer"]

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def import_peer(name: str) -> ModuleType | None:
    """Torchvision or timm, or None where it isn't installed.

    torchvision's wheel registers detection operators as it is imported, which fails where their
    compiled part doesn't load. No classifier calls them, so they are declared without one.
    """
    while True:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            return None
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise
            _LIBRARY.define(f"{missing[1]}(Tensor x) -> Tensor")
            for module in [m for m in sys.modules if m.split(".")[0] in ("torchvision", "timm")]:
                del sys.modules[module]
