"""Damage to the files of a run: the result is the true one, or the run is done again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectrum import StudyConfig, load_run, run_study
from spectrum.errors import DamagedFile
from spectrum.runs.store import Store, hash_tensors
from spectrum.training.checkpoint import load_checkpoint
from tests.damage import check_outcome, damaged
from tests.small_studies import FIELDS, weights

CHECKED_FILES = ("config.json", "curve.jsonl", "predictions.npz", "result.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, which is left as it is."""
    root = tmp_path_factory.mktemp("finished")
    fields = {**FIELDS, "segments": "C", "epochs": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spectrum.study.outputs._draw", lambda *_: None)
        run_study(StudyConfig(**fields, out=root / "out", runs=root / "runs"))
    (folder,) = root.glob("runs/*/")
    return folder


def everything_of(store: Store, run_id: str) -> tuple[Any, ...] | None:
    """What a study takes from the store; None if it does the run again."""
    result = store.result(run_id)
    if result is None:
        return None
    return result, store.curve(run_id), store.correct(run_id).tolist()


@pytest.mark.parametrize("name", CHECKED_FILES)
@given(data=st.data())
def test_a_damaged_file_never_gives_other_numbers(
    name: str, finished: Path, data: st.DataObject
) -> None:
    store, run_id = Store(finished.parent), finished.name
    truth = everything_of(store, run_id)
    with damaged(data, finished / name):
        assert everything_of(store, run_id) in (truth, None)
        # load_run names what it can't take. It needs neither curve nor predictions.
        check_outcome(lambda: load_run(finished), finished, lambda _: True)
    assert everything_of(store, run_id) == truth


@given(data=st.data())
def test_damaged_weights_are_named(finished: Path, data: st.DataObject) -> None:
    store, path = Store(finished.parent), finished / "weights.safetensors"
    truth, content = load_run(finished).state_dict(), path.read_bytes()

    def is_true(network: torch.nn.Module) -> bool:
        found = network.state_dict()
        return all(torch.equal(found[name], tensor) for name, tensor in truth.items())

    with damaged(data, path):
        same = path.is_file() and path.read_bytes() == content
        assert check_outcome(lambda: load_run(finished), path, is_true) == same
        reason = store.verify(finished.name)
        assert (reason is None) == same
        assert same or str(path) in str(reason)


@pytest.mark.parametrize("name", [*CHECKED_FILES, "weights.safetensors"])
def test_a_study_does_a_damaged_run_again(
    name: str,
    finished: Path,
    small_study: Callable[..., StudyConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = small_study(segments="C", epochs=1)
    shutil.copytree(finished.parent, config.runs)
    path = config.runs / finished.name / name
    path.write_bytes(path.read_bytes()[:-2])
    (row,) = run_study(config).to_dict("records")
    assert f"{path} is damaged" in capsys.readouterr().err.replace("\n", " ")
    assert weights(config.runs) == weights(finished.parent)
    assert row["test_loss"] == json.loads((finished / "result.json").read_bytes())["test_loss"]


def test_results_of_earlier_versions_have_no_checksums(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / finished.name)
    path, store = folder / "result.json", Store(tmp_path)
    values = json.loads(path.read_bytes())
    for name in ("files", "run_id", "code_modules", "sha256"):
        del values[name]
    path.write_text(json.dumps(values))
    assert store.result(finished.name) == values
    load_run(folder)
    for name in CHECKED_FILES[1:]:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        assert store.result(finished.name) is None
        (folder / name).write_bytes(content)
    path.write_text(json.dumps({**values, "test_top1": 0.99, "run_id": finished.name}))
    assert store.result(finished.name) is None


def test_the_folder_of_another_run_is_not_taken(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "0123456789abcdef")
    assert Store(tmp_path).result("0123456789abcdef") is None


@given(data=st.data())
def test_a_damaged_checkpoint_gives_the_true_state_or_none(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.pt"
    state = {"weights": torch.arange(50.0), "epoch": 3, "curve": [{"loss": 0.5}]}
    torch.save(state, path)
    with damaged(data, path):
        check_outcome(
            lambda: load_checkpoint(path), path, lambda found: found is None or same(found, state)
        )


def same(found: Any, state: dict[str, Any]) -> bool:
    return str(found) == str(state)


@given(data=st.data())
def test_damaged_initial_weights_are_saved_again(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    tensors = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(())}
    fingerprint = hash_tensors(tensors)
    store.save_initial_weights(fingerprint, tensors)
    (path,) = store.root.glob("starts/*")

    def is_true(found: dict[str, torch.Tensor]) -> bool:
        return found.keys() == tensors.keys() and all(
            np.array_equal(found[name], tensors[name]) for name in tensors
        )

    with damaged(data, path):
        check_outcome(lambda: store.load_initial_weights(fingerprint), path, is_true)
        if not path.is_dir() or path.is_symlink():
            store.save_initial_weights(fingerprint, tensors)
            assert is_true(store.load_initial_weights(fingerprint))


def test_a_run_folder_of_the_wrong_kind_is_a_failed_row(
    small_study: Callable[..., StudyConfig], finished: Path
) -> None:
    config = small_study(epochs=1)
    config.runs.mkdir()
    (config.runs / finished.name).write_text("a file")
    results = run_study(config)
    assert sorted(results["status"]) == ["done", "failed"]
    (error,) = results.loc[results["status"] == "failed", "error"]
    assert finished.name in error
    assert (config.runs / finished.name).read_text() == "a file"
    with pytest.raises(ValueError, match=r"no result\.json"):
        load_run(config.runs / finished.name)
    with pytest.raises(DamagedFile, match="can't be read"):
        Store(config.runs).load_initial_weights("0" * 16)
