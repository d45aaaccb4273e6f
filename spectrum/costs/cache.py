"""Counts kept on disk by configuration, so that nothing is counted twice.

Where a file is missing, damaged or can't be written, the network is counted again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError

import spectrum
from spectrum.costs.rows import Costs
from spectrum.files import cache_folder, write_cached
from spectrum.networks import NetworkConfig

__all__ = ["cached_costs"]

_LOG = logging.getLogger(__name__)
_COSTS = TypeAdapter(Costs)
# The sources that a count depends on, besides its configuration and the version of torch.
_SOURCES = ("layers/*.py", "networks/*.py", "costs/*.py", "segments.py")


def cached_costs(
    config: NetworkConfig, shape: tuple[int, int, int], count: Callable[[], Costs]
) -> Costs:
    """The costs of a network, from the cache, or from ``count`` if they aren't there."""
    path = _path(config, shape)
    if path is None:
        return count()
    cached = _read(path)
    if cached is not None:
        return cached
    costs = count()
    write_cached(path, lambda file: file.write(_COSTS.dump_json(costs)))
    return costs


def _path(config: NetworkConfig, shape: tuple[int, int, int]) -> Path | None:
    """The file of a count; None if there is no cache folder or the sources can't be read."""
    folder = cache_folder("costs")
    if folder is None:
        return None
    try:
        sources = _hash_of_sources()
    except OSError as error:
        _LOG.info("counts aren't cached: %s", error)
        return None
    key = [config.model_dump(mode="json"), shape, sources, torch.__version__]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    return folder / f"{name}.json"


@cache
def _hash_of_sources() -> str:
    package = Path(spectrum.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in package.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> Costs | None:
    try:
        return _COSTS.validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        _LOG.info("the cached count %s can't be read: %s", path, error)
        return None
