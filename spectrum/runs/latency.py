"""Latencies of networks on this machine, each measured once and kept in the store.

A width that is solved for a latency is part of a run's id, and no two measurements are equal. So
every measurement is kept in ``latency/`` of the store under a hash of everything that it depends
on, and the same question always gets the same answer: the same study gets the same runs.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, PositiveFloat

from spectrum.costs import (
    LATENCY_BATCH,
    LatencyConditions,
    LatencyMatch,
    Reference,
    match_latency,
    measure_latency,
    measure_reference,
    reference_config,
)
from spectrum.errors import DamagedFile
from spectrum.files import read_checked_json, write_checked_json
from spectrum.machine import device_name
from spectrum.networks import NetworkConfig, build, code_fingerprint, is_user_code
from spectrum.training import Precision

log = logging.getLogger(__name__)


class _Measurement(BaseModel):
    """The content of a file: a latency in milliseconds and, for a match, the miss and the width."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    latency: PositiveFloat
    miss: float | None = None
    width: PositiveFloat | None = None


@dataclass(frozen=True)
class LatencyCache:
    """Measures latencies in milliseconds per batch, and keeps them in the store.

    Attributes:
        root: the folder of the store.
        reference: the network that all others are timed beside.
        conditions: the device, threads, precision and layout of the networks that are timed.
    """

    root: Path
    reference: Reference
    conditions: LatencyConditions

    @property
    def budget(self) -> float:
        """The latency of the reference network."""
        return 1000 * self.reference.latency

    def latency(self, network: NetworkConfig, shape: tuple[int, int, int]) -> float:
        """The latency of a network.

        Raises:
            ValueError: the network can't be built or can't process the images.
        """

        def measure() -> _Measurement:
            seconds = measure_latency(self.reference, network, shape, self.conditions)
            return _Measurement(latency=1000 * seconds)

        return _measure_once(self.root, self._key(network, shape), measure).latency

    def match(
        self, network: NetworkConfig, shape: tuple[int, int, int], budget: float | None
    ) -> tuple[NetworkConfig, float, float]:
        """Solve the width at which a network's latency is the budget.

        Args:
            network: the network. Its own width is ignored.
            shape: the shape of one image, (C, H, W).
            budget: the latency in milliseconds; None for that of the reference network.

        Returns:
            The network with its width solved, its miss of the budget and its latency.

        Raises:
            ValueError: no width comes near the budget, or the network can't be built or can't
                process the images.
        """

        def measure() -> _Measurement:
            seconds = None if budget is None else budget / 1000
            found: LatencyMatch = match_latency(
                self.reference, network, shape, self.conditions, latency=seconds
            )
            return _Measurement(
                latency=1000 * found.latency, miss=found.miss, width=found.config.width
            )

        without_width = network.model_copy(update={"width": 1.0})
        # This text is hashed. With another one no stored width would be found, and runs would get
        # new widths and ids.
        key = {**self._key(without_width, shape), "budget": budget or "the yardstick's"}
        found = _measure_once(self.root, key, measure)
        assert found.width is not None
        assert found.miss is not None
        return network.model_copy(update={"width": found.width}), found.miss, found.latency

    def _key(self, network: NetworkConfig, shape: tuple[int, int, int]) -> dict[str, Any]:
        # Also hashed, for the same reason: "beside" and the names of Reference's fields.
        beside = asdict(self.reference) | {"config": _plain(self.reference.config)}
        return _base_key(network, shape, self.conditions) | {"beside": beside}


def run_conditions(
    device: str, threads: int, precision: Precision, channels_last: bool
) -> LatencyConditions:
    """The conditions under which runs of a study or search compute, on its first device."""
    if device in ("auto", "cuda"):
        device = "cuda:0" if torch.cuda.is_available() or device == "cuda" else "cpu"
    return LatencyConditions(device, threads, precision, channels_last)


def make_latency_cache(
    root: Path, network: NetworkConfig, shape: tuple[int, int, int], conditions: LatencyConditions
) -> LatencyCache:
    """Make a cache whose reference is a network at ``"C"`` and width 1, timed unless it is known.

    Args:
        root: the folder of the store.
        network: the network. Its own segments and width are ignored.
        shape: the shape of one image, (C, H, W).
        conditions: the conditions of the reference, and of the networks timed beside it.

    Raises:
        ValueError: the network can't be built or can't process the images.
    """
    config = reference_config(network)

    def measure() -> _Measurement:
        return _Measurement(latency=1000 * measure_reference(config, shape, conditions).latency)

    found = _measure_once(root, _base_key(config, shape, conditions), measure)
    reference = Reference(config, shape, conditions, found.latency / 1000)
    return LatencyCache(root, reference, conditions)


def _base_key(
    network: NetworkConfig, shape: tuple[int, int, int], conditions: LatencyConditions
) -> dict[str, Any]:
    """What every latency depends on, as plain values; its JSON is hashed, so no key may change."""
    code = code_fingerprint(network.name, build(network)) if is_user_code(network.name) else ""
    return {
        "network": _plain(network),
        **({"code": code} if code else {}),
        "shape": list(shape),
        "batch": LATENCY_BATCH,
        "conditions": asdict(conditions),
        "processor": device_name(conditions.device),
        "torch": torch.__version__,
    }


def _plain(network: NetworkConfig) -> dict[str, Any]:
    # Without fields at their default, so that a field that is added later changes no key.
    return network.model_dump(mode="json", exclude_defaults=True)


def hash_key(key: dict[str, Any]) -> str:
    """The name of the file of a measurement that depends on ``key``."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def _measure_once(
    root: Path, key: dict[str, Any], measure: Callable[[], _Measurement]
) -> _Measurement:
    """Read the measurement with this key from its file, or measure and write it."""
    folder = root / "latency"
    path = folder / f"{hash_key(key)}.json"
    found = _read_measurement(path, key)
    if found is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    # Processes that measured at the same time would slow each other down.
    with FileLock(folder / ".lock"):
        found = _read_measurement(path, key)
        if found is None:
            found = measure()
            values = found.model_dump(mode="json", exclude_none=True)
            write_checked_json(path, values | {"of": key})
    return found


def _read_measurement(path: Path, key: dict[str, Any]) -> _Measurement | None:
    try:
        values = read_checked_json(path, unchecked=True)
        if values.pop("of", None) != json.loads(json.dumps(key)):
            raise DamagedFile(path, "it is the latency of something else")
        return _Measurement.model_validate(values)
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s; the latency is measured again", error)
        return None
