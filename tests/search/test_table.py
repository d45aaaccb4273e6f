"""The trials of a search as rows, in memory and in a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from spectrum.search import SearchConfig, load_trials
from spectrum.search.samplers import distributions
from spectrum.search.space import Space, make_space
from spectrum.search.table import TRIALS, make_rows
from spectrum.search.trial_states import DUPLICATE, ERROR
from spectrum.study.outputs import write_rows

Search = Callable[..., SearchConfig]
LAST = ["segments", "width", "params", "macs", "val_top1", "epochs", "run_id", "error"]


def trial_of(
    space: Space, number: int, state: TrialState, values: str, **known: Any
) -> FrozenTrial:
    """A trial at a point, given as its values separated by spaces."""
    over = state == TrialState.COMPLETE
    trial = create_trial(
        state=state,
        values=[known["val_top1"]] if over else None,
        params=dict(zip(space.choices, values.split(), strict=True)),
        distributions=dict(distributions(space)),
        user_attrs=known,
    )
    trial.number = number
    return trial


@pytest.fixture
def space(small_search: Search) -> Space:
    return make_space(small_search(activation=["none", "elu"]))


@pytest.fixture
def trials(space: Space) -> list[FrozenTrial]:
    network = {"segments": "C", "width": 0.2, "params": 4774, "macs": 76_600, "run_id": "0123"}
    lost = {**network, "run_id": "4567"}
    return [
        trial_of(space, 0, TrialState.COMPLETE, "C C C none", **network, val_top1=0.875, epochs=2),
        trial_of(space, 1, TrialState.PRUNED, "1 C C elu", **network, val_top1=0.5, epochs=1),
        trial_of(space, 2, TrialState.FAIL, "1 1 1 none", **{ERROR: "must be, 'so'\nor so"}),
        trial_of(space, 3, TrialState.PRUNED, "C C 1 elu", **network, **{ERROR: "loss is nan"}),
        trial_of(space, 4, TrialState.FAIL, "C 1 C none", **lost),
        trial_of(space, 5, TrialState.FAIL, "C C C none", **{ERROR: "as trial 0", DUPLICATE: 0}),
        trial_of(space, 6, TrialState.RUNNING, "C 1 C none", **lost),
        trial_of(space, 7, TrialState.WAITING, "C 1 1 none"),
    ]


def test_a_row_is_a_trial_that_is_over(trials: list[FrozenTrial], space: Space) -> None:
    rows = make_rows(trials, space)
    first = ["trial", "state", "uniform", "entry", "middle", "exit", "activation"]
    assert list(rows.columns) == [*first, *LAST]
    assert rows["trial"].tolist() == [0, 1, 2, 3]
    assert rows["state"].tolist() == ["done", "pruned", "failed", "failed"]
    assert rows["uniform"].tolist() == [True, False, True, False]
    assert rows["activation"].tolist() == ["none", "elu", "none", "elu"]
    assert rows["segments"].tolist() == ["C", "C", "", "C"]
    assert rows["val_top1"].tolist() == pytest.approx([0.875, 0.5, math.nan, math.nan], nan_ok=True)
    assert rows["error"].tolist() == ["", "", "must be, 'so'\nor so", "loss is nan"]


def test_what_is_written_is_read_back(
    trials: list[FrozenTrial], space: Space, tmp_path: Path
) -> None:
    rows = make_rows(trials, space)
    write_rows(tmp_path / TRIALS, rows)
    found = load_trials(tmp_path)
    pd.testing.assert_frame_equal(found, rows, check_dtype=False)
    assert found["uniform"].dtype == bool
    assert found["params"].dtype == float
    assert all(isinstance(value, str) for value in found["entry"])


def test_a_search_that_has_only_begun_has_rows_too(space: Space, tmp_path: Path) -> None:
    rows = make_rows([], space)
    write_rows(tmp_path / TRIALS, rows)
    found = load_trials(tmp_path)
    assert len(found) == 0
    assert list(found.columns) == list(rows.columns)


def test_a_width_that_is_searched_is_one_column(small_search: Search) -> None:
    space = make_space(small_search(network={"name": "tiny", "width": [1, 0.5]}))
    known = {"segments": "1", "width": 1.0, "params": 9, "macs": 9, "val_top1": 0.5, "epochs": 2}
    rows = make_rows([trial_of(space, 0, TrialState.COMPLETE, "1 1 1 1.0", **known)], space)
    first = ["trial", "state", "uniform", "entry", "middle", "exit", "width"]
    assert list(rows.columns) == [*first, *(name for name in LAST if name != "width")]
    assert rows["width"].tolist() == [1.0]


def test_a_folder_without_trials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"folder \(=.*\) must hold a search's trials; no trials"):
        load_trials(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"trials\.csv is damaged: No columns"),
        (b"\xff\xfe\x00\x01\x80", r"trials\.csv is damaged: "),
        (b"trial,state\n0,done\n", "lacks the columns uniform, segments, width"),
        (b"a,b\n1,2,3,4\n1\n2,3,4,5,6,7,8\n", r"trials\.csv is damaged: "),
    ],
)
def test_a_damaged_file_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / TRIALS).write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        load_trials(tmp_path)
