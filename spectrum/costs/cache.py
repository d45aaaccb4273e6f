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

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import spectrum
from spectrum.costs.count import Costs
from spectrum.files import cache_folder, write_cached
from spectrum.networks import NetworkConfig

__all__ = ["cached_costs"]

_LOG = logging.getLogger(__name__)
# The sources that a count depends on, besides its configuration and the version of torch.
_SOURCES = ("layers/*.py", "networks/*.py", "costs/*.py", "segments.py")


class _Row(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    layer: str
    kind: str
    output_shape: list[int]
    segments: int | None
    params: int
    macs: int
    activations: int
    share: float


class _Counted(BaseModel):
    """The content of a file: the table, and the fields of ``Costs`` that the table doesn't give."""

    model_config = ConfigDict(strict=True, extra="forbid")

    fvcore_total: int
    table: list[_Row] = Field(min_length=1)


def cached_costs(
    config: NetworkConfig, shape: tuple[int, int, int], count: Callable[[], Costs]
) -> Costs:
    """The costs of a network, from the cache, or from ``count`` if they aren't there."""
    path = _path(config, shape)
    if path is None:
        return count()
    costs = _read(path)
    if costs is None:
        costs = count()
        _write(path, costs)
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
        counted = _Counted.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        _LOG.info("the cached count %s can't be read: %s", path, error)
        return None
    rows = [{**dict(row), "output_shape": tuple(row.output_shape)} for row in counted.table]
    table = pd.DataFrame(rows).astype({"segments": "Int64"})
    return Costs(
        params=int(table["params"].sum()),
        macs=int(table["macs"].sum()),
        fvcore_total=counted.fvcore_total,
        activations=int(table["activations"].sum()),
        table=table,
    )


def _write(path: Path, costs: Costs) -> None:
    rows = [
        {**row, "segments": None if pd.isna(row["segments"]) else row["segments"]}
        for row in costs.table.to_dict("records")
    ]
    counted = _Counted.model_validate(
        {
            "fvcore_total": costs.fvcore_total,
            "table": [{**row, "output_shape": list(row["output_shape"])} for row in rows],
        }
    )
    write_cached(path, lambda file: file.write(counted.model_dump_json().encode()))
