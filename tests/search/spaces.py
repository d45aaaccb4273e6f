"""Spaces of searches that are played without training."""

from __future__ import annotations

from typing import Any

from spectrum.search import SearchConfig
from spectrum.search.space import Space, make_space


def space_of(**fields: Any) -> Space:
    """The space of a search of ``tiny`` whose costs aren't matched."""
    return make_space(SearchConfig(**{"match": "none", "network": "tiny", **fields}))
