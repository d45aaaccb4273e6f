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
from pydantic import TypeAdapter

import spectrum
from spectrum.costs.rows import Costs
from spectrum.errors import DamagedFile
from spectrum.files import cache_folder, checked_json, read_checked_json, write_cached
from spectrum.networks import NetworkConfig

_LOG = logging.getLogger(__name__)
_COSTS = TypeAdapter(Costs)
# The sources that a count depends on, besides its configuration and the version of torch.
_SOURCES = ("layers/*.py", "networks/*.py", "costs/*.py", "segments.py")


def cached_costs(
    config: NetworkConfig, shape: tuple[int, int, int], count: Callable[[], Costs]
) -> Costs:
    """The costs of a network, from the cache, or from ``count`` if they aren't there."""
    folder = cache_folder("costs")
    if folder is None:
        return count()
    key = [config.model_dump(mode="json"), shape, _hash_of_sources(), torch.__version__]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = folder / f"{name}.json"
    try:
        values = read_checked_json(path)
        if values.pop("key", None) != name:
            raise DamagedFile(path, "it is the count of something else")
        return _COSTS.validate_json(json.dumps(values), strict=True)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        _LOG.info("the count is made again: %s", error)
    costs = count()
    text = checked_json(_COSTS.dump_python(costs, mode="json") | {"key": name})
    write_cached(path, lambda file: file.write(text))
    return costs


@cache
def _hash_of_sources() -> str:
    package = Path(spectrum.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in package.glob(pattern)):
        digest.update(path.read_bytes())
    return digest.hexdigest()
