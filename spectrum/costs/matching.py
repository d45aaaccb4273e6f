"""The cost that is made equal for all points of a study."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Matching"]

Matching: TypeAlias = Literal["params", "macs", "latency", "none"]
"""``"none"`` leaves the width of a network alone; the others solve it for a budget of that cost."""
