"""The verdict on a winner, from made-up results, and the copy of its run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from rich.console import Console

from spectrum import load_run
from spectrum.executors.local import LocalEngine
from spectrum.runs.config import RunConfig
from spectrum.runs.store import Store
from spectrum.search import SearchConfig
from spectrum.search.candidates import Candidates
from spectrum.search.check import (
    UNIFORM,
    WINNER,
    Check,
    Finalist,
    check_finalists,
    choose_finalists,
    copy_winner,
    state_verdict,
)
from spectrum.search.outputs import list_failures, state_agreement, state_selection

Search = Callable[..., SearchConfig]
Points = Callable[..., Candidates]
MIXED = "1 C C"
ORDERS: dict[str, Any] = {"per": "network", "order": ["spatial_first", "pointwise_first"]}


def at(candidates: Candidates, values: str) -> dict[str, str]:
    return dict(zip(candidates.space.choices, values.split(), strict=True))


def trials_of(candidates: Candidates, accuracies: dict[str, float], **fields: Any) -> pd.DataFrame:
    """One row per trial: an accuracy at a point, given as its values separated by spaces."""
    rows = []
    for number, (values, accuracy) in enumerate(accuracies.items()):
        params = at(candidates, values)
        point = candidates.point(params)
        uniform = candidates.space.is_uniform(params)
        row = {"trial": number, "state": "done", "uniform": uniform, **params, **fields}
        figures = {"params": point.params, "macs": point.macs, "width": point.network.width}
        rows.append({**row, **figures, "val_top1": accuracy})
    return pd.DataFrame(rows)


# Finalists


def chosen(found: Sequence[Finalist]) -> list[tuple[str, bool, bool]]:
    return [(one.point.network.segments, one.is_best, one.is_uniform) for one in found]


MIX = "entry=1+middle=C+exit=C"
ACCURACIES = {"1 1 1": 0.5, "4 4 4": 0.6, "C C C": 0.7, "1 C C": 0.9, "C 1 1": 0.8, "4 C C": 0.65}


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1, [(MIX, True, False), ("C", False, True)]),
        (
            2,
            [
                (MIX, True, False),
                ("entry=C+middle=1+exit=1", True, False),
                ("C", False, True),
                ("4", False, True),
            ],
        ),
        (
            9,
            [
                (MIX, True, False),
                ("entry=C+middle=1+exit=1", True, False),
                ("C", True, True),
                ("entry=4+middle=C+exit=C", True, False),
                ("4", True, True),
                ("1", True, True),
            ],
        ),
    ],
)
def test_the_finalists_are_the_best_of_all_and_the_best_uniform_ones(
    number: int, expected: list[tuple[str, bool, bool]], small_candidates: Points
) -> None:
    candidates = small_candidates(segments="1,4,C", finalists=number)
    trials = trials_of(candidates, ACCURACIES)
    assert chosen(choose_finalists(trials, candidates)) == expected


def test_a_winner_that_is_uniform_has_another_uniform_point_beside_it(
    small_candidates: Points,
) -> None:
    candidates = small_candidates(finalists=1)
    trials = trials_of(candidates, {"1 1 1": 0.9, "C C C": 0.8, MIXED: 0.7})
    found = choose_finalists(trials, candidates)
    assert chosen(found) == [("1", True, True), ("C", False, True)]


def test_trials_that_did_not_end_are_no_finalists(small_candidates: Points) -> None:
    candidates = small_candidates()
    trials = trials_of(candidates, {"1 1 1": 0.9, "C C C": 0.8, MIXED: 0.95})
    trials.loc[0, "state"], trials.loc[2, "state"] = "failed", "pruned"
    assert chosen(choose_finalists(trials, candidates)) == [("C", True, True)]


def test_with_several_goals_the_finalists_come_from_the_front(small_candidates: Points) -> None:
    candidates = small_candidates(minimize="params", finalists=2)
    # Of these "1 1 1" costs most and is beaten, "C C C" costs least.
    trials = trials_of(candidates, {"1 1 1": 0.85, "C C C": 0.6, MIXED: 0.9, "C 1 1": 0.88})
    assert chosen(choose_finalists(trials, candidates)) == [
        (MIX, True, False),
        ("C", True, True),
        ("1", False, True),
    ]


@pytest.mark.parametrize("widths", [[1, 0.5], ["0.20", "0.5"], [0.2, 2]])
def test_finalists_are_found_again_by_what_was_searched(
    widths: list[Any], small_candidates: Points
) -> None:
    candidates = small_candidates(
        network={"name": "tiny", "width": widths, "hidden": [[], [5]]},
        recipe={"batch_size": 256, "lr": [0.01, 0.002]},
        activation=["none", "elu"],
    )
    params = {
        **candidates.space.uniform_points()[0],
        "entry": "C",
        "activation": "elu",
        "lr": "0.002",
    }
    params |= {"hidden": "(5,)", "width": str(float(widths[1]))}
    trials = trials_of(candidates, {" ".join(params.values()): 0.5})
    (found,) = choose_finalists(trials, candidates)
    assert found.point == candidates.point(params)
    assert found.point.network.width == float(widths[1])


# The check


@pytest.fixture
def store(small_search: Search) -> Store:
    return Store(small_search().runs)


ORIGIN = {"error": "", "device": "cpu", "threads": 1}
LINE = {"epoch": 1, "samples": 9, "lr": 0.1, "train_loss": 1.0, "val_loss": 1.0, "val_top1": 0.5}


def begin(store: Store, run: RunConfig) -> None:
    store.folder(run.id).mkdir(parents=True)
    store.begin(run.id, run.stored())
    with store.open_curve(run.id) as curve:
        curve.write(json.dumps({**LINE, "seconds": 1.0}))


def finish(store: Store, one: Finalist, seed: int, val: float, test: float) -> None:
    """Put a run in the store that classifies a share of 200 test examples."""
    run = one.point.run(seed)
    begin(store, run)
    measured = {"val_top1": val, "test_top1": test, "test_top5": 1.0, "test_loss": 1.0}
    known = {"status": "done", "epochs": 1, **measured, "train_seconds": 1.0}
    store.finish(
        run.id,
        {**known, "images_per_second": 1.0, **ORIGIN},
        network=torch.nn.Linear(1, 1),
        config=run.network,
        correct=torch.arange(200) < round(200 * test),
    )


def fail(store: Store, one: Finalist, seed: int) -> None:
    run = one.point.run(seed)
    begin(store, run)
    store.finish(run.id, {**ORIGIN, "status": "diverged", "error": "loss is nan"})


def checked(found: list[Finalist], candidates: Candidates) -> Check:
    """The check of runs that are all in the store."""
    said = StringIO()
    result = check_finalists(found, candidates, LocalEngine(["cpu"], 1, 1), Console(file=said))
    assert said.getvalue() == ""  # nothing was trained
    return result


def finalist_of(candidates: Candidates, values: str, is_best: bool) -> Finalist:
    params = at(candidates, values)
    return Finalist(candidates.point(params), is_best, candidates.space.is_uniform(params))


def test_the_winner_is_chosen_by_new_seeds_on_the_validation_split(
    small_candidates: Points, store: Store
) -> None:
    candidates = small_candidates(segments="1,4,C", seeds=2)
    points = {"1 C C": True, "C 1 1": True, "4 4 4": False, "1 1 1": False}
    found = [finalist_of(candidates, values, best) for values, best in points.items()]
    # Validation and test disagree on the best of the mixed and of the uniform points alike.
    means = [(0.80, 0.99), (0.90, 0.70), (0.75, 0.60), (0.70, 0.95)]
    for seed, shift in ((1, -0.01), (2, 0.01)):
        for one, (val, test) in zip(found, means, strict=True):
            finish(store, one, seed, val + shift, test)
    finish(store, found[0], 0, 1.0, 1.0)  # the seed of the search has no say
    result = checked(found, candidates)
    assert result.points == {WINNER: found[1].point, UNIFORM: found[2].point}
    assert result.results["seed"].tolist() == [1] * 4 + [2] * 4
    assert result.results["role"].tolist() == ["finalist", WINNER, UNIFORM, "finalist"] * 2
    assert result.evidence is not None
    evidence = result.evidence.set_index("role")
    assert evidence["runs"].tolist() == [2, 2]
    assert evidence["examples"].tolist() == [200, 200]
    assert evidence.loc[WINNER, "difference"] == pytest.approx(0.1)
    assert result.verdict.startswith(
        "entry=C+middle=1+exit=1 is better than 4, the best uniform point, by +10.00 points (95%"
    )


def test_a_winner_that_is_uniform_is_compared_with_another(
    small_candidates: Points, store: Store
) -> None:
    candidates = small_candidates()
    found = [finalist_of(candidates, values, True) for values in ("C C C", "1 1 1", MIXED)]
    for one, val in zip(found, (0.9, 0.8, 0.7), strict=True):
        finish(store, one, 1, val, 0.5)
    result = checked(found, candidates)
    assert result.points == {WINNER: found[0].point, UNIFORM: found[1].point}
    assert result.verdict.startswith("Nothing was found that beats the uniform points: C and 1")


@pytest.mark.parametrize(("costs", "chosen_from"), [("macs", "the front"), ((), "those that")])
def test_a_winner_that_is_behind_the_best_uniform_point_is_not_called_so_without_a_word(
    costs: Any, chosen_from: str, small_candidates: Points, store: Store
) -> None:
    candidates = small_candidates(minimize=costs)
    found = [finalist_of(candidates, MIXED, True), finalist_of(candidates, "1 1 1", False)]
    for one, val in zip(found, (0.7, 0.8), strict=True):
        finish(store, one, 1, val, 0.5)
    result = checked(found, candidates)
    assert result.points == {WINNER: found[0].point, UNIFORM: found[1].point}
    assert result.verdict.partition(" On the ")[2].startswith(
        "validation split the best uniform point is ahead, with 0.8000 against 0.7000: the winner "
        f"is the best of {chosen_from}"
    )


@pytest.mark.parametrize(
    ("costs", "vals", "tests", "because"),
    [
        # The mixed point has fewer MACs than the uniform one.
        (
            "macs",
            (0.8, 0.7),
            (0.49, 0.5),
            "the validation split alone chooses, where it isn't behind, it has fewer MACs, and the "
            "difference isn't shown to be more than chance",
        ),
        (
            "macs",
            (0.7, 0.8),
            (0.1, 0.9),
            "it was chosen among the front alone, and it has fewer MACs",
        ),
        ((), (0.8, 0.7), (0.1, 0.9), "the validation split alone chooses, where it isn't behind"),
        (
            (),
            (0.7, 0.8),
            (0.49, 0.5),
            "it was chosen among the points that the search found best alone, and the difference "
            "isn't shown to be more than chance",
        ),
    ],
)
def test_a_winner_with_a_lower_test_accuracy_is_not_called_so_without_a_reason(
    costs: Any,
    vals: tuple[float, float],
    tests: tuple[float, float],
    because: str,
    small_candidates: Points,
    store: Store,
) -> None:
    candidates = small_candidates(minimize=costs)
    found = [finalist_of(candidates, "C C 1", True), finalist_of(candidates, "1 1 1", False)]
    assert found[0].point.macs < found[1].point.macs
    for one, val, test in zip(found, vals, tests, strict=True):
        finish(store, one, 1, val, test)
    # Of 200 test examples, 98 against 100 are within chance, 20 against 180 are not.
    assert checked(found, candidates).verdict.endswith(
        " The winner's test accuracy is lower than that of 1. It is called the winner because "
        f"{because}."
    )


@pytest.mark.parametrize(
    ("number", "named", "others"),
    [
        (
            1,
            "the point of the front with the highest accuracy (entry=1+middle=C+exit=C), and the "
            "best uniform point (1)",
            " The other point of the front was not trained again.",
        ),
        (
            2,
            "the 2 points of the front with the highest accuracy (entry=1+middle=C+exit=C, C), and "
            "the 2 best uniform points (C, 1)",
            "",
        ),
    ],
)
def test_the_finalists_of_a_front_are_named(
    number: int, named: str, others: str, small_candidates: Points
) -> None:
    candidates = small_candidates(minimize="params", finalists=number, seeds=3)
    # Of these "1 1 1" costs most and is beaten, "C C C" costs least.
    trials = trials_of(
        candidates, {"1 1 1": 0.85, "C C C": 0.6, MIXED: 0.9, "C 1 1": 0.88, "1 1 C": 0.5}
    )
    trials.loc[4, "state"] = "pruned"
    said = state_selection(trials, choose_finalists(trials, candidates), candidates.config)
    assert said == (
        "The validation split alone chose. By one seed, 2 of 4 points (1 pruned aside) are on the "
        f"front. The finalists are {named}. They were trained again with 3 new seeds, which chose "
        f"the winner from the former and the best uniform point from the latter.{others}"
    )


# Segments and the order, then the accuracy and the cost that are made up for them.
TWO_OF_THE_FRONT = {
    "1 spatial_first": (0.9, 4),
    "1 pointwise_first": (0.8, 3),
    "C spatial_first": (0.7, 5),
    "C pointwise_first": (0.6, 6),
}
# The last is the best of the cheap ones, and the worst of all.
A_BAD_ONE_OF_THE_FRONT = {
    "1 spatial_first": (0.9, 4),
    "1 pointwise_first": (0.8, 5),
    "C spatial_first": (0.7, 6),
    "C pointwise_first": (0.5, 1),
}


def finalists_of(
    made_up: dict[str, tuple[float, int]], candidates: Candidates
) -> tuple[pd.DataFrame, list[Finalist]]:
    trials = trials_of(candidates, {name: accuracy for name, (accuracy, _) in made_up.items()})
    trials["params"] = [cost for _, cost in made_up.values()]
    return trials, choose_finalists(trials, candidates)


@pytest.mark.parametrize(
    ("made_up", "number", "named"),
    [
        (
            TWO_OF_THE_FRONT,
            2,
            "2 points of the front with the highest accuracy (1 with order spatial_first, 1 with "
            "order pointwise_first), and the best other uniform point (C with order spatial_first)",
        ),
        (
            A_BAD_ONE_OF_THE_FRONT,
            2,
            "2 points of the front with the highest accuracy (1 with order spatial_first, C with "
            "order pointwise_first), and the best other uniform point (1 with order "
            "pointwise_first)",
        ),
        # Both have one order, which tells nothing apart.
        (
            {**TWO_OF_THE_FRONT, "1 pointwise_first": (0.5, 7)},
            1,
            "point of the front with the highest accuracy (1), and the best other uniform point "
            "(C)",
        ),
    ],
)
def test_uniform_finalists_are_told_apart_and_counted_once(
    made_up: dict[str, tuple[float, int]], number: int, named: str, small_candidates: Points
) -> None:
    candidates = small_candidates(**ORDERS, minimize="params", finalists=number)
    trials, found = finalists_of(made_up, candidates)
    assert (
        f"The finalists are the {named}. They were trained again with 1 new seed, which chose the "
        "winner from the former and the best uniform point from all others that are uniform."
    ) in state_selection(trials, found, candidates.config)


def test_the_verdict_tells_the_winner_from_all_finalists(
    small_candidates: Points, store: Store
) -> None:
    candidates = small_candidates(**ORDERS, minimize="params", finalists=2)
    _, found = finalists_of(TWO_OF_THE_FRONT, candidates)
    for one, val in zip(found, (0.9, 0.5, 0.7), strict=True):
        finish(store, one, 1, val, val)
    # The two have the same order, which the third finalist hasn't.
    assert checked(found, candidates).verdict.startswith(
        "Nothing was found that beats the uniform points: 1 with order spatial_first is better "
        "than C with order spatial_first, the best other uniform point"
    )


def test_failed_trials_are_named_by_what_varies(small_candidates: Points) -> None:
    for fields, said in (({}, "C"), (ORDERS, "C with order pointwise_first")):
        candidates = small_candidates(**fields)
        points = {"C pointwise_first": 0.0, "1 spatial_first": 0.5} if fields else {"C C C": 0.0}
        trials = trials_of(candidates, points).assign(error="loss is nan")
        trials.loc[0, ["state", "segments"]] = "failed", "C"
        assert list_failures(trials, candidates.config) == [f"Trial 0, {said}, failed: loss is nan"]


IN_ORDER = (
    "Shared weights put {} pairs of the points trained alone in the same order (Kendall's tau {})."
)
DISTRUST = (
    " They ordered them rather the other way round, so don't trust their choice of schedules here. "
    "Train each trial instead (--evaluate alone), with --per flow if there are too many points."
)


@pytest.mark.parametrize(
    ("shared", "alone", "expected"),
    [
        ((0.1, 0.2, 0.3), (0.7, 0.8, 0.9), IN_ORDER.format("3 of 3", "1.00")),
        (
            (0.1, 0.2, 0.3, 0.4),
            (0.8, 0.7, 0.6, 0.9),
            IN_ORDER.format("3 of 6", "0.00"),
        ),
        (
            (0.1, 0.2, 0.3, 0.4),
            (0.9, 0.8, 0.6, 0.7),
            IN_ORDER.format("1 of 6", "-0.67") + DISTRUST,
        ),
        # One pair of three is equal, one in order, one not.
        ((0.1, 0.1, 0.2), (0.7, 0.9, 0.8), IN_ORDER.format("1 of 3", "0.00")),
        (
            (0.1, 0.1, 0.1),
            (0.7, 0.8, 0.9),
            "The finalists have no order: all have the same validation accuracy with shared "
            "weights.",
        ),
        (
            (0.1, 0.2, 0.3),
            (0.7, 0.7, 0.7),
            "The finalists have no order: all have the same validation accuracy when they are "
            "trained alone.",
        ),
        # The second has failed.
        (
            (0.1, 0.9, 0.3, 0.4),
            (0.7, None, 0.8, 0.9),
            IN_ORDER.format("3 of 3", "1.00"),
        ),
        ((0.1, 0.2, 0.3), (0.7, None, 0.9), None),
        ((0.1, 0.2), (0.7, 0.8), None),
    ],
)
def test_the_order_by_shared_weights_is_compared_with_that_of_the_points_trained_alone(
    shared: Sequence[float],
    alone: Sequence[float | None],
    expected: str | None,
    small_candidates: Points,
) -> None:
    candidates = small_candidates(evaluate="shared")
    found = [finalist_of(candidates, v, True) for v in (MIXED, "C C C", "1 1 1", "C 1 1")]
    found = found[: len(shared)]
    trials = pd.DataFrame(
        {"run_id": [one.point.run(seed=0).id for one in found], "shared_top1": shared}
    )
    said = state_agreement(trials[::-1], found, pd.Series(alone, dtype=float))
    assert said == expected


def test_a_finalist_that_fails_with_a_seed_is_out(small_candidates: Points, store: Store) -> None:
    candidates = small_candidates(seeds=2)
    found = [finalist_of(candidates, values, True) for values in (MIXED, "C 1 1", "C C C")]
    for one, val in zip(found, (0.95, 0.7, 0.8), strict=True):
        finish(store, one, 1, val, 0.5)
    fail(store, found[0], 2)
    finish(store, found[1], 2, 0.7, 0.5)
    fail(store, found[2], 2)
    result = checked(found, candidates)
    assert result.points == {WINNER: found[1].point}
    assert result.results["status"].tolist() == ["done"] * 3 + ["diverged", "done", "diverged"]
    assert "; no uniform point has new runs to compare it with." in result.verdict


def test_the_verdict_says_that_all_finalists_failed(small_candidates: Points, store: Store) -> None:
    candidates = small_candidates()
    found = [finalist_of(candidates, values, True) for values in (MIXED, "C C C")]
    for one in found:
        fail(store, one, 1)
    result = checked(found, candidates)
    assert (result.points, result.evidence) == ({}, None)
    assert result.verdict == "No finalist has finished all seeds: nothing is checked."
    copy_winner(result, store, store.root.parent / "winner")
    assert not (store.root.parent / "winner").exists()


def test_results_are_kept_where_predictions_are_lost(
    small_candidates: Points, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = small_candidates()
    found = [finalist_of(candidates, MIXED, True), finalist_of(candidates, "C C C", True)]
    for one in found:
        finish(store, one, 1, 0.5, 0.5)
    lost = store.folder(found[0].point.run(1).id) / "predictions.npz"

    def execute(*_: Any) -> dict[str, Any]:
        results = {one.point.run(1).id: store.result(one.point.run(1).id) for one in found}
        lost.unlink()
        return results

    monkeypatch.setattr("spectrum.search.check.execute_all", execute)
    result = checked(found, candidates)
    assert len(result.points) == 2
    assert result.evidence is None
    assert result.verdict.startswith("The winner can't be checked: ")
    assert lost.name in result.verdict


# The sentences


def row_of(difference: float, margin: float, runs: int = 5) -> dict[str, Any]:
    """The row of a winner in the evidence."""
    known = {"runs": runs, "examples": 1234, "test_top1": 0.9, "test_low": 0.88, "test_high": 0.92}
    low, high = difference - margin, difference + margin
    return {**known, "difference": difference, "difference_low": low, "difference_high": high}


NOTHING = "Nothing was found that beats the uniform points: "


@pytest.mark.parametrize(
    ("difference", "uniform", "expected"),
    [
        (2, False, f"{MIX} is better than C, the best uniform point, by +2.00 points"),
        (-2, False, f"It was luck: {MIX} is worse than C, the best uniform point: -2.00 points"),
        (
            0.5,
            False,
            f"What was found may be luck: {MIX} and C, the best uniform point, can't be told "
            "apart: +0.50 points",
        ),
        (2, True, f"{NOTHING}1 is better than C, the best other uniform point, by +2.00 points"),
        (-2, True, f"{NOTHING}1 is worse than C, the best other uniform point: -2.00 points"),
        (
            -0.5,
            True,
            f"{NOTHING}1 and C, the best other uniform point, can't be told apart: -0.50 points",
        ),
    ],
)
def test_the_sentence_claims_what_the_interval_supports(
    difference: float, uniform: bool, expected: str, small_candidates: Points
) -> None:
    candidates = small_candidates()
    winner = candidates.point(at(candidates, "1 1 1" if uniform else MIXED))
    points = {WINNER: winner, UNIFORM: candidates.point(at(candidates, "C C C"))}
    sentence = state_verdict(candidates.config, points, row_of(difference / 100, 0.01), uniform)
    interval = f"95% interval {difference - 1:+.2f} to {difference + 1:+.2f}"
    assert sentence == f"{expected} ({interval}; 5 new seeds, 1,234 test examples)."


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.02), (-0.02, 0.0), (0.0, 0.0)])
def test_an_interval_that_touches_zero_tells_nothing_apart(
    low: float, high: float, small_candidates: Points
) -> None:
    candidates = small_candidates()
    points = {
        WINNER: candidates.point(at(candidates, MIXED)),
        UNIFORM: candidates.point(at(candidates, "C C C")),
    }
    winner = {**row_of(0.0, 0.0), "difference_low": low, "difference_high": high}
    assert "can't be told apart" in state_verdict(candidates.config, points, winner, False)


@pytest.mark.parametrize("uniform", [True, False])
def test_a_winner_alone_is_told_by_its_accuracy(uniform: bool, small_candidates: Points) -> None:
    candidates = small_candidates()
    points = {WINNER: candidates.point(at(candidates, "C C C" if uniform else MIXED))}
    assert state_verdict(candidates.config, points, row_of(0.0, 0.0, runs=1), uniform) == (
        f"{'C' if uniform else MIX} reaches 0.9000 on the test split (95% interval 0.8800 to "
        f"0.9200, 1 new seed); no {'other ' if uniform else ''}uniform point has new runs to "
        "compare it with."
    )


def test_points_are_told_apart_by_whatever_differs(small_candidates: Points) -> None:
    candidates = small_candidates(
        segments="1,C",
        per="network",
        order=["spatial_first", "pointwise_first"],
        activation=["none", "elu"],
        network={"name": "tiny", "width": [0.2, 0.5]},
        recipe={"batch_size": 256, "lr": [0.01, 0.002]},
    )
    first, *_ = candidates.space.uniform_points()

    def named(**changes: str) -> str:
        winner = candidates.point({**first, **changes})
        points = {WINNER: winner, UNIFORM: candidates.point(first)}
        sentence = state_verdict(candidates.config, points, row_of(0.02, 0.01), False)
        return sentence[: sentence.index(", the best")]

    assert named(segments="C") == "C is better than 1"
    assert named(order="pointwise_first") == (
        "1 with order pointwise_first is better than 1 with order spatial_first"
    )
    assert named(segments="C", activation="elu", lr="0.002") == (
        "C with lr 0.002 and activation elu is better than 1 with lr 0.01 and activation none"
    )
    assert named(width="0.5") == "1 with width 0.5 is better than 1 with width 0.2"


# The winner's run


def test_the_run_of_the_winner_is_kept(
    small_candidates: Points, store: Store, tmp_path: Path
) -> None:
    candidates = small_candidates(seeds=2, finalists=1)
    found = [finalist_of(candidates, MIXED, True), finalist_of(candidates, "C C C", False)]
    result = check_finalists(
        found, candidates, LocalEngine(["cpu"], 1, 1), Console(file=StringIO())
    )
    assert result.results["status"].tolist() == ["done"] * 4
    assert result.evidence is not None
    folder = tmp_path / "winner"
    for _ in range(2):  # a second time over the first
        copy_winner(result, store, folder)
    runs = result.results[result.results["role"] == WINNER].set_index("run_id")
    best = runs["val_top1"].idxmax()
    kept, trained = load_run(folder).state_dict(), load_run(store.folder(str(best))).state_dict()
    assert kept.keys() == trained.keys()
    assert all(torch.equal(kept[name], trained[name]) for name in kept)
    assert {p.name for p in folder.iterdir()} == {
        "config.json",
        "result.json",
        "weights.safetensors",
    }


def test_a_winner_is_trained_again_if_its_weights_are_damaged(
    small_candidates: Points, store: Store
) -> None:
    candidates = small_candidates(epochs=1)
    found = [finalist_of(candidates, MIXED, True)]
    path = store.folder(found[0].point.run(1).id) / "weights.safetensors"

    def check() -> str:
        said = StringIO()
        check_finalists(found, candidates, LocalEngine(["cpu"], 1, 1), Console(file=said))
        return said.getvalue()

    assert "done again" not in check()
    trained = path.read_bytes()
    path.write_bytes(trained[:-1] + bytes([trained[-1] ^ 1]))  # it still loads
    assert f"{path} is damaged: " in (said := check())
    assert said.count("the run is done again") == 1
    assert path.read_bytes() == trained
    assert check() == ""
