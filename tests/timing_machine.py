"""A simulated machine, so that tests of latency don't depend on the real one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from spectrum.costs import LatencyConditions, Reference, count_config
from spectrum.networks import NetworkConfig

SHAPE = (1, 8, 8)


class SimulatedMachine:
    """A machine with a fixed speed and noisy timers, so that no two measurements are equal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rng = random.Random(0)
        self.measured: list[tuple[str, LatencyConditions]] = []
        monkeypatch.setattr("spectrum.costs.latency._time_in_turns", self._time_in_turns)
        monkeypatch.setattr("spectrum.runs.latency.measure_reference", self._measure)

    def seconds(self, config: NetworkConfig, precision: str) -> float:
        noise = 1 + 0.01 * self.rng.random()
        macs = count_config(config, SHAPE).macs
        return noise * (2e-4 + macs / (4e9 if precision == "bfloat16" else 1e9))

    def _measure(
        self, config: NetworkConfig, shape: Any, conditions: LatencyConditions
    ) -> Reference:
        self.measured.append((config.segments, conditions))
        seconds = self.seconds(config, conditions.precision)
        return Reference(config, shape, conditions, seconds)

    def _time_in_turns(
        self,
        _: object,
        config: NetworkConfig,
        _shape: object,
        conditions: LatencyConditions,
        _s: float,
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        self.measured.append((config.segments, conditions))
        reference = config.model_copy(update={"segments": "C", "width": 1.0})
        own = self.seconds(config, conditions.precision)
        return (own,) * 3, (self.seconds(reference, "float32"),) * 3
