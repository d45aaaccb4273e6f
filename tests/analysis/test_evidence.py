"""The comparison of a study's points, on made-up rows and answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spectrum import compare_pairs, compare_points, state_evidence
from spectrum.analysis.comparison import compare, comparison_columns
from spectrum.analysis.evidence import analyze_study, gather_evidence
from spectrum.analysis.folder import AVERAGE_PRECISION, load_results
from spectrum.analysis.measure import ACCURACY, mean_average_precision
from spectrum.errors import DamagedFile, FieldError
from tests.made_up_results import Answers, make_answers, write_made_up_study

THREE = {"1": [0.9, 0.88, 0.91], "4": [0.6, 0.6, 0.64], "C": [0.3, 0.35, 0.31]}
TWO = {"1": [0.9, 0.8], "C": [0.5, 0.6]}
COMPARED = comparison_columns(ACCURACY)
OF_SERIES = ["runs", "examples", "test_top1", "test_low", "test_high", "difference", "p_best"]


def by_hand(
    rows: pd.DataFrame, answers: Answers, over: str, reference: str | None = None
) -> pd.DataFrame:
    """The comparison of rows that differ in one field alone and in their seeds."""
    ids = rows.pivot(index=over, columns="seed", values="run_id").loc[
        list(dict.fromkeys(rows[over]))
    ]
    stacked = np.array([[answers[run_id] for run_id in row] for row in ids.to_numpy()])
    return compare(stacked, list(ids.index), reference)


def at_each(make_results, values, **fields: list[str]) -> pd.DataFrame:
    """The same accuracies at each value of another field."""
    ((name, options),) = fields.items()
    return pd.concat([make_results(values, **{name: o}) for o in options], ignore_index=True)


def test_evidence_has_one_row_per_point_in_order(make_results) -> None:
    results = make_results(THREE)
    answers = make_answers(results)
    evidence = gather_evidence(results, answers.__getitem__).points
    pd.testing.assert_frame_equal(evidence[COMPARED], by_hand(results, answers, "segments"))
    assert evidence["segments"].tolist() == [*THREE]
    assert evidence["params"].tolist() == [79_000, 79_001, 79_002]
    assert evidence["left_out"].tolist() == [0, 0, 0]
    assert evidence["reference"].tolist() == ["C"] * 3
    assert gather_evidence(results, answers.__getitem__, "4").points["difference"][1] == 0


def test_the_points_are_compared_on_the_seeds_they_share(make_results) -> None:
    nan = float("nan")
    results = make_results({"1": [nan, 0.9, 0.9, 0.8], "C": [0.6, 0.5, nan, 0.6]})
    answers = make_answers(results)  # a failed run has none
    evidence = gather_evidence(results, answers.__getitem__).points
    expected = by_hand(results[results["seed"].isin([1, 3])], answers, "segments")
    pd.testing.assert_frame_equal(evidence[COMPARED], expected)
    assert evidence["runs"].tolist() == evidence["left_out"].tolist() == [2, 2]


def test_a_point_without_a_finished_run_is_left_out(make_results) -> None:
    results = make_results({**THREE, "C": [float("nan")] * 3})
    answers = make_answers(results)
    evidence = gather_evidence(results, answers.__getitem__).points
    assert evidence["runs"].tolist() == [3, 3, 0]
    assert evidence["left_out"].tolist() == [0, 0, 0]
    assert evidence["reference"].tolist() == ["1", "1", ""]
    assert evidence["p_best"][:2].sum() == pytest.approx(1)
    assert evidence.loc[2, ["test_top1", "difference", "p_best"]].isna().all()
    with pytest.raises(ValueError, match=r"reference \(='?C'?\) must be one of 1, 4"):
        gather_evidence(results, answers.__getitem__, "C")


@pytest.mark.parametrize("second", [[float("nan")] * 2, [float("nan"), 0.5]], ids=str)
def test_nothing_to_compare_is_no_error(second: list[float], make_results) -> None:
    results = make_results({"1": [second[1], float("nan")], "C": second})
    evidence = gather_evidence(results, make_answers(results).__getitem__).points
    assert evidence["runs"].tolist() == [0, 0]
    assert evidence["test_top1"].isna().all()


def test_each_series_is_compared_by_itself_over_any_field(make_results) -> None:
    orders = ["spatial_first", "pointwise_first"]
    results = at_each(make_results, TWO, order=orders)
    answers = make_answers(results)
    for over, other in (("segments", "order"), ("order", "segments")):
        evidence = gather_evidence(results, answers.__getitem__, over=over).points
        assert [text.split(":")[0] for text in state_evidence(evidence, over)] == [
            f"{other} {value}" for value in dict.fromkeys(evidence[other])
        ]
        for value, rows in results.groupby(other):
            found = evidence[evidence[other] == value].reset_index(drop=True)
            expected = by_hand(rows, answers, over)
            # Variances and corrections are those of all series together.
            pd.testing.assert_frame_equal(found[OF_SERIES], expected[OF_SERIES])
    turned = gather_evidence(results, answers.__getitem__, "pointwise_first", "order").points
    assert turned["difference"].tolist() == pytest.approx(
        [-evidence["difference"][1], 0, -evidence["difference"][3], 0]
    )
    with pytest.raises(ValueError, match=r"\Aover \(='colour'\) must be one of network, order, "):
        gather_evidence(results, answers.__getitem__, over="colour")


def test_a_run_of_two_studies_counts_once(make_results) -> None:
    results = make_results(THREE)
    answers = make_answers(results)
    twice = pd.concat([results, results.assign(study="another")], ignore_index=True)
    pd.testing.assert_frame_equal(
        gather_evidence(twice, answers.__getitem__).points,
        gather_evidence(results, answers.__getitem__).points,
    )
    twice["run_id"] += twice["study"]
    with pytest.raises(ValueError, match="one run per point and seed, not two of 1, 0"):
        gather_evidence(twice, answers.__getitem__)


def test_runs_on_other_test_examples_are_refused(make_results) -> None:
    results = make_results(TWO)
    answers = make_answers(results)
    answers[results["run_id"][0]] = np.ones(81, bool)
    with pytest.raises(ValueError, match=r"must share their test examples, not have \[81, 100\]"):
        gather_evidence(results, answers.__getitem__)


@pytest.mark.parametrize(
    ("over", "better", "worse", "said"),
    [
        # Each network has its own order, which makes no series.
        ("network", ("tiny", "own"), ("vgg_small", "spatial_first"), "tiny is better than network"),
        ("hidden", ("", "own"), ("8,4", "own"), "none is better than hidden 8,4"),  # as in a file
        ("hidden", ("8,4", "own"), ("", "own"), "8,4 is better than hidden none"),
        ("dropout", (0.0, "own"), (0.5, "own"), "0.0 is better than dropout 0.5"),
    ],
)
def test_values_of_any_type_are_compared(over, better, worse, said, make_results) -> None:
    results = pd.concat(
        [
            make_results({"C": accuracies}, **{over: value, "order": order})
            for accuracies, (value, order) in (([0.9, 0.9], better), ([0.4, 0.4], worse))
        ],
        ignore_index=True,
    )
    answers, reference = make_answers(results), str(worse[0]) or "none"
    evidence = gather_evidence(results, answers.__getitem__, reference, over).points
    assert evidence[over].tolist() == [better[0], worse[0]]
    assert evidence["difference"].tolist() == pytest.approx([0.5, 0.0])
    (sentence,) = state_evidence(evidence, over)
    assert sentence.startswith(f"{over} {said}")
    assert " (2 seeds, 100 test examples). Two seeds hardly show" in sentence


def test_a_folder_is_compared_by_the_field_that_it_names(make_results, tmp_path: Path) -> None:
    results = at_each(make_results, TWO, order=["spatial_first", "pointwise_first"])
    answers = make_answers(results)
    folder = write_made_up_study(tmp_path, results, answers, compare="order")
    read = load_results(folder)
    for given, over in ((None, "order"), ("segments", "segments")):
        expected = gather_evidence(read, answers.__getitem__, over=over).points
        pd.testing.assert_frame_equal(compare_points(folder, over=given), expected)
    write_made_up_study(tmp_path, results, answers)  # of before there was a field to compare
    pd.testing.assert_frame_equal(compare_points(str(folder)), expected)


def test_the_combinations_of_a_sample_count_as_seeds(make_results, tmp_path: Path) -> None:
    results = at_each(make_results, {"1": [0.9], "C": [0.8]}, lr=["0.1", "0.2", "0.4"])
    answers = make_answers(results)
    found = analyze_study(write_made_up_study(tmp_path, results, answers, sample=3))
    expected = by_hand(results.assign(seed=results["lr"]), answers, "segments")
    pd.testing.assert_frame_equal(found.evidence[COMPARED], expected)
    assert found.summary["runs"].tolist() == [3, 3]
    assert "3 sampled combinations" in found.sentences[0]


def test_answers_of_another_study_are_refused(make_results, tmp_path: Path) -> None:
    results = make_results(TWO)
    first, *others = results["run_id"]
    answers = make_answers(results)
    other = answers | {first: ~answers[first]}
    with pytest.raises(ValueError, match=rf"has two accuracies of run {first}: its files differ"):
        compare_points(write_made_up_study(tmp_path, results, other))
    rest = {run_id: answers[run_id] for run_id in others}
    analysis = analyze_study(write_made_up_study(tmp_path, results, rest))  # the rows still stand
    assert analysis.evidence is None
    (said,) = analysis.sentences
    assert said.startswith("Nothing can be compared: folder (=")
    assert said.endswith(f"lacks the per-example results of run {first}.")


def graded(results: pd.DataFrame) -> tuple[pd.DataFrame, Answers]:
    """The results and the average precisions of images of which every fifth has no label."""
    rng = np.random.default_rng(0)
    precision = {run_id: rng.random(50).astype(np.float32) for run_id in results["run_id"]}
    for answers in precision.values():
        answers[::5] = np.nan
    means = [np.nanmean(precision[run_id], dtype=float) for run_id in results["run_id"]]
    names = {"val_top1": "val_map", "test_top1": "test_map"}
    return results.rename(columns=names).assign(test_map=means, test_top1=0.5), precision


def test_points_are_compared_by_average_precision(make_results, tmp_path: Path) -> None:
    results, precision = graded(make_results(TWO))
    folder = write_made_up_study(tmp_path, results, {})
    np.savez(folder / AVERAGE_PRECISION, **precision)
    stacked = np.array([precision[run_id] for run_id in results["run_id"]]).reshape(2, 2, 50)
    known = stacked[:, :, ~np.isnan(stacked[0, 0])]
    expected = compare(known, ["1", "C"], measure=mean_average_precision())
    evidence = compare_points(folder)
    pd.testing.assert_frame_equal(evidence[list(expected.columns)], expected)
    # A resampled image is the same in all runs, so an image without labels is in none.
    assert evidence["examples"].tolist() == [40, 40]
    first = results["run_id"][0]
    results.loc[0, "test_map"] /= 2
    np.savez(write_made_up_study(folder, results, {}) / AVERAGE_PRECISION, **precision)
    with pytest.raises(ValueError, match=f"has two values of MAP of run {first}: its files differ"):
        compare_points(folder)


def test_images_without_labels_are_the_same_for_all(make_results) -> None:
    results, precision = graded(make_results(TWO))
    precision[results["run_id"][0]][1] = np.nan
    with pytest.raises(ValueError, match="must share which of their test examples have labels"):
        gather_evidence(results, precision.__getitem__)


@pytest.mark.parametrize("against", ["C", "1", "another", None])
def test_a_reference_is_one_of_the_values(against: str | None, make_results, tmp_path) -> None:
    results = make_results(TWO)
    folder = write_made_up_study(tmp_path, results, make_answers(results), against=against)
    analysis = analyze_study(folder)
    if against == "another":
        line = "against (='another') must be one of 1, C"
        assert analysis.sentences == [f"Nothing can be compared: {line}."]
        for read in (compare_points, compare_pairs):
            with pytest.raises(FieldError) as caught:
                read(folder)
            assert str(caught.value) == line
        return
    assert analysis.evidence is not None
    assert set(analysis.evidence["reference"]) == {against or "C"}
    assert analysis.sentences[0].startswith(f"Compared with {against}") == (against is not None)
    (pair,) = compare_pairs(folder).to_dict("records")
    points = compare_points(folder).set_index("segments")
    difference = points["test_top1"]["1"] - points["test_top1"]["C"]
    assert pair["difference"] == pytest.approx(difference)
    assert pair["verdict"] in set(points["verdict"])


def test_a_field_that_is_not_compared_has_no_reference(make_results, tmp_path: Path) -> None:
    results = pd.concat(
        [make_results(TWO, order=order) for order in ("spatial_first", "pointwise_first")],
        ignore_index=True,
    )
    folder = write_made_up_study(tmp_path, results, make_answers(results), against="1")
    assert set(compare_points(folder)["against"]) == {"1"}
    others = compare_points(folder, over="order")
    assert set(others["against"]) == {""}
    assert set(others["reference"]) == {"spatial_first"}
    assert len(compare_pairs(folder)) == len(compare_pairs(folder, over="order")) == 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"against": 3}, "against (=3) must be a valid string"),
        ({"against": ""}, "against (='') String should have at least 1 character"),
        *(
            ({"equal_within": value}, f"equal_within (={value!r}) must be ")
            for value in (-1, 100.5, True, None, "1.0", float("nan"))
        ),
    ],
)
def test_damaged_criteria_are_named(fields, reason: str, make_results, tmp_path: Path) -> None:
    results = make_results(TWO)
    folder = write_made_up_study(tmp_path, results, make_answers(results), **fields)
    with pytest.raises(DamagedFile) as caught:
        compare_points(folder)
    assert str(caught.value).startswith(f"{folder / 'study.json'} is damaged: {reason}")
    assert len(str(caught.value).splitlines()) == 1
