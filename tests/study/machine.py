"""A machine to measure latencies on, in place of the one that the tests run on."""

from __future__ import annotations

import random
from typing import Any

import pytest

from spectrum.costs import Conditions, Yardstick, count_config
from spectrum.networks import NetworkConfig

SHAPE = (1, 8, 8)


class Machine:
    """A machine with a speed, on which no two measurements are equal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rng = random.Random(0)
        self.measured: list[tuple[str, Conditions]] = []
        monkeypatch.setattr("spectrum.costs.latency._take_turns", self._take_turns)
        monkeypatch.setattr("spectrum.study.latency.measure_yardstick", self._measure)

    def seconds(self, config: NetworkConfig, precision: str) -> float:
        noise = 1 + 0.01 * self.rng.random()
        macs = count_config(config, SHAPE).macs
        return noise * (2e-4 + macs / (4e9 if precision == "bfloat16" else 1e9))

    def _measure(self, config: NetworkConfig, shape: Any, conditions: Conditions) -> Yardstick:
        self.measured.append((config.segments, conditions))
        seconds = self.seconds(config, conditions.precision)
        return Yardstick(config, shape, conditions, seconds)

    def _take_turns(
        self, _: object, config: NetworkConfig, _shape: object, conditions: Conditions, _s: float
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        self.measured.append((config.segments, conditions))
        beside = config.model_copy(update={"segments": "C", "width": 1.0})
        own = self.seconds(config, conditions.precision)
        return (own,) * 3, (self.seconds(beside, "float32"),) * 3
