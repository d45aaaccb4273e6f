"""Verdicts and power: by hand, and on made-up studies whose truth is known."""

from __future__ import annotations

import math
import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spectrum.analysis.comparison import compare, compare_series, estimate_series
from spectrum.analysis.estimates import Estimate, bounds
from spectrum.analysis.moderation import moderate
from spectrum.analysis.power import seeds_to_settle, state_power
from spectrum.analysis.verdicts import Criteria, judge, significant_signs


def normal(value: float, error: float, seeds: int = 100) -> Estimate:
    """A difference with a normal interval and a standard error."""
    return Estimate(value, error**2, 0.0, 0.0, 1e9, 1e9, 0.5, seeds)


def made_up(accuracies: list[float], seeds: int, spread: float = 0.0) -> NDArray[np.bool_]:
    """Answers to 400 images of points that answer alike apart from the first images."""
    rng = np.random.default_rng(0)
    answers = np.zeros((len(accuracies), seeds, 400), bool)
    for i, accuracy in enumerate(accuracies):
        for j in range(seeds):
            answers[i, j, : round(400 * (accuracy + rng.normal(0, spread)))] = True
    return answers


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (0.0, 0.001, "equal"),  # within 1 point by 1.645 errors
        (0.0, 0.0062, "unknown"),  # 1.645 x 0.62 > 1
        (0.0083, 0.001, "slightly different"),  # 0.83 + 0.165 < 1
        (0.0085, 0.001, "different"),
        (-0.0083, 0.001, "slightly different"),
        (0.0019, 0.001, "equal"),  # 1.9 errors aren't significant
        (0.02, 0.02, "unknown"),
    ],
)
def test_the_verdict_of_one_pair(value: float, error: float, verdict: str) -> None:
    assert judge([normal(value, error)], Criteria()) == [verdict]


def test_more_pairs_and_further_looks_ask_for_more() -> None:
    one, other = normal(0.0021, 0.001), normal(0.0, 0.001)
    assert judge([one], Criteria(equal_within=0.1)) == ["different"]
    assert judge([one, other], Criteria(equal_within=0.1)) == ["unknown"] * 2
    assert judge([one], Criteria(equal_within=0.1, look=2)) == ["unknown"]
    assert judge([normal(0.0, 0.0060)], Criteria()) == ["equal"]
    assert judge([normal(0.0, 0.0060)], Criteria(look=2)) == ["unknown"]
    assert sum(Criteria(look=look).error for look in range(1, 60)) == pytest.approx(0.1)


def test_one_seed_shows_no_equality() -> None:
    assert judge([normal(0.0, 0.0001, seeds=1)], Criteria()) == ["unknown"]
    assert judge([normal(0.5, 0.0001, seeds=1)], Criteria()) == ["different"]


def test_false_equalities_are_rare() -> None:
    """The true differences are the margin, so each claim of equality is false."""
    rng, false = np.random.default_rng(0), 0
    for _ in range(400):
        means = 0.01 + rng.normal(0, 0.003, 6)
        false += any("equal" in v for v in judge([normal(m, 0.003) for m in means], Criteria()))
    assert false / 400 < 0.05 + 2 * 0.011


def test_the_table_says_what_the_verdicts_say() -> None:
    answers = made_up([0.5, 0.9, 0.9, 0.91], 6, 0.001)
    table = compare(answers, ["1", "4", "8", "C"], criteria=Criteria(equal_within=2))
    assert table["verdict"].tolist()[0] == "different"
    assert table["verdict"].tolist()[3] == ""
    assert table["worse_than"][0] == "4, 8, C"
    close = dict(zip(["1", "4", "8", "C"], table["close_to"], strict=True))
    assert close["1"] == ""
    assert "8" in close["4"].split(", ")
    for point, others in close.items():
        assert all(point in close[other].split(", ") for other in others.split(", ") if other)
    assert table["p_better"][0] < 1e-6
    assert math.isnan(table["p_better"][3])


def test_fewer_pairs_are_claimed_against_a_reference() -> None:
    rng = np.random.default_rng(3)
    series = [
        estimate_series(rng.random((4, 5, 300)) < 0.8, ["1", "2", "4", "C"], draws=100)
        for _ in range(2)
    ]
    every = compare_series(series)
    assert [len(one.pairs) for one in every] == [6, 6]
    against = compare_series(series, criteria=Criteria(against="4"))
    for one in against:
        assert {*one.pairs["point"], *one.pairs["other"]} == {"1", "2", "4", "C"}
        assert len(one.pairs) == 3
        assert one.points["reference"].tolist() == ["4"] * 4
        assert one.points["verdict"][2] == ""
    needed = [float(one.points["seeds_to_settle"].max()) for one in (every[0], against[0])]
    assert needed[1] <= needed[0]


