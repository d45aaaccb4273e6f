"""The list of planned runs: what is missing is said, and a damaged list is named."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from spectrum.analysis.checksums import write_checksums
from spectrum.analysis.planned import PLANNED, find_missing
from spectrum.errors import DamagedFile


def write_planned(folder: Path, runs: int) -> None:
    planned = [{"run_id": str(i), "name": f"segments {i}, seed 0"} for i in range(runs)]
    (folder / PLANNED).write_text(json.dumps(planned))


@pytest.mark.parametrize(
    ("planned", "done", "said"),
    [
        (12, range(9), "3 of 12 runs are missing: segments 9, seed 0; segments 10, seed 0; "),
        (2, [1], "1 of 2 runs is missing: segments 0, seed 0"),
        (1, [], "1 of 1 run is missing: segments 0, seed 0"),
        (1200, [0], "1,199 of 1,200 runs are missing: segments 1, seed 0; segments 2, seed 0; "),
    ],
)
def test_what_is_missing_is_said(planned: int, done: list[int], said: str, tmp_path: Path) -> None:
    write_planned(tmp_path, planned)
    missing = find_missing(tmp_path, pd.DataFrame({"run_id": [*map(str, done)]}))
    assert str(missing).startswith(said)
    assert (planned > 100) == str(missing).endswith("; and 1,196 more")
    assert missing.done == f"{len(done):,} of {planned:,} run{'s' * (planned > 1)}"


def test_nothing_is_missing_without_a_list_or_with_all_runs(tmp_path: Path) -> None:
    rows = pd.DataFrame({"run_id": ["0", "1", "more"]})
    assert find_missing(tmp_path, rows).names == []
    write_planned(tmp_path, 2)
    assert find_missing(tmp_path, rows).names == []


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[{"run_id": 1, "name": ""}]', "[" * 10**5])
def test_a_damaged_list_is_named(content: str, tmp_path: Path) -> None:
    rows = pd.DataFrame({"run_id": ["0"]})
    (tmp_path / PLANNED).write_text(content)
    with pytest.raises(DamagedFile, match=r"planned\.json is damaged: "):
        find_missing(tmp_path, rows)
    write_checksums(tmp_path, [PLANNED])
    write_planned(tmp_path, 1)
    with pytest.raises(DamagedFile, match=r"planned\.json is damaged: it has changed since"):
        find_missing(tmp_path, rows)
    (tmp_path / PLANNED).unlink()
    with pytest.raises(DamagedFile, match=r"planned\.json is damaged: it is missing"):
        find_missing(tmp_path, rows)
