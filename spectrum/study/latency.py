"""Latencies of a study's networks on this machine: each is measured once and kept in the store.

A width that is solved by latency is part of what names a run, and no two measurements are equal.
So what was measured stands in ``latency/`` of the store, by all that it depends on, and whoever
asks again gets the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from spectrum.costs import (
    LATENCY_BATCH,
    Conditions,
    LatencyMatch,
    Yardstick,
    latency_beside,
    match_latency,
    measure_yardstick,
    reference,
)
from spectrum.networks import NetworkConfig, build, code_fingerprint, is_code
from spectrum.study.grid import GridConfig
from spectrum.study.store import write_json
from spectrum.training import Precision

__all__ = ["Meter", "conditions_of", "make_meter", "processor"]

log = logging.getLogger(__name__)


class _Kept(BaseModel):
    """What a file holds: milliseconds, and of a match the miss and the width that was solved."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    latency: float
    miss: float | None = None
    width: float | None = None


@dataclass(frozen=True)
class Meter:
    """What measures latencies, in milliseconds, and keeps them.

    Attributes:
        root: the folder of the store.
        yardstick: what networks are timed beside.
        conditions: under which they run.
    """

    root: Path
    yardstick: Yardstick
    conditions: Conditions

    @property
    def budget(self) -> float:
        """The latency of the yardstick."""
        return 1000 * self.yardstick.latency

    def latency(self, network: NetworkConfig, shape: tuple[int, int, int]) -> float:
        """The latency of a network.

        Raises:
            ValueError: it can't be built or take the images.
        """

        def measure() -> _Kept:
            found = latency_beside(self.yardstick, network, shape, self.conditions)
            return _Kept(latency=1000 * found)

        return _kept(self.root, self._key(network, shape), measure).latency

    def match(
        self, network: NetworkConfig, shape: tuple[int, int, int], budget: float | None
    ) -> tuple[NetworkConfig, float, float]:
        """The network at the width that takes as long as the budget.

        Args:
            network: its own width is ignored.
            shape: of one image.
            budget: in milliseconds; None for the yardstick's.

        Returns:
            The network, its miss of the budget and its latency.

        Raises:
            ValueError: no width comes near, or the network can't be built or take the images.
        """

        def measure() -> _Kept:
            seconds = None if budget is None else budget / 1000
            found: LatencyMatch = match_latency(
                self.yardstick, network, shape, self.conditions, latency=seconds
            )
            return _Kept(latency=1000 * found.latency, miss=found.miss, width=found.config.width)

        without_width = network.model_copy(update={"width": 1.0})
        key = {**self._key(without_width, shape), "budget": budget or "the yardstick's"}
        kept = _kept(self.root, key, measure)
        assert kept.width is not None
        assert kept.miss is not None
        return network.model_copy(update={"width": kept.width}), kept.miss, kept.latency

    def _key(self, network: NetworkConfig, shape: tuple[int, int, int]) -> dict[str, Any]:
        beside = asdict(self.yardstick) | {"config": _plain(self.yardstick.config)}
        return _what(network, shape, self.conditions) | {"beside": beside}


def conditions_of(config: GridConfig, precision: Precision, channels_last: bool) -> Conditions:
    """How the runs of a study or search compute, on the first of its devices."""
    device = config.device
    if device in ("auto", "cuda"):
        device = "cuda:0" if torch.cuda.is_available() or device == "cuda" else "cpu"
    return Conditions(device, config.threads, precision, channels_last)


def make_meter(
    root: Path, network: NetworkConfig, shape: tuple[int, int, int], conditions: Conditions
) -> Meter:
    """A meter whose yardstick is a network at ``"C"`` and width 1, measured or known already.

    Raises:
        ValueError: the network can't be built or take the images.
    """
    config = reference(network)

    def measure() -> _Kept:
        return _Kept(latency=1000 * measure_yardstick(config, shape, conditions).latency)

    kept = _kept(root, _what(config, shape, conditions), measure)
    return Meter(root, Yardstick(config, shape, conditions, kept.latency / 1000), conditions)


def processor(device: str) -> str:
    """What computes on a device: the name of the GPU, or of the CPU with its cores."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores"


def _what(
    network: NetworkConfig, shape: tuple[int, int, int], conditions: Conditions
) -> dict[str, Any]:
    """All that a latency depends on, as plain values."""
    code = code_fingerprint(network.name, build(network)) if is_code(network.name) else ""
    return {
        "network": _plain(network),
        **({"code": code} if code else {}),
        "shape": list(shape),
        "batch": LATENCY_BATCH,
        "conditions": asdict(conditions),
        "processor": processor(conditions.device),
        "torch": torch.__version__,
    }


def _plain(network: NetworkConfig) -> dict[str, Any]:
    return network.model_dump(mode="json")


def _kept(root: Path, key: dict[str, Any], measure: Callable[[], _Kept]) -> _Kept:
    """What was measured under a key, from its file or else now."""
    text = json.dumps(key, sort_keys=True)
    folder = root / "latency"
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    found = _read(path)
    if found is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    # One at a time: processes that measure at once would measure each other.
    with FileLock(folder / ".lock"):
        found = _read(path)
        if found is None:
            found = measure()
            write_json(path, found.model_dump(mode="json", exclude_none=True) | {"of": key})
    return found


def _read(path: Path) -> _Kept | None:
    try:
        return _Kept.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        log.warning("%s is damaged, the latency is measured again", path)
        return None