def any_answers(rng: int, points: int = 4, seeds: int = 4) -> NDArray[np.bool_]:
    """Answers to 300 images of points of which each next one is better."""
    draw = np.random.default_rng(rng)
    accuracies = 0.6 + 0.03 * np.arange(points)[:, None] + draw.normal(0, 0.01, (points, seeds))
    images = 0.5 * draw.random(300) + 0.5 * draw.random((points, seeds, 300))
    return np.asarray(images < accuracies[:, :, None])


@pytest.mark.parametrize("criteria", [Criteria(equal_within=8), Criteria("C", 8, look=2)])
def test_the_verdicts_of_all_series_are_those_of_their_pairs_together(criteria: Criteria) -> None:
    names = ["1", "4", "C"]
    series = [estimate_series(any_answers(40 + i, 3, 3 + i), names, draws=100) for i in range(3)]
    pairs = [pair for one in series for pair in one.pairs.values()]
    moderated = moderate(pairs, 2 * (2 + 3 + 4))
    stated = [
        pair
        for pair, key in zip(moderated, [key for one in series for key in one.pairs], strict=True)
        if criteria.against is None or 2 in key
    ]
    together = compare_series(series, criteria=criteria)
    assert [v for one in together for v in one.pairs["verdict"]] == judge(stated, criteria)
    alone = [v for one in series for v in compare_series([one], None, criteria)[0].pairs["verdict"]]
    assert alone.count("unknown") < judge(stated, criteria).count("unknown") < len(stated)


@given(st.integers(0, 1000), st.permutations(range(4)))
def test_verdicts_do_not_depend_on_the_order_of_the_points(rng: int, order: list[int]) -> None:
    answers, names = any_answers(rng), ["1", "4", "8", "C"]
    claims = []
    for places in ([0, 1, 2, 3], order):
        points = [names[i] for i in places]
        (found,) = compare_series(
            [estimate_series(answers[places], points, draws=100)], criteria=Criteria(equal_within=8)
        )
        claims.append(
            {
                frozenset((row["point"], row["other"])): (
                    row["verdict"],
                    row["point"] if row["difference"] > 0 else row["other"],
                )
                for row in found.pairs.to_dict("records")
            }
        )
        table = found.points.set_index(np.array(points))
        for (one, other), (verdict, winner) in ((tuple(pair), v) for pair, v in claims[-1].items()):
            loser = other if winner == one else one
            is_worse = winner in table["worse_than"][loser].split(", ")
            assert is_worse == ("different" in verdict)
            assert loser not in table["worse_than"][winner].split(", ")
            for a, b in ((one, other), (other, one)):
                is_close = b in table["close_to"][a].split(", ")
                assert is_close == (verdict in ("equal", "slightly different"))
    assert claims[0] == claims[1]


@given(st.lists(st.floats(-0.02, 0.02), min_size=1, max_size=12), st.floats(5e-4, 1e-2), st.data())
def test_fewer_pairs_are_claimed_no_less(
    values: list[float], error: float, data: st.DataObject
) -> None:
    pairs = [normal(value, error) for value in values]
    kept = data.draw(st.lists(st.sampled_from(range(len(pairs))), min_size=1, unique=True))
    every, some = judge(pairs, Criteria()), judge([pairs[i] for i in kept], Criteria())
    for i, verdict in zip(kept, some, strict=True):
        known = {every[i], verdict} - {"unknown"}
        assert every[i] == "unknown" or verdict != "unknown"
        assert len(known) <= 1 or verdict == "slightly different"
    mirrored = judge([pair.reversed() for pair in pairs], Criteria())
    assert mirrored == every
    for look in (2, 3):
        later = significant_signs(pairs, Criteria(look=look).error)
        earlier = significant_signs(pairs, Criteria(look=look - 1).error)
        assert all(now in (0, before) for now, before in zip(later, earlier, strict=True))


def test_a_look_spends_half_of_what_the_one_before_spent() -> None:
    for look in range(1, 6):
        assert Criteria(look=look).error == pytest.approx(0.05 / 2 ** (look - 1))


def test_the_probability_to_be_better_is_that_of_new_seeds() -> None:
    rng, seeds = np.random.default_rng(0), 5
    hits, expected = [], []
    for _ in range(4000):
        truth = rng.normal(0, 0.01)
        seen = truth + rng.normal(0, 0.005, seeds)
        variance = float(seen.var(ddof=1)) / seeds
        one = Estimate(float(seen.mean()), variance, 0, 0, seeds - 1, 1e9, 0.5, seeds)
        expected.append(one.beats())
        hits.append(truth + rng.normal(0, 0.005) > 0)
    sure = np.array(expected) > 0.9
    assert np.mean(np.array(hits)[sure]) == pytest.approx(
        np.mean(np.array(expected)[sure]), abs=0.03
    )
    assert normal(0.1, 0.0).beats() == 1
    assert normal(0.0, 0.0).beats() == 0.5
    assert math.isnan(normal(0.1, 0.0, seeds=1).beats())


