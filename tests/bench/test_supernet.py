"""The steps of a supernet beside those of its networks: what is timed, and what is printed."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from spectrum.bench.__main__ import main
from spectrum.bench.config import SupernetBenchConfig
from spectrum.bench.supernet import bench_supernet

SMALL = {"input": "1x8x8", "batch": 4, "widths": [0.1, 0.2], "seconds": 1e-9}


def test_memory_is_that_of_the_dense_network_if_it_is_the_only_one() -> None:
    alone = SMALL | {"segments": "1", "widths": [0.2], "members": 0}
    row = bench_supernet("tiny", SupernetBenchConfig.checked(alone))
    assert row["memory_ratio"] == pytest.approx(1, abs=0.02)
    assert row["step_ms"] > 0


def test_the_command_prints_and_writes_the_ratios(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = "--input 1x8x8 --batch 4 --widths 0.1,0.2 --segments 1,C --seconds 0.001 --threads 1"
    monkeypatch.setattr(sys, "argv", ["bench", "supernet", "tiny", *flags.split()])
    assert main() == 0
    assert "its networks" in capsys.readouterr().out
    (row,) = pd.read_csv("outputs/bench/supernet.csv").to_dict("records")
    assert row["memory_ratio"] == pytest.approx(row["step_memory"] / row["dense_memory"], rel=1e-4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--widths 0", "--widths (='0') must be greater than 0"),
        ("--segments 1,x", "--segments (='x') must be a whole number from 1"),
        ("--batch 0", "--batch (='0') must be greater than or equal to 1"),
        ("--widths 0.01,1 --segments 1,64", "--widths (=0.01) must leave one channel per segment"),
    ],
)
def test_bad_flags_are_one_line(
    flags: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "supernet", "tiny", *flags.split()])
    assert main() == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}")
    assert said.count("\n") == 1
