"""What the tests of the benchmarks share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from spectrum.bench import roofline
from spectrum.bench.__main__ import main


class Said(NamedTuple):
    status: int
    out: str
    err: str


Bench = Callable[..., Said]


@pytest.fixture
def _quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ceilings measured with small matrices and buffers: their values don't matter here."""
    monkeypatch.setattr(roofline, "_SIDES", {"cpu": (32, 64)})
    monkeypatch.setattr(roofline, "_BUFFERS", (2**16,))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Call the command in this process."""

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["spectrum.bench", *arguments])
        return Said(main(), *capsys.readouterr())

    return call
