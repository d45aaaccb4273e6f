"""A study's folder is written again by the same study alone, which may have grown."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from spectrum import SearchConfig, StudyConfig, run_study
from spectrum.analysis.folder import RESULTS, STUDY
from spectrum.errors import DamagedFile, FieldError
from spectrum.files import write_json
from spectrum.study.dry_run import dry_run
from spectrum.study.overwrite import SEARCH, check_not_another
from spectrum.study.plan import make_plan

NETWORK = {"name": "tiny", "width": 0.1}
CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "said": {"recipe": {"lr": 0.004}},
    "more segments": {"segments": "C,1,4"},
    "other segments": {"segments": "1,8"},
    "more seeds": {"seeds": 3},
    "epochs": {"epochs": 11},
    "more epochs": {"epochs": [11, 10]},
    "lengths": {"lengths": [1, 1.1]},
    "a length": {"lengths": "1.1"},
    "epochs of the table": {"recipe": {"epochs": 11}},
    "rates": {"recipe": {"lr": [0.002, 0.004]}},
    "hidden": {"network": {**NETWORK, "hidden": [[], [8]]}},
    "precision": {"precision": "bfloat16,float32"},
    "split": {"data": {"split_seed": 1}},
    "resplit": {"resplit": True},
    "matched": {"network": "tiny", "match": "params", "budget": 20_000},
    "more to match": {"network": "tiny", "match": "params", "budget": 30_000},
    "first matched": {"network": {"name": "tiny", "dropout": [0.0]}, "match": "params"},
    "other first": {"network": ["vgg_small", "tiny"], "match": "params"},
    "sample": {"recipe": {"lr": [0.001, 0.002, 0.004]}, "sample": 2, "seeds": 1},
    "sample of more": {"recipe": {"lr": [0.001, 0.002, 0.004, 0.008]}, "sample": 2, "seeds": 1},
    "elsewhere": {"workers": 2, "threads": 2, "device": "cpu", "runs": "other"},
}


def study(**fields: Any) -> StudyConfig:
    common = {"segments": "1,4", "seeds": 2, "match": "none", "network": NETWORK}
    return StudyConfig(**common | fields)


@cache
def run_ids(change: str) -> frozenset[str]:
    return frozenset(run.id for _, run in make_plan(study(**CHANGES[change])).runs())


@pytest.mark.parametrize("before", CHANGES)
@pytest.mark.parametrize("now", CHANGES)
def test_a_study_is_written_over_if_all_its_runs_are_kept(
    before: str, now: str, tmp_path: Path
) -> None:
    old, new = (study(**CHANGES[change], out=tmp_path, name="it") for change in (before, now))
    (tmp_path / "it").mkdir()
    write_json(tmp_path / "it" / STUDY, old.shown())
    check_not_another(new, STUDY)  # it has no results yet
    (tmp_path / "it" / RESULTS).touch()
    if run_ids(before) <= run_ids(now):
        check_not_another(new, STUDY)
    else:
        allowed = r"must be another name \(--name\): .* holds another study \(.+ not .+\)"
        with pytest.raises(FieldError, match=rf"\Aname \(='it'\) {allowed}\Z"):
            check_not_another(new, STUDY)


NOT_READABLE = {
    "": "isn't JSON",
    "[]": "holds list",
    "[" * 10**5: "isn't JSON",
    '{"seeds": -1}': r"seeds \(=-1\) must be greater than 0",
    '{"colour": 1}': r"colour \(=1\) is not a known field",
}


@pytest.mark.parametrize("content", NOT_READABLE, ids=lambda text: text[:20])
def test_a_damaged_study_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    path = tmp_path / "it" / STUDY
    path.write_text(content)
    with pytest.raises(DamagedFile, match=NOT_READABLE[content]) as caught:
        check_not_another(study(out=tmp_path, name="it"), STUDY)
    assert caught.value.path == path
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).endswith("; remove it, or give another --name")


def test_a_search_and_a_study_do_not_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    search = SearchConfig(segments="1,C", out=tmp_path, name="it", storage="sqlite:///other.db")
    write_json(tmp_path / "it" / SEARCH, search.shown())
    check_not_another(search, SEARCH)
    with pytest.raises(FieldError, match=r"holds another search \(seed 0 not 1\)"):
        check_not_another(search.model_copy(update={"seed": 1}), SEARCH)
    with pytest.raises(FieldError, match=r"must be another name \(--name\): .* holds a search"):
        check_not_another(study(out=tmp_path, name="it"), STUDY)
    (tmp_path / "it" / SEARCH).rename(tmp_path / "it" / STUDY)
    with pytest.raises(FieldError, match=r"must be another name \(--name\): .* holds a study"):
        check_not_another(search, SEARCH)


def test_no_file_of_another_study_is_changed(small_study: Callable[..., StudyConfig]) -> None:
    config = small_study(segments="C", epochs=1)
    run_study(config)
    folder = config.out / config.name
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for work in (run_study, dry_run):
        with pytest.raises(FieldError, match=r"holds another study \(epochs 1 not 2\)"):
            work(small_study(segments="C", epochs=2))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_of_two_studies_at_once_the_second_writes_nothing(
    small_study: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = small_study(segments="1"), small_study(segments="C")
    folder = first.out / first.name

    def end_first(*_: Any) -> dict[str, Any]:
        write_json(folder / STUDY, first.shown())
        (folder / RESULTS).touch()
        return {}

    monkeypatch.setattr("spectrum.study.study.execute_all", end_first)
    with pytest.raises(FieldError, match=r"holds another study \(segments 1 not C\)"):
        run_study(second)
    assert {path.name for path in folder.iterdir()} == {STUDY, RESULTS}
    assert json.loads((folder / STUDY).read_text()) == first.shown()
