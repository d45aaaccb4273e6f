"""A search on images with several labels: goal, pruning and check use the MAP@k."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pandas as pd
import pytest

from spectrum.analysis.evidence import gather_evidence
from spectrum.runs.point import Point
from spectrum.runs.store import Store
from spectrum.search import SearchConfig, load_trials, run_search
from spectrum.search.candidates import Candidates
from spectrum.search.check import WINNER, state_verdict
from spectrum.search.storage import silence_optuna, storage_url
from spectrum.search.table import make_rows
from tests.search.processes import Sharing
from tests.search.test_check import at

SOURCE = "tests.labelled:images"
CHANGES: dict[str, Any] = {
    "data": {"name": SOURCE, "validation": 0.25, "test": 0.4, "map_at": 3},
    "recipe": {"batch_size": 12},
    "finalists": 1,
}


def test_the_goal_is_the_mean_average_precision(small_search: Callable[..., SearchConfig]) -> None:
    config = small_search(**CHANGES, pruner="none", trials=3, epochs=1)
    found = run_search(config)
    folder, store = config.out / config.name, Store(config.runs)
    trials = load_trials(folder)
    pd.testing.assert_frame_equal(trials, found.trials)
    assert trials["map_at"].tolist() == [3] * 3
    results = [store.result(run_id) for run_id in trials["run_id"]]
    for name in ("val_map", "val_top1"):
        assert trials[name].tolist() == [result[name] for result in results]
    study = optuna.load_study(study_name=None, storage=str(storage_url(config)))
    assert study.metric_names == ["MAP@3"]
    assert [trial.value for trial in study.trials] == trials["val_map"].tolist()
    for trial, run_id in zip(study.trials, trials["run_id"], strict=True):
        curve = [line["val_map"] for line in store.curve(run_id)]
        assert list(trial.intermediate_values.values()) == curve
    front = pd.read_csv(folder / "front.csv")
    best = trials.loc[trials["val_map"] == trials["val_map"].max(), "trial"]
    assert front["trial"].tolist() == best.tolist()
    # The check: the two that the validation split has chosen, by their answers to the test split.
    two = found.results[found.results["role"] != "finalist"]
    evidence = gather_evidence(
        two[["run_id", "role", "match", "seed", "params", "macs", "test_map", "status"]],
        store.average_precision,
        over="role",
    ).points
    difference = evidence.set_index("role")["test_map"].diff().abs().iloc[-1]
    assert f"{100 * difference:.2f} points" in found.sentences[0]
    page = (folder / "report.html").read_text()
    assert "Validation MAP@3 against cost" in page
    assert "test MAP@3" in page
    assert "ccurac" not in page.replace("<td>accuracy</td>", "")  # the name of the goal's field
    assert "top-1" not in page


def line(epoch: int, reached: float) -> dict[str, float]:
    """An evaluation whose accuracy points the other way."""
    return {"epoch": epoch, "val_map": reached, "val_top1": 1 - reached}


@pytest.mark.parametrize("minimize", [[], ["macs"]], ids=str)
def test_runs_are_pruned_by_mean_average_precision(
    minimize: list[str], small_search: Callable[..., SearchConfig]
) -> None:
    changes = CHANGES | {"minimize": minimize, "sampler": "grid", "epochs": 3, "trials": 7}
    config = small_search(**changes, segments="1,2,C", pruner="rungs" if minimize else "hyperband")
    with silence_optuna():
        trials = Sharing(config).join()
        trials.enqueue_starting_points()
        assert config.goals(trials.candidates.measure) == ("val_map", *minimize)
        reached = [0.9, 0.8, 0.7, 0.95, 0.1, 0.05, 0.04]
        promoted = []
        for value in reached:
            trial = trials.next_trial()
            assert trial is not None
            promoted.append(trials.report(trial, line(1, value)))
            assert trials.study.trials[trial.optuna_trial.number].intermediate_values == (
                {} if minimize else {1: value}
            )
            if minimize:
                assert trial.optuna_trial.user_attrs["rung 1"] == [-value, trial.point.macs]
            status = {"status": "done" if promoted[-1] else "stopped"}
            trials.finish(trial, {**status, "epochs": 3, **line(3, value)})
        rows = make_rows(trials.all_trials(), trials.candidates.space)
    assert promoted[:4] == [True] * 4  # the uniform points, and the best of all
    assert not all(promoted[4:])
    assert rows["val_map"].tolist() == reached
    assert rows["val_top1"].tolist() == [1 - value for value in reached]
    assert (rows["state"] == "pruned").tolist() == [not on for on in promoted]


@pytest.mark.parametrize(("difference", "said"), [(-0.2, "is lower in MAP@3"), (0.0, "apart in")])
def test_the_verdict_names_the_measure(
    difference: float, said: str, small_candidates: Callable[..., Candidates]
) -> None:
    candidates = small_candidates(**CHANGES, minimize="macs")
    points: dict[str, Point] = {
        WINNER: candidates.point(at(candidates, "1 C C")),
        "best uniform": candidates.point(at(candidates, "C C C")),
    }
    winner = {
        "runs": 3,
        "examples": 48,
        "test_map": 0.5,
        "test_low": 0.4,
        "test_high": 0.6,
        "difference": difference,
        "difference_low": difference - 0.1,
        "difference_high": difference + 0.1,
    }
    measure = candidates.measure
    sentence = state_verdict(candidates.config, points, winner, False, measure)
    assert f"{said} " in sentence
    assert "accura" not in sentence
    alone = {WINNER: points[WINNER]}
    assert "reaches a mean average precision (MAP@3) of 0.5000 on the test split" in (
        state_verdict(candidates.config, alone, winner, False, measure)
    )
