"""Counts on the disk, by configuration: what was counted once isn't counted again.

A file is a hint: one that is missing, damaged or can't be written is counted afresh.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import spectrum
from spectrum.costs.count import Costs
from spectrum.networks import NetworkConfig

__all__ = ["cached"]

_LOG = logging.getLogger(__name__)
# What a count depends on besides its configuration and the version of torch.
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
    """What a file holds of ``Costs``; the other totals are sums over the table."""

    model_config = ConfigDict(strict=True, extra="forbid")

    fvcore_total: int
    table: list[_Row] = Field(min_length=1)


def cached(config: NetworkConfig, shape: tuple[int, int, int], count: Callable[[], Costs]) -> Costs:
    """The costs of a network at an input, from the cache or else from ``count``."""
    path = _path(config, shape)
    if path is None:
        return count()
    costs = _read(path)
    if costs is None:
        costs = count()
        _write(path, costs)
    return costs


def _path(config: NetworkConfig, shape: tuple[int, int, int]) -> Path | None:
    """The file of a count in the user's cache directory; None where there is no such directory."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # The standard has it that a relative path is ignored.
        folder = given if given.is_absolute() else Path.home() / ".cache"
        what = [config.model_dump(mode="json"), shape, _hash_of_sources(), torch.__version__]
    except (OSError, RuntimeError) as error:
        _LOG.info("counts aren't cached: %s", error)
        return None
    name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
    return folder / "spectrum" / "costs" / f"{name}.json"


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Renamed when it is whole: another process may read it at any time.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / path.name
            part.write_text(counted.model_dump_json())
            os.replace(part, path)
    except OSError as error:
        _LOG.info("the count %s can't be cached: %s", path, error)
