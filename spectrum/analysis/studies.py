"""The comparison of a study's points, and of the points that two studies have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from numpy.typing import NDArray

from spectrum.analysis.checksums import path_in, read_together
from spectrum.analysis.evidence import (
    Answers,
    AnswersOf,
    gather_evidence,
    read_answers,
    read_evidence,
    read_results,
)
from spectrum.analysis.labels import point_name
from spectrum.analysis.measure import MAP_AT, Measure, infer_measure
from spectrum.analysis.sentences import state_evidence
from spectrum.analysis.study_settings import other_images, read_fields, setting_texts
from spectrum.analysis.verdicts import Criteria
from spectrum.errors import FieldError, as_text, counted, printable
from spectrum.files import read_file

_LABEL = "label"  # the column that tells the two studies apart while they are compared


class StudyComparison(NamedTuple):
    """The comparison of a study with another one.

    Attributes:
        points: one row per point that both have, as ``compare_points`` returns them.
        sentences: what is compared, and what the evidence supports, in words.
        equal_within: the margin of equality, in percentage points.
    """

    points: pd.DataFrame
    sentences: list[str]
    equal_within: float


class _Study(NamedTuple):
    """One of two studies that are compared, or those of its runs that are at common points.

    Attributes:
        folder: its folder.
        fields: its fields, as ``read_fields`` returns them.
        rows: one row per run, as ``load_results`` returns them.
        settings: the configuration of each row, as ``setting_texts`` returns it.
        criteria: how surely it makes claims.
        answers_of: returns the answers of a run by its id.
    """

    folder: Path | str
    fields: Mapping[str, Any]
    rows: pd.DataFrame
    settings: pd.DataFrame
    criteria: Criteria
    answers_of: AnswersOf

    def at(self, is_common: NDArray[Any]) -> _Study:
        """The study with some of its runs."""
        return self._replace(rows=self.rows[is_common], settings=self.settings[is_common])


def compare_points(
    folder: Path | str | Sequence[Path | str],
    reference: str | None = None,
    over: str | None = None,
) -> pd.DataFrame:
    """Compares the points of a study, or those that two studies have in common.

    Points are compared by what their runs answer to the test examples. The combinations of a
    sampled study count as seeds. While runs of a study are missing, all verdicts are unknown and
    ``look`` is 0. Two studies must be complete.

    Of two studies, a point is in both if all of its fields are equal but those in which the studies
    differ, such as ``activation`` if one study has none and the other has relu. It is compared in
    pairs, on the seeds and test examples that both studies have. Seeds of different studies are
    never pooled. Both studies must be of the same data with the same fields, but for
    ``train_images`` and ``label_noise``. Whether the images themselves have changed is checked if
    the stores of both studies are at hand, since their folders don't say so. The smaller margin of
    equality of the two studies is used.

    Args:
        folder: the folder of the study, such as ``outputs/default``, or the folders of two studies.
        reference: the value of ``over`` that differences are taken to; None for that of
            ``StudyConfig.against``, or else ``"C"``, or the first value compared if ``"C"`` isn't
            among them. It is for one study only.
        over: the field whose values are compared; None for ``StudyConfig.compare``. It is for one
            study only.

    Returns:
        For one study, the rows of points that ``gather_evidence`` returns. For two, one row per
        point that has a finished run of a common seed in both: ``segments`` and the fields that
        vary among these points; ``point`` and ``other``, the values of the field in which the two
        studies differ, or the names of the studies if they differ in several fields or in none;
        ``difference``, that of the first study to the second, as a fraction, with the 95% interval
        ``difference_low`` to ``difference_high``; ``p_better``, ``verdict`` and
        ``seeds_to_settle``, as in ``compare_pairs``, where corrections are for the number of these
        points; ``runs`` and ``examples``, the numbers of seeds and test examples that are used;
        ``left_out``, the number of seeds that aren't; ``test_top1`` and ``other_test_top1``
        (``test_map`` for average precision), the means of the two; ``equal_within`` and ``look``.

    Raises:
        ValueError: a folder holds no study, its files are damaged, the reference isn't one of the
            values compared, or the two studies can't be compared.
    """
    if isinstance(folder, str) or not isinstance(folder, Sequence):
        return read_evidence(folder, reference, over)[1].points
    if len(folder) != 2:
        raise FieldError("folder", folder, "must be the folder of a study, or those of two studies")
    for field, value in (("reference", reference), ("over", over)):
        if value is not None:
            raise FieldError(field, value, "must not be given with two folders")
    return compare_studies(*folder).points


def compare_studies(folder: Path | str, other: Path | str) -> StudyComparison:
    """Compares the points that a study has in common with another one.

    Args:
        folder: the folder of the study.
        other: the folder of the other study.

    Raises:
        ValueError: a folder holds no study, its files are damaged, or the two can't be compared, as
            ``compare_points`` explains.
    """
    with read_together(folder), read_together(other):
        ours, theirs = _read(folder), _read(other)
        _check_comparable(ours.fields, theirs.fields, other)
        if infer_measure(ours.rows) != infer_measure(theirs.rows):
            allowed = f"must hold values of {infer_measure(ours.rows).name}"
            raise FieldError("folder", other, allowed)
        return _compare(ours, theirs)


def check_comparable(fields: Mapping[str, Any], other: Path | str) -> None:
    """Checks before a study is done that its results can be compared with those of another one.

    Args:
        fields: the fields of the study.
        other: the folder of the other study.

    Raises:
        ValueError: the folder holds no study or no results, its files are damaged, or its images
            aren't those of the study.
    """
    with read_together(other):
        read_results(other)
        _check_comparable(fields, read_fields(other), other)


def study_name(folder: Path | str) -> str:
    """The name of a study, which is that of its folder."""
    return path_in(folder, "").resolve().name


def _check_comparable(
    fields: Mapping[str, Any], others: Mapping[str, Any], other: Path | str
) -> None:
    if fields.get("sample") or others.get("sample"):
        allowed = "can't be compared if one of the two studies is a sample: its combinations differ"
        raise FieldError("folder", other, allowed)
    difference = other_images(fields, others)
    if difference:
        allowed = f"must hold a study of the same images: {difference}"
        raise FieldError("folder", other, allowed)


def _read(folder: Path | str) -> _Study:
    read, fields = read_results(folder), read_fields(folder)
    if read.missing.names:
        raise FieldError("folder", folder, f"must hold a complete study: {read.missing}")
    settings, answers_of = setting_texts(read.rows, fields), read_answers(folder, read.rows)
    return _Study(folder, fields, read.rows, settings, read.criteria, answers_of)


def _compare(ours: _Study, theirs: _Study) -> StudyComparison:
    ours, theirs, differing = _at_common_points(ours, theirs)
    _check_runs(ours, theirs)
    field, labels = _labels(ours, theirs, differing)
    shared = [
        name
        for name in map(str, ours.settings)
        if name not in differing and (name == "segments" or ours.settings[name].nunique() > 1)
    ]
    measure = infer_measure(ours.rows)
    results = pd.concat(
        [
            _rows(study, measure).assign(**{_LABEL: label}, **study.settings[shared])
            for study, label in zip((ours, theirs), labels, strict=True)
        ],
        ignore_index=True,
    )
    ids = {*ours.rows["run_id"]}

    def answers_of(run_id: str) -> Answers:
        return (ours if run_id in ids else theirs).answers_of(run_id)

    criteria = Criteria(
        labels[1],
        min(ours.criteria.equal_within, theirs.criteria.equal_within),
        max(ours.criteria.look, theirs.criteria.look),
    )
    evidence = gather_evidence(results, answers_of, over=_LABEL, criteria=criteria).points
    points = _point_rows(evidence, labels, shared, measure)
    evidence = evidence.drop(columns="match").rename(columns={_LABEL: field})
    lead = (
        f"Compared with the study {printable(study_name(theirs.folder))} at "
        f"{counted(len(evidence) // 2, 'point')} that both have, on the same seeds and test images."
    )
    sentences = [
        f"{lead} {_state_differences(ours, theirs, differing)}",
        *state_evidence(evidence, field),
    ]
    return StudyComparison(points, sentences, criteria.equal_within)


def _at_common_points(ours: _Study, theirs: _Study) -> tuple[_Study, _Study, list[str]]:
    """The runs of both studies at the points that they share, and the fields that differ."""
    columns = list(map(str, dict.fromkeys([*ours.settings, *theirs.settings])))
    if not all("width" in one.settings for one in (ours, theirs)):
        columns = [name for name in columns if name != "width"]  # a study solves it
    settings, others = (
        one.settings.reindex(columns=columns, fill_value="default") for one in (ours, theirs)
    )
    differing = [name for name in columns if {*settings[name]}.isdisjoint(others[name])]
    for name in differing:
        if max(settings[name].nunique(), others[name].nunique()) > 1:
            known, found = (as_text(list(rows[name].unique())) for rows in (settings, others))
            allowed = f"must hold a study with a value of {name} among {known}; it has {found}"
            raise FieldError("folder", theirs.folder, allowed)
    matched = [name for name in columns if name not in differing]
    keys, other_keys = (pd.MultiIndex.from_frame(rows[matched]) for rows in (settings, others))
    if not keys.isin(other_keys).any():
        varied = [name for name in matched if settings[name].nunique() > 1]
        allowed = "must hold a study with a point of the first study; none has the same"
        raise FieldError("folder", theirs.folder, f"{allowed} {' and '.join(varied)}")
    return (
        ours._replace(settings=settings).at(keys.isin(other_keys)),
        theirs._replace(settings=others).at(other_keys.isin(keys)),
        differing,
    )


def _check_runs(ours: _Study, theirs: _Study) -> None:
    """Raises a FieldError if the runs at the common points are the same, or of other images."""
    first, second = (one.rows["run_id"].tolist() for one in (ours, theirs))
    if not {*first}.isdisjoint(second):
        allowed = "must hold other runs at the points that both studies have; they are the same"
        raise FieldError("folder", theirs.folder, allowed)
    contents = _content(ours.fields, first[0]), _content(theirs.fields, second[0])
    if None not in contents and contents[0] != contents[1]:
        allowed = "must hold a study of the same images; they have changed between the two"
        raise FieldError("folder", theirs.folder, allowed)


def _content(fields: Mapping[str, Any], run_id: str) -> object:
    """The fingerprint of the images of a run, if the store of its study is at hand."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        path = path_in(fields["runs"], run_id) / "config.json"
        return json.loads(read_file(path))["fingerprint"]
    return None


