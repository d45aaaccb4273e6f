"""Fixtures for the tests of the benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from spectrum.bench import roofline
from spectrum.bench.__main__ import main


class Result(NamedTuple):
    status: int
    out: str
    err: str


Bench = Callable[..., Result]


@pytest.fixture
def _quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the ceilings with small tensors, since their values don't matter."""
    monkeypatch.setattr(roofline, "_SIDES", {"cpu": (32, 64)})
    monkeypatch.setattr(roofline, "_BUFFERS", (2**16,))
    monkeypatch.setattr(roofline, "_CONVOLUTIONS", {"cpu": ((4, 5),)})


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Run the command in this process."""

    def call(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["spectrum.bench", *arguments])
        return Result(main(), *capsys.readouterr())

    return call
