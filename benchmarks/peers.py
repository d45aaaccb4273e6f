"""Imports torchvision and timm, even with a torch that torchvision's operators don't match."""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType

import torch
from torch import nn

__all__ = ["import_peer", "timm_inception_v3", "timm_xception"]

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def import_peer(name: str) -> ModuleType | None:
    """Import torchvision or timm; None if it isn't installed.

    When torchvision is imported, it registers detection operators. This fails if their compiled
    part doesn't load. No classifier calls them, so they are declared here without that part.
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


def timm_xception(num_classes: int = 1000) -> nn.Module:
    """Timm's Xception, for ``python -m spectrum.bench network peers:timm_xception``."""
    return _of_timm("legacy_xception", num_classes)


def timm_inception_v3(num_classes: int = 1000) -> nn.Module:
    """Timm's Inception V3 without the auxiliary head."""
    return _of_timm("inception_v3", num_classes)


def _of_timm(name: str, num_classes: int) -> nn.Module:
    timm = import_peer("timm")
    if timm is None:
        raise ImportError("timm must be installed: see benchmarks/requirements.txt")
    network: nn.Module = timm.create_model(name, num_classes=num_classes)
    return network