def _labels(ours: _Study, theirs: _Study, differing: Sequence[str]) -> tuple[str, list[str]]:
    """What tells the studies apart: a field and its values, or "study" and their names."""
    studies = (ours, theirs)
    if len(differing) == 1:
        field = differing[0]
        return field, [point_name(one.settings[field].iloc[0]) for one in studies]
    names = [study_name(one.folder) for one in studies]
    return "study", names if names[0] != names[1] else [str(one.folder) for one in studies]


def _rows(study: _Study, measure: Measure) -> pd.DataFrame:
    """What a comparison needs of a study's results."""
    columns = ["run_id", "seed", "status", "match", "params", "macs", measure.test_column]
    return study.rows[[*columns, *({MAP_AT} & {*study.rows})]]


def _point_rows(
    evidence: pd.DataFrame, labels: Sequence[str], shared: Sequence[str], measure: Measure
) -> pd.DataFrame:
    """The rows that ``compare_points`` returns for two studies."""
    first, second = (evidence[evidence[_LABEL] == label].reset_index() for label in labels)
    test, settled = measure.test_column, ["p_better", "verdict", "seeds_to_settle"]
    rows = first[[*shared]].assign(
        point=labels[0],
        other=labels[1],
        **first[["difference", "difference_low", "difference_high", *settled]],
        **first[["runs", "examples", "left_out", test]],
        **{f"other_{test}": second[test]},
        **first[["equal_within", "look"]],
    )
    is_compared = (first["runs"] > 0) & (first["reference"] == labels[1])
    return rows[is_compared].reset_index(drop=True)


def _state_differences(ours: _Study, theirs: _Study, differing: Sequence[str]) -> str:
    if not differing:
        return "The fields of the two studies are equal."
    values = [
        f"{printable(name)} ({point_name(printable(ours.settings[name].iloc[0]))} here, "
        f"{point_name(printable(theirs.settings[name].iloc[0]))} there)"
        for name in differing
    ]
    return f"The studies differ in {', '.join(values)}."
