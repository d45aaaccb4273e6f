"""Made-up results and evidence, for tests of figures and statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd
import pytest

Rows: TypeAlias = Callable[..., pd.DataFrame]


def _results(accuracies: Mapping[str, Sequence[float]], **fields: Any) -> pd.DataFrame:
    rows = [
        {
            "run_id": f"{fields}{point}{seed}",
            "study": "made up",
            "network": "tiny",
            "order": "spatial_first",
            "segments": point,
            "match": "params",
            "width": 0.1 * i,
            "residual": True,
            "seed": seed,
            "params": 79_000 + i,
            "macs": 2_000_000 * (i + 1),
            "val_top1": accuracy - 0.01,
            "test_top1": accuracy,
            "train_seconds": 2.0 + seed + i,
            "status": "failed" if math.isnan(accuracy) else "done",
            "error": "",
            **fields,
        }
        for i, (point, seeds) in enumerate(accuracies.items())
        for seed, accuracy in enumerate(seeds)
    ]
    return pd.DataFrame(rows)


def _evidence(differences: Mapping[str, float], **fields: Any) -> pd.DataFrame:
    rows = [
        {
            "network": "tiny",
            "order": "spatial_first",
            "segments": point,
            "match": "params",
            "width": 0.1 * i,
            "residual": True,
            "params": 79_000,
            "macs": 2_000_000,
            "runs": 0 if math.isnan(difference) else 5,
            "examples": 360,
            "test_top1": 0.9,
            "test_low": 0.88,
            "test_high": 0.91,
            "reference": "C",
            "difference": difference,
            "difference_low": difference - 0.01,
            "difference_high": difference + 0.02,
            "p_best": 0.5,
            "worse_than": "",
            "left_out": 0,
            **fields,
        }
        for i, (point, difference) in enumerate(differences.items())
    ]
    made = pd.DataFrame(rows)
    made.loc[made["runs"] == 0, "reference"] = ""
    return made


@pytest.fixture
def make_results() -> Rows:
    """Makes one row per run from each point's accuracies by seed (NaN: failed) and other fields."""
    return _results


@pytest.fixture
def make_evidence() -> Rows:
    """Makes one row per point from its difference to the reference (NaN: not compared).

    Intervals reach from 0.01 below to 0.02 above the difference.
    """
    return _evidence