@pytest.mark.parametrize("value", [0.0, 0.002, 0.005])
def test_so_many_seeds_settle_a_pair_and_one_less_does_not(value: float) -> None:
    one = Estimate(value, 0.004**2 / 5, 2e-7, 1e-7, 4, 1e9, 0.5, 5)
    criteria = Criteria(equal_within=0.5)
    needed = int(seeds_to_settle(one, 3, criteria))
    assert needed > 5

    def verdict(seeds: int) -> str:
        images = 1e-7
        longer = Estimate(
            value, 0.004**2 / seeds, images + 5e-7 / seeds, 5e-7 / seeds, seeds - 1, 1e9, 0.5, seeds
        )
        # Three such pairs, of which none helps another in Holm's procedure, at the next look.
        ends = bounds([longer], 1 - 0.025 / 3)[0]
        inner = np.abs(bounds([longer], 1 - 0.05 / 3)).max()
        return "settled" if ends[0] > 0 or ends[1] < 0 or 100 * inner < 0.5 else "unknown"

    assert verdict(needed) == "settled"
    assert verdict(needed - 1) == "unknown"


def test_no_number_of_seeds_replaces_images() -> None:
    images = Estimate(0.004, 1e-8, 4e-5, 0.0, 9, 1e9, 0.5, 10)  # an error of 0.6 points
    assert math.isinf(seeds_to_settle(images, 1, Criteria(equal_within=0.5)))


@pytest.mark.parametrize(
    ("points", "series", "seeds", "examples", "against"),
    [
        (2, 1, 5, 1000, None),
        (3, 1, 10, 10_000, None),
        (4, 1, 3, 360, None),
        (6, 1, 5, 10_000, None),
        (6, 1, 5, 10_000, "C"),
        (2, 3, 4, 2000, None),
    ],
)
def test_the_stated_power_is_that_of_made_up_studies(
    points: int, series: int, seeds: int, examples: int, against: str | None
) -> None:
    """What it assumes of two points is true of all; points of a series share no effect."""
    text = state_power(points, series, seeds, examples, Criteria(against))
    numbers = re.search(r"differences of (\S+) points .* equality within (\S+) points", text)
    assert numbers is not None
    smallest, largest = map(float, numbers.groups())
    deviation = math.sqrt((0.003**2 + 0.05 / examples) / 2)
    keys = list(combinations(range(points), 2))
    rng, studies, differ, equal = np.random.default_rng(0), 300, 0, 0
    for _ in range(studies):
        pairs = []
        for _ in range(series):
            seen = rng.normal(0, deviation, (points, seeds))
            for i, j in keys:
                each = seen[i] - seen[j]
                variance = float(each.var(ddof=1)) / seeds
                pairs.append(
                    Estimate(float(each.mean()), variance, 0, 0, seeds - 1, 1e9, 0.5, seeds)
                )
        found = moderate(pairs, series * (points - 1) * (seeds - 1))
        ahead = found[0]._replace(value=found[0].value + smallest / 100)
        stated = [
            i for i in range(len(found)) if i and (against is None or 0 in keys[i % len(keys)])
        ]
        others = [found[i] for i in stated]
        differ += "different" in judge([ahead, *others], Criteria(equal_within=0))[0]
        equal += judge([found[0], *others], Criteria(equal_within=largest))[0] in (
            "equal",
            "slightly different",
        )
    assert differ / studies == pytest.approx(0.8, abs=0.07)
    assert equal / studies == pytest.approx(0.8, abs=0.07)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ((3, 1, 1, 100), "with 1 seed and 100 test examples nothing can be shown of other seeds"),
        ((1, 1, 5, 100), "with 5 seeds and 100 test examples there is no pair to compare"),
        ((6, 1, 10, 10_000), "for one of 15 pairs,"),
        ((6, 2, 10, 10_000), "for one of 30 pairs,"),
        ((6, 2, 10, 10_000, Criteria(against="C")), "for one of 10 pairs,"),
        ((2, 1, 10, 10_000), "for one of 1 pair,"),
    ],
)
def test_the_power_is_that_of_the_pairs_that_are_claimed(asked: tuple, words: str) -> None:
    assert words in state_power(*asked)


def test_more_seeds_and_images_and_fewer_pairs_show_more() -> None:
    def smallest(*asked: object) -> float:
        return float(state_power(*asked).split("differences of ")[1].split()[0])  # type: ignore

    plain = smallest(4, 1, 5, 1000)
    assert smallest(4, 1, 10, 1000) < plain
    assert smallest(4, 1, 5, 10_000) < plain
    assert smallest(4, 1, 5, 1000, Criteria(against="C")) < plain
    assert smallest(6, 1, 5, 1000) > plain
    assert smallest(4, 1, 5, 1000, Criteria(look=2)) > plain
