"""Latencies of networks on this machine, each measured once and kept in the store.

A width that is solved for a latency is part of a run's id, and no two measurements are equal. So
every measurement is kept in ``latency/`` of the store under a hash of everything that it depends
on, and the same question always gets the same answer: the same study gets the same runs.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

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
from spectrum.errors import DamagedFile, first_field_error, printable
from spectrum.files import read_checked_json, write_checked_json
from spectrum.machine import device_name
from spectrum.networks import MAX_WIDTH, NetworkConfig, build, code_fingerprint, is_user_code
from spectrum.training import Precision

log = logging.getLogger(__name__)
MAX_MILLISECONDS = 1e9


class _Measurement(BaseModel):
    """The content of a file: a latency in milliseconds."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    latency: float = Field(gt=0, le=MAX_MILLISECONDS)


class _Match(_Measurement):
    """The content of the file of a match: also its miss of the budget and the solved width."""

    miss: float = Field(ge=-1, le=1)
    width: float = Field(gt=0, le=MAX_WIDTH)


_Kind = TypeVar("_Kind", bound=_Measurement)


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

        return _measure_once(self.root, self._key(network, shape), measure, _Measurement).latency

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

        def measure() -> _Match:
            seconds = None if budget is None else budget / 1000
            found: LatencyMatch = match_latency(
                self.reference, network, shape, self.conditions, latency=seconds
            )
            return _Match(latency=1000 * found.latency, miss=found.miss, width=found.config.width)

        without_width = network.model_copy(update={"width": 1.0})
        # This text is hashed. With another one no stored width would be found, and runs would get
        # new widths and ids.
        key = {**self._key(without_width, shape), "budget": budget or "the yardstick's"}
        found = _measure_once(self.root, key, measure, _Match)
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

    found = _measure_once(root, _base_key(config, shape, conditions), measure, _Measurement)
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
    root: Path, key: dict[str, Any], measure: Callable[[], _Kind], kind: type[_Kind]
) -> _Kind:
    """Read the measurement with this key from its file, or measure and write it.

    A file that can't be read or written, or a full disk, is logged.
    """
    folder = root / "latency"
    path = folder / f"{hash_key(key)}.json"
    found = _read_measurement(path, key, kind, logging.DEBUG)
    if found is not None:
        return found
    # Processes that measured at the same time would slow each other down.
    with _locked(folder):
        found = _read_measurement(path, key, kind, logging.WARNING)
        if found is None:
            found = measure()
            try:
                write_checked_json(path, {**found.model_dump(mode="json"), "of": key})
            except OSError as error:
                log.warning("%s: it is measured again in each command", _unkept(error))
    return found


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of latencies; where it can't be locked, that is logged."""
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / ".lock"))
        except OSError as error:
            log.warning("%s: other processes may measure at the same time", _unkept(error))
        yield


def _unkept(error: OSError) -> str:
    return printable(f"the latency can't be kept in {error.filename} ({error.strerror})")


def _read_measurement(
    path: Path, key: dict[str, Any], kind: type[_Kind], level: int
) -> _Kind | None:
    """Read a file; one that is damaged is logged at a level, and None is returned."""
    try:
        values = read_checked_json(path, unchecked=True)
        if values.pop("of", None) != json.loads(json.dumps(key)):
            raise DamagedFile(path, "it is the latency of something else")
        try:
            return kind.model_validate(values)
        except ValidationError as error:
            raise DamagedFile(path, str(first_field_error(error))) from error
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DamagedFile as error:
        log.log(level, "%s; the latency is measured again", error)
        return None
