"""The sentences on made-up evidence, word for word."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from spectrum.analysis.sentences import state_draws, state_evidence


def made_up(worse_than: dict[str, str], runs: int = 5, **changes: Any) -> pd.DataFrame:
    """One row per point, from the points that are better than it."""
    rows = [
        {
            "order": "spatial_first",
            "segments": point,
            "width": 0.1 * i,
            "match": "params",
            "params": 1000 + i,
            "macs": 5000,
            "runs": runs,
            "examples": 1360,
            "test_top1": 0.9,
            "test_low": 0.88,
            "test_high": 0.915,
            "reference": "C",
            "difference": 0.0,
            "difference_low": 0.0,
            "difference_high": 0.0,
            "p_better": 0.5,
            "p_best": 0.5,
            "verdict": "",
            "worse_than": better,
            "close_to": "",
            "seeds_to_settle": 0.0,
            "against": "",
            "equal_within": 1.0,
            "look": 1,
            "left_out": 0,
            **changes,
        }
        for i, (point, better) in enumerate(worse_than.items())
    ]
    return pd.DataFrame(rows)


WITH = "with 5 seeds and 1,360 test examples"


@pytest.mark.parametrize(
    ("worse_than", "sentence"),
    [
        (
            {"C": ""},
            "C has an accuracy of 0.9000 (0.8800 to 0.9150; 5 seeds, 1,360 test examples), and "
            "there is nothing to compare it with.",
        ),
        ({"C/4": "", "C/8": ""}, f"C/4 and C/8 can't be told apart {WITH}."),
        ({"1": "C", "C": ""}, "C is better than 1 (5 seeds, 1,360 test examples)."),
        ({"1": "", "4": "", "C": ""}, f"1, 4 and C can't be told apart {WITH}."),
        ({str(i): "" for i in range(1, 14)}, f"The 13 points can't be told apart {WITH}."),
        (
            {"1": "C", "4": "C", "32": "4, C", "C": ""},
            "C is best: its accuracy is higher than that of 1, 4 and 32 (5 seeds, 1,360 test "
            "examples).",
        ),
        (
            {"1": "", "4": "", "32": "1", "C": ""},
            f"1, 4 and C can't be told apart {WITH}; 32 is worse than 1.",
        ),
        (
            {"1": "4, C", "4": "", "32": "4, C", "C": ""},
            f"4 and C can't be told apart {WITH}; 1 and 32 are worse than both.",
        ),
        (
            {"1": "", "4": "", "32": "1, 4, C", "16": "1, 4, 32", "C": ""},
            f"1, 4 and C can't be told apart {WITH}; 32 is worse than all of them; 16 is worse "
            "than 1 and 4.",
        ),
        # Pairs differ in certainty: a point better than a better one needn't be better for certain.
        (
            {"1": "4", "4": "C", "C": ""},
            f"C and 1 can't be told apart {WITH}; 1 is worse than 4; 4 is worse than C.",
        ),
        (
            {"1": "4", "2": "4", "4": "C", "C": ""},
            f"C and 1 or 2 can't be told apart {WITH}; 1 and 2 are worse than 4; 4 is worse than "
            "C.",
        ),
    ],
)
def test_the_sentence_states_the_evidence(worse_than: dict[str, str], sentence: str) -> None:
    assert state_evidence(made_up(worse_than)) == [sentence]


def test_each_combination_of_other_fields_has_a_text() -> None:
    evidence = pd.concat(
        [
            made_up({"1": "", "C": ""}),
            made_up({"1": "", "C": "1"}, order="pointwise_first", test_top1=0.8, left_out=1),
        ],
        ignore_index=True,
    )
    assert state_evidence(evidence) == [
        f"order spatial_first: 1 and C can't be told apart {WITH}.",
        "order pointwise_first: 1 is better than C (5 seeds, 1,360 test examples). 1 seed is left "
        "out, because not every compared point has a finished run.",
    ]


def test_one_seed_says_nothing_about_others() -> None:
    assert state_evidence(made_up({"1": "", "C": ""}, runs=1)) == [
        "1 and C can't be told apart with 1 seed and 1,360 test examples. This holds for these "
        "trained networks only; other seeds may differ."
    ]


def test_points_without_finished_runs_are_named() -> None:
    evidence = made_up({"1": "", "4": "", "16": "", "C": "1"}, left_out=2)
    evidence.loc[[1, 2], "runs"] = 0
    (text,) = state_evidence(evidence)
    assert text == (
        "1 is better than C (5 seeds, 1,360 test examples). 4 and 16 have no finished run. 2 seeds "
        "are left out, because not every compared point has a finished run."
    )
    evidence.loc[2, "runs"] = 5
    (text,) = state_evidence(evidence)
    assert "4 has no finished run" in text
    evidence["runs"] = 0
    assert state_evidence(evidence) == ["No seed has a finished run at each of 1, 4, 16 and C."]
    assert state_evidence(evidence.iloc[:1]) == ["1 has no finished run."]


def test_a_field_that_is_compared_is_named_with_its_values() -> None:
    evidence = made_up({"spatial_first": "", "own": "spatial_first"})
    evidence = evidence.rename(columns={"order": "segments", "segments": "order"})
    evidence["segments"] = "C/8"
    assert state_evidence(evidence, "order") == [
        "order spatial_first is better than order own (5 seeds, 1,360 test examples)."
    ]
    evidence["worse_than"] = ""
    both = pd.concat([evidence, evidence.assign(segments="C", left_out=2)], ignore_index=True)
    tied = f"order spatial_first and order own can't be told apart {WITH}."
    assert state_evidence(both, "order") == [
        f"segments C/8: {tied}",
        f"segments C: {tied} 2 seeds are left out, because not every compared point has a "
        "finished run.",
    ]


def test_several_values_of_a_field_are_listed() -> None:
    evidence = made_up({"a": "b, c", "b": "c", "c": ""}).rename(columns={"segments": "network"})
    evidence["segments"] = "4"
    evidence["order"] = [
        "own",
        "spatial_first",
        "own",
    ]  # each network's own order makes no other group
    assert state_evidence(evidence, "network") == [
        "network c is best: its accuracy is higher than that of network a and network b (5 seeds, "
        "1,360 test examples)."
    ]
    evidence["runs"] = 0
    assert state_evidence(evidence, "network") == [
        "No seed has a finished run at each of network a, network b and network c."
    ]


def test_a_tuned_learning_rate_makes_no_group() -> None:
    evidence = made_up({"1": "", "C": "1"}, tuned_lr=0.1)
    evidence.loc[1, "tuned_lr"] = 0.2
    assert state_evidence(evidence) == ["1 is better than C (5 seeds, 1,360 test examples)."]


COUNTS = "(5 seeds, 1,360 test examples)"


@pytest.mark.parametrize(
    ("worse_than", "close_to", "sentence"),
    [
        ({"4": "", "C": ""}, {"4": "C", "C": "4"}, f"4 and C are equal within 1 point {COUNTS}."),
        (
            {"1": "4, C", "4": "", "C": ""},
            {"4": "C", "C": "4"},
            f"4 and C are equal within 1 point {COUNTS}; 1 is worse than both.",
        ),
        (
            {"1": "C", "C": ""},
            {"1": "C", "C": "1"},
            f"C is slightly better than 1, by less than 1 point {COUNTS}.",
        ),
        (
            {"1": "C", "4": "C", "C": ""},
            {"4": "C", "C": "4"},
            "C is best: its accuracy is higher than that of 1 and 4 (5 seeds, 1,360 test "
            "examples). It is ahead of 4 by less than 1 point.",
        ),
        (
            {"1": "", "4": "", "C": ""},
            {"4": "C", "C": "4"},
            f"1, 4 and C can't be told apart {WITH}. Of these, 4 and C are equal within 1 point.",
        ),
        (
            {"1": "", "2": "", "4": "", "C": ""},
            {"1": "2, 4, C", "2": "1, 4, C", "4": "1, 2", "C": "1, 2"},
            f"1, 2, 4 and C can't be told apart {WITH}. All pairs of these are equal within 1 "
            "point, but for 4 and C.",
        ),
        (
            {"1": "", "2": "", "4": "", "8": "", "C": ""},
            {"1": "2, 4, 8, C", "2": "1", "4": "1", "8": "1", "C": "1"},
            f"1, 2, 4, 8 and C can't be told apart {WITH}. 4 of their 10 pairs are equal within 1 "
            "point.",
        ),
        (
            {"1": "", "2": "", "4": "", "C": ""},
            {"1": "2", "2": "1", "4": "C", "C": "4"},
            f"1, 2, 4 and C can't be told apart {WITH}. Of these, 1 and 2, and 4 and C are equal "
            "within 1 point.",
        ),
        (
            {"1": "", "2": "", "4": "", "C": ""},
            {"1": "2, 4", "2": "1, C", "4": "1, C", "C": "2, 4"},
            f"1, 2, 4 and C can't be told apart {WITH}. All pairs of these are equal within 1 "
            "point, but for 1 and C, and 2 and 4.",
        ),
        (
            {"1": "4, C", "2": "4", "4": "", "C": ""},
            {"1": "2", "2": "1, C", "C": "2"},
            f"4 and C can't be told apart {WITH}; 1 is worse than both; 2 is worse than 4.",
        ),
        (
            {"1": "", "2": "", "4": "", "C": "1, 2, 4"},
            {"1": "2, 4", "2": "1, 4", "4": "1, 2"},
            f"1, 2 and 4 are equal within 1 point {COUNTS}; C is worse than all of them.",
        ),
        (
            {"1": "4", "4": "C", "C": ""},
            {"1": "C", "C": "1"},
            f"C and 1 are equal within 1 point {COUNTS}; 1 is worse than 4; 4 is worse than C.",
        ),
    ],
)
def test_what_is_equal_is_said(
    worse_than: dict[str, str], close_to: dict[str, str], sentence: str
) -> None:
    evidence = made_up(worse_than)
    evidence["close_to"] = [close_to.get(point, "") for point in evidence["segments"]]
    assert state_evidence(evidence) == [sentence]


def test_a_point_may_be_slightly_worse_than_several() -> None:
    evidence = made_up({"1": "4, C", "2": "4, C", "4": "", "C": ""})
    evidence["close_to"] = ["", "4, C", "2, C", "2, 4"]
    assert state_evidence(evidence) == [
        f"4 and C are equal within 1 point {COUNTS}; 1 is worse than both; 2 is slightly worse "
        "than both, by less than 1 point."
    ]
    some = evidence[evidence["segments"] != "C"]  # a part of the table can be described too
    assert state_evidence(some)[0].startswith("4 is best: its accuracy is higher than that of 1")


def test_points_are_compared_with_a_reference() -> None:
    worse_than = {"1": "C", "2": "C", "4": "", "8": "", "16": "", "C": "8"}
    evidence = made_up(worse_than, against="C", equal_within=0.5)
    evidence["close_to"] = ["", "C", "C", "", "", "2, 4"]
    assert state_evidence(evidence) == [
        "Compared with C (5 seeds, 1,360 test examples), 1 is worse; 2 is slightly worse, by less "
        "than 0.5 points; 4 is equal to it within 0.5 points; 8 is better; 16 can't be told apart "
        "from it."
    ]
    evidence = made_up({"1": "", "4": "", "C": ""}, against="C")
    evidence.loc[2, "runs"] = 0
    assert state_evidence(evidence) == [
        "Nothing is compared, since C has no finished run. C has no finished run."
    ]


def test_what_would_settle_the_rest_is_said() -> None:
    tied = f"1 and C can't be told apart {WITH}."
    for seeds, text in (
        (37.0, "About 37 seeds would settle every pair."),
        (float("inf"), "No number of seeds would settle every pair: it takes more images."),
    ):
        evidence = made_up({"1": "", "C": ""}, seeds_to_settle=seeds)
        assert state_evidence(evidence) == [f"{tied} {text}"]
    (text,) = state_evidence(made_up({"1": "", "C": ""}, runs=2))
    assert text.endswith("test examples. Two seeds hardly show how much seeds differ.")
    (text,) = state_evidence(made_up({"1": "", "C": ""}, runs=2, seeds_to_settle=1234.0, look=2))
    assert text.startswith(
        "1 and C can't be told apart with 2 seeds and 1,360 test examples. Two seeds hardly show "
        "how much seeds differ. About 1,234 seeds would settle every pair. This is look 2 at"
    )
    unknown = made_up({"1": "", "C": ""}, runs=1, seeds_to_settle=float("nan"))
    assert state_evidence(unknown, unit="sampled combination") == [
        "1 and C can't be told apart with 1 sampled combination and 1,360 test examples. This "
        "holds for these trained networks only; other sampled combinations may differ."
    ]
    several = made_up({"1": "", "4": "", "C": ""})
    several["seeds_to_settle"] = [0.0, 12.0, 12.0]
    (text,) = state_evidence(several, unit="sampled combination")
    assert text.endswith(" About 12 sampled combinations would settle every pair.")
    several["seeds_to_settle"] = [7.0, float("inf"), float("inf")]
    (text,) = state_evidence(several)
    assert text.endswith(" No number of seeds would settle every pair: it takes more images.")


@pytest.mark.parametrize(
    ("rows", "claims"),
    [
        ({"1": "C", "4": "C", "C": ""}, "1 and 4 are worse"),
        ({"1": "", "4": "", "C": "1, 4"}, "1 and 4 are better"),
        ({"1": "", "4": "", "C": ""}, "1 and 4 can't be told apart from it"),
        ({"1": "", "4": "4", "C": ""}, "1 and 4 are equal to it within 2 points"),
        ({"1": "C", "4": "C", "C": "4"}, "1 and 4 are slightly worse, by less than 2 points"),
        ({"1": "", "4": "", "C": "1, 4 "}, "1 and 4 are slightly better, by less than 2 points"),
    ],
)
def test_points_with_one_claim_share_a_clause(rows: dict[str, str], claims: str) -> None:
    is_close = "points" in claims
    worse_than = {point: better.strip() for point, better in rows.items()}
    if claims.startswith("1 and 4 are equal"):
        worse_than = dict.fromkeys(rows, "")
    elif "slightly worse" in claims:
        worse_than["C"] = ""
    evidence = made_up(worse_than, against="C", equal_within=2.0)
    evidence["close_to"] = ["C", "C", "1, 4"] if is_close else ""
    assert state_evidence(evidence) == [f"Compared with C {COUNTS}, {claims}."]


def test_a_further_look_is_said() -> None:
    for look, share in ((2, "2.5"), (3, "1.25"), (4, "0.625")):
        says = (
            f"This is look {look} at the results of a study that has grown: its claims have an "
            f"error of at most {share}%, and those of all looks together of at most 10%."
        )
        for runs in (1, 2, 5):
            (text,) = state_evidence(made_up({"1": "", "C": ""}, runs=runs, look=look))
            assert text.endswith(says)
    (text,) = state_evidence(made_up({"1": "", "C": ""}))
    assert "look" not in text


@pytest.mark.parametrize(("drawn", "count"), [(5000, 0), (5001, 1)])
def test_seeds_that_share_most_of_their_images_are_said(drawn: int, count: int) -> None:
    results = pd.DataFrame({"images_drawn": [100, drawn], "drawn_from": [10_000] * 2})
    texts = state_draws(results)
    assert len(texts) == count
    assert not texts or texts[0].startswith("Each seed trains on 5,001 of 10,000 images, so seeds")
    assert state_draws(results.drop(columns="images_drawn")) == []
