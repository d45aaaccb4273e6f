"""``--compare-with``: the table, the page and the sentence of a study beside another one."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spectrum import StudyConfig, compare_points, load_results, run_study
from spectrum.analysis.folder import load_correct
from spectrum.errors import FieldError
from spectrum.study.dry_run import dry_run
from spectrum.study.study import complete_study
from spectrum.terminal import make_console

Make = Callable[..., StudyConfig]


def checksums(folder: Path) -> set[str]:
    """The files that the list of checksums has, after the standard command has compared them."""
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True)
    return {line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}


def test_a_study_is_written_with_its_comparison(
    small_study: Make, with_figures: None, tmp_path: Path
) -> None:
    common = {"seeds": 2, "epochs": 1}
    run_study(small_study(name="none of it", segments="1,4", **common))
    other = tmp_path / "out" / "none of it"
    config = small_study(
        name="relu", segments="1,C", activation="relu", compare_with=other, **common
    )
    found = complete_study(config, make_console(stderr=True), "")
    folder, table = config.out / config.name, "comparison_with_none_of_it.csv"
    assert table in checksums(folder)
    (row,) = pd.read_csv(folder / table, dtype={"segments": str}).to_dict("records")
    assert (row["segments"], row["point"], row["runs"]) == ("1", "relu", 2)
    # The same numbers, straight from the answers of the runs.
    shares = []
    for place in (folder, other):
        rows, correct = load_results(place), load_correct(place)
        ids = rows[rows["segments"] == "1"].sort_values("seed")["run_id"]
        shares.append(np.mean([correct[run_id] for run_id in ids]))
    assert row["difference"] == pytest.approx(shares[0] - shares[1])
    assert [row["test_top1"], row["other_test_top1"]] == pytest.approx(shares)
    (again,) = compare_points([folder, other]).to_dict("records")
    assert {name: again[name] for name in ("difference_low", "verdict")} == {
        name: pytest.approx(row[name]) if name != "verdict" else row[name]
        for name in ("difference_low", "verdict")
    }
    assert "Compared with the study none of it at 1 point" in found.sentences[-2]
    assert "The studies differ in activation (relu here, none there)." in found.sentences[-2]
    assert "activation relu" in found.sentences[-1]
    page = (folder / "report.html").read_text()
    assert "<h2>Compared with none of it</h2>" in page
    assert found.sentences[-2] in page
    # The other study and the runs are as they were, and the flag is no part of the study.
    assert checksums(other) == {
        "study.json",
        "looks.json",
        "results.csv",
        "curves.csv",
        "correct.npz",
    }
    run_study(config.model_copy(update={"compare_with": ()}))
    assert table not in checksums(folder)


def test_a_comparison_that_is_impossible_leaves_the_results(
    small_study: Make, tmp_path: Path
) -> None:
    run_study(small_study(name="first", segments="1,4", epochs=1))
    config = small_study(segments="8,C", epochs=1, compare_with=str(tmp_path / "out" / "first"))
    found = complete_study(config, make_console(stderr=True), "")
    assert found.rows["status"].tolist() == ["done"] * 2
    assert found.sentences[-1].startswith("Nothing is compared with first: folder (=")
    assert found.sentences[-1].endswith("with a value of segments among 8,C; it has 1,4.")
    assert not [*(config.out / config.name).glob("comparison_with_*")]


def test_what_can_never_be_compared_is_refused_before_anything_is_trained(
    small_study: Make, tmp_path: Path, spectrum_study: Callable[..., tuple[int, str]]
) -> None:
    run_study(small_study(name="first", segments="C", epochs=1))
    first = tmp_path / "out" / "first"
    planted = {"data": {"name": "planted", "images": 100}, "compare_with": first}
    for work in (run_study, dry_run):
        with pytest.raises(FieldError, match="of the same images: data must be planted not digits"):
            work(small_study(**planted))
    with pytest.raises(
        FieldError, match=r"compare_with \(=.*first\) must be the folder of another"
    ):
        run_study(small_study(name="first", segments="C", epochs=1, compare_with=first))
    with pytest.raises(
        FieldError, match=r"must not be the second one for comparison_with_first\.c"
    ):
        run_study(small_study(compare_with=[first, f"{first}/../first"]))
    assert not (tmp_path / "out" / "tested").exists()
    status, said = spectrum_study("--compare-with", "nowhere,other")
    assert status == 2
    assert said.splitlines()[-1] == (
        "error: --compare-with (=nowhere) must hold a study's results; no results.csv"
    )
