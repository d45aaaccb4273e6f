"""Made-up results, answers and evidence, for tests of figures, statistics and comparisons."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from spectrum.analysis.columns import CURVE, ORIGIN, ROW
from spectrum.analysis.folder import CORRECT, CURVES, RESULTS, STUDY

Rows: TypeAlias = Callable[..., pd.DataFrame]
Answers: TypeAlias = dict[str, NDArray[Any]]


def results_of(accuracies: Mapping[str, Sequence[float]], **fields: Any) -> pd.DataFrame:
    """One row per run."""
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
            "p_better": 0.5,
            "p_best": 0.5,
            "verdict": "unknown",
            "worse_than": "",
            "close_to": "",
            "seeds_to_settle": 0.0,
            "against": "",
            "equal_within": 1.0,
            "look": 1,
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
    return results_of


@pytest.fixture
def make_evidence() -> Rows:
    """Makes one row per point from its difference to the reference (NaN: not compared).

    Intervals reach from 0.01 below to 0.02 above the difference.
    """
    return _evidence


def make_answers(results: pd.DataFrame) -> Answers:
    """Answers to 100 test examples by run id, of which ``test_top1`` are right."""
    rng = np.random.default_rng(0)
    done = results[results["status"] == "done"]
    return {
        run_id: rng.permutation(100) < round(100 * accuracy)
        for run_id, accuracy in zip(done["run_id"], done["test_top1"], strict=True)
    }


def write_made_up_study(
    folder: Path, results: pd.DataFrame, answers: Answers, **fields: Any
) -> Path:
    """Write the folder of a study with these results, answers and fields, and short curves."""
    absent = [column for column in (*ROW, *ORIGIN) if column.name not in results]
    least = {column.name: "" if column.is_text else column.low for column in absent}
    rows = results.assign(**least)
    rows.to_csv(folder / RESULTS, index=False)
    curves = rows[rows["status"] == "done"].drop_duplicates("run_id").assign(epoch=rows["epochs"])
    zeros = {column.name: 0 for column in CURVE if column.name not in curves}
    names = [*(column.name for column in CURVE), *rows.columns.intersection(["val_map"])]
    curves.assign(**zeros)[names].to_csv(folder / CURVES, index=False)
    np.savez(folder / CORRECT, **answers)
    (folder / STUDY).write_text(json.dumps(fields))
    return folder


def damage(path: Path, how: str) -> None:
    """Damage an archive of arrays."""
    whole = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "flipped":
        middle = len(whole) // 3
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    elif how == "one array":
        np.save(path.with_suffix(".npy"), np.ones(80, bool))
        path.with_suffix(".npy").rename(path)
    elif how == "pickled":
        np.savez(path, correct=np.array([{"a": 1}], dtype=object))
    elif how == "numbers":
        np.savez(path, correct=np.ones(80))
    elif how == "two dimensions":
        np.savez(path, correct=np.ones((2, 2), bool))
