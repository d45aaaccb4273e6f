"""The comparison of two studies, on made-up rows and answers, against numpy and scipy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from spectrum import compare_points
from spectrum.analysis.planned import MissingRuns
from spectrum.analysis.studies import compare_studies
from spectrum.errors import DamagedFile, FieldError
from tests.made_up_results import write_made_up_study

Answers = dict[tuple[str, int], NDArray[np.bool_]]
"""The answers of the run of each point and seed."""
FIELDS: dict[str, Any] = {
    "network": {"name": ["tiny"]},
    "data": {"name": ["digits"]},
    "recipe": {"name": ["small"]},
    "match": "params",
}


def draw_answers(
    points: str, seeds: int, examples: int, accuracy: float = 0.7, rng: int = 0
) -> Answers:
    """Answers that are right more often to some examples than to others."""
    generator = np.random.default_rng(rng)
    ease = generator.normal(size=examples)
    return {
        (point, seed): ease + generator.normal(size=examples)
        > stats.norm.ppf(1 - accuracy) * 2**0.5
        for point in points.split(",")
        for seed in range(seeds)
    }


def write(tmp_path: Path, name: str, answers: Answers, make_results: Any, **fields: Any) -> Path:
    """Write a study in which each point has a run with these answers at each seed."""
    columns = fields.pop("columns", {})
    rows = pd.concat(
        [
            make_results({point: [float(right.mean())]}, **columns).assign(
                seed=seed, run_id=f"{name}-{point}-{seed}", data="digits", epochs=10
            )
            for (point, seed), right in answers.items()
        ],
        ignore_index=True,
    )
    by_id = {f"{name}-{point}-{seed}": right for (point, seed), right in answers.items()}
    (tmp_path / name).mkdir(parents=True)
    return write_made_up_study(tmp_path / name, rows, by_id, **{**FIELDS, **fields})


def differences(ours: Answers, theirs: Answers, point: str, seeds: int) -> NDArray[np.float64]:
    """What one study's runs answer better than the other's, (seeds, examples)."""
    pairs = [(ours[point, seed], theirs[point, seed]) for seed in range(seeds)]
    return np.array([a.astype(float) - b.astype(float) for a, b in pairs])


def paired_width(values: NDArray[np.float64]) -> float:
    """The width of the interval of a mean over seeds and examples, of an analysis of variance."""
    n_seeds, n_examples = values.shape
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    rest = values - rows[:, None] - columns + values.mean()
    noise = (rest**2).sum() / (n_seeds - 1) / (n_examples - 1) / values.size
    of_seeds = rows.var(ddof=1) / n_seeds
    of_examples = columns.var(ddof=1) / n_examples
    excess = max(((columns - columns.mean()) ** 4).mean() / columns.var() ** 2 - 3, 0)
    df = 2 / (excess / n_examples + 2 / (n_examples - 1))
    t_seeds, t_examples = stats.t.ppf(0.975, n_seeds - 1), stats.t.ppf(0.975, df)
    squares = t_seeds**2 * of_seeds + t_examples**2 * max(of_examples - noise, 0)
    return float(2 * math.sqrt(max(squares, t_examples**2 * of_examples)))


def test_a_point_of_two_studies_is_compared_in_pairs(tmp_path: Path, make_results: Any) -> None:
    ours, theirs = draw_answers("1,4", 4, 150, 0.8), draw_answers("C,4", 3, 150, 0.6)
    relu = write(tmp_path, "with_relu", ours, make_results, columns={"activation": "relu"})
    none = write(tmp_path, "without", theirs, make_results, columns={"activation": "none"})
    (row,) = compare_points([relu, none]).to_dict("records")
    values = differences(ours, theirs, "4", 3)
    assert (row["segments"], row["point"], row["other"]) == ("4", "relu", "none")
    assert (row["runs"], row["examples"], row["left_out"]) == (3, 150, 1)
    assert row["difference"] == pytest.approx(values.mean())
    assert row["difference_low"] < row["difference"] < row["difference_high"]
    width = row["difference_high"] - row["difference_low"]
    assert width == pytest.approx(paired_width(values), rel=1e-9)
    means = [np.mean([answers["4", seed] for seed in range(3)]) for answers in (ours, theirs)]
    assert [row["test_top1"], row["other_test_top1"]] == pytest.approx(means)
    scale = values.mean(axis=1).std(ddof=1) * math.sqrt(1 / 3 + 1)
    assert row["p_better"] == pytest.approx(stats.t.cdf(values.mean() / scale, 2))
    (turned,) = compare_points((str(none), relu)).to_dict("records")
    assert turned["difference"] == pytest.approx(-row["difference"])
    assert turned["difference_high"] == pytest.approx(-row["difference_low"])


def test_the_verdicts_are_corrected_for_the_points_of_the_table(
    tmp_path: Path, make_results: Any
) -> None:
    # With one seed the interval is Student's t over examples. 6 of 100 examples differ one way.
    right = np.ones(100, bool)
    wrong = right.copy()
    wrong[:6] = False
    values = (right ^ wrong).astype(float)
    df = 2 / (max(stats.kurtosis(values), 0) / 100 + 2 / 99)
    p = 2 * stats.t.sf(values.mean() / stats.sem(values), df)
    points = [str(2**n) for n in range(6)]
    assert 0.05 / len(points) < p < 0.05
    ours = {(point, 0): right for point in points}
    theirs = {(point, 0): wrong if point == "1" else right for point in points}
    for number, verdict in ((1, "different"), (len(points), "unknown")):
        folders = [
            write(tmp_path / str(number), name, kept, make_results, recipe=recipe)
            for name, answers, recipe in (
                ("fast", ours, {"name": ["small"], "lr": [0.01]}),
                ("slow", theirs, {"name": ["small"], "lr": [0.001]}),
            )
            if (kept := {key: answers[key] for key in list(answers)[:number]})
        ]
        found = compare_points(folders)
        assert found["segments"].tolist() == points[:number]
        assert found["verdict"][0] == verdict
        assert {*found["point"], *found["other"]} == {"0.01", "0.001"}


def test_studies_that_differ_in_several_fields_have_their_names(
    tmp_path: Path, make_results: Any
) -> None:
    folders = [
        write(
            tmp_path,
            name,
            draw_answers("1,C", 3, 80, accuracy),
            make_results,
            recipe={"name": ["small"], "lr": [lr]},
            columns={"activation": activation},
        )
        for name, accuracy, lr, activation in (
            ("new", 0.9, 0.02, "relu"),
            ("old", 0.4, 0.01, "elu"),
        )
    ]
    found = compare_studies(*folders)
    assert found.points["point"].tolist() == ["new"] * 2
    assert found.points["other"].tolist() == ["old"] * 2
    lead, first, second = found.sentences
    assert lead == (
        "Compared with the study old at 2 points that both have, on the same seeds and test "
        "images. The studies differ in activation (relu here, elu there), lr (0.02 here, 0.01 "
        "there)."
    )
    said = "Compared with study old (3 seeds, 80 test examples), study new is better."
    assert first.startswith(f"segments 1: {said}")
    assert second.startswith(f"segments C: {said}")


def test_the_stricter_criteria_of_the_two_are_used(tmp_path: Path, make_results: Any) -> None:
    answers = draw_answers("1", 3, 80)
    for name, margin, looks in (("a", 0.5, [3]), ("b", 2.0, [2, 3])):
        folder = write(tmp_path, name, answers, make_results, equal_within=margin)
        (folder / "looks.json").write_text(json.dumps(looks))
    (row,) = compare_points([tmp_path / "a", tmp_path / "b"]).to_dict("records")
    assert (row["equal_within"], row["look"]) == (0.5, 2)
    assert row["difference"] == 0
    assert (
        compare_studies(tmp_path / "a", tmp_path / "b")
        .sentences[0]
        .endswith("The fields of the two studies are equal.")
    )


def test_a_point_without_a_finished_run_is_said_and_has_no_row(
    tmp_path: Path, make_results: Any
) -> None:
    ours = write(tmp_path, "ours", draw_answers("1,C", 2, 60), make_results)
    theirs = write(
        tmp_path, "theirs", draw_answers("1,C", 2, 60), make_results, columns={"activation": "elu"}
    )
    rows = pd.read_csv(theirs / "results.csv", keep_default_na=False)
    failed = rows["segments"] == "1"
    rows.assign(status=rows["status"].mask(failed, "diverged")).to_csv(
        theirs / "results.csv", index=False
    )
    found = compare_studies(ours, theirs)
    assert found.points["segments"].tolist() == ["C"]
    assert "activation elu has no finished run." in found.sentences[1]


BASE = {"columns": {"activation": "relu"}}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"data": {"name": ["planted"]}}, "data must be digits not planted"),
        ({"data": {"name": ["digits"], "test": [0.3]}}, "test must be 0.2 not 0.3"),
        ({"data": {"name": ["digits"], "split_seed": [1]}}, "split_seed must be 0 not 1"),
        ({"resplit": [True]}, "resplit must be False not True"),
        ({"sample": 2}, "can't be compared if one of the two studies is a sample"),
    ],
)
def test_studies_of_other_images_are_refused(
    fields: dict[str, Any], said: str, tmp_path: Path, make_results: Any
) -> None:
    answers = draw_answers("1,C", 2, 60)
    ours = write(tmp_path, "ours", answers, make_results)
    theirs = write(tmp_path, "theirs", answers, make_results, **BASE, **fields)
    with pytest.raises(FieldError, match=said) as raised:
        compare_points([ours, theirs])
    assert (raised.value.field, raised.value.value) == ("folder", theirs)
    assert "\n" not in str(raised.value)


def test_fewer_training_images_leave_the_test_images_as_they_are(
    tmp_path: Path, make_results: Any
) -> None:
    answers = draw_answers("1,C", 2, 60)
    ours = write(tmp_path, "ours", answers, make_results)
    data = {"name": ["digits"], "train_images": [500]}
    theirs = write(tmp_path, "theirs", answers, make_results, data=data)
    found = compare_points([ours, theirs])
    assert [*found["point"], *found["other"]] == ["none", "none", "500", "500"]


def test_studies_with_nothing_to_compare_are_refused(tmp_path: Path, make_results: Any) -> None:
    answers, others = draw_answers("1,C", 2, 60), draw_answers("4,8", 2, 60)
    ours = write(tmp_path, "ours", answers, make_results)
    elsewhere = write(tmp_path, "elsewhere", others, make_results)
    with pytest.raises(FieldError, match="with a value of segments among 1,C; it has 4,8"):
        compare_points([ours, elsewhere])
    with pytest.raises(FieldError, match="must hold other runs at the points that both studies"):
        compare_points([ours, ours])
    more = write(tmp_path, "more", draw_answers("1,C", 2, 61), make_results, **BASE)
    with pytest.raises(ValueError, match=r"must share their test examples, not have \[60, 61\]"):
        compare_points([ours, more])
    damaged = write(tmp_path, "odd", answers, make_results, data={"name": ["digits"], "test": [7]})
    with pytest.raises(DamagedFile, match=r"study\.json is damaged: test \(=7\)"):
        compare_points([ours, damaged])
    for folders, said in (([ours], "or those of two studies"), ([], "or those of two studies")):
        with pytest.raises(FieldError, match=said):
            compare_points(folders)
    with pytest.raises(FieldError, match=r"over \(='order'\) must not be given with two folders"):
        compare_points([ours, more], over="order")
    with pytest.raises(FieldError, match=r"must hold a study's results; no results.csv"):
        compare_points([ours, tmp_path / "nothing"])


def test_images_that_have_changed_are_refused_if_the_stores_say_so(
    tmp_path: Path, make_results: Any
) -> None:
    answers = draw_answers("1,C", 2, 60)
    runs = str(tmp_path / "runs")
    ours = write(tmp_path, "ours", answers, make_results, runs=runs)
    theirs = write(tmp_path, "theirs", answers, make_results, runs=runs, **BASE)
    for name, content in (("ours", "one"), ("theirs", "one")):
        run = tmp_path / "runs" / f"{name}-1-0"
        run.mkdir(parents=True)
        (run / "config.json").write_text(json.dumps({"fingerprint": content}))
    assert len(compare_points([ours, theirs])) == 2
    (run / "config.json").write_text(json.dumps({"fingerprint": "another"}))
    with pytest.raises(FieldError, match="of the same images; they have changed between the two"):
        compare_points([ours, theirs])


def test_an_incomplete_study_is_not_compared(make_results: Any, tmp_path: Path) -> None:
    folders = [
        write(tmp_path, name, draw_answers("1,C", 2, 50), make_results) for name in ("one", "two")
    ]
    compare_points(folders)
    planned = [{"run_id": f"two-{point}-2", "name": f"segments {point}, seed 2"} for point in "1C"]
    (folders[1] / "planned.json").write_text(json.dumps(planned))
    with (
        pytest.warns(MissingRuns),
        pytest.raises(FieldError, match="complete study: 2 of 2 runs are missing: segments 1, "),
    ):
        compare_points(folders)
