"""Runs that are really killed, at every stage, end as if they had never been stopped."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from spectrum import StudyConfig, run_study
from spectrum.runs.store import Store
from tests.forked import FORKED
from tests.small_studies import FIELDS, weights


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_around_rename(name: str, after: bool) -> None:
    """Make this process kill itself just before or after a file is renamed to ``name``."""
    original = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if Path(target).name != name:
            return original(path, target)
        if after:
            original(path, target)
        die()
        raise AssertionError

    Path.replace = replace  # type: ignore[method-assign]


def die_at_step(step_number: int) -> None:
    """Make this process kill itself at a step of the optimiser, counted from 1."""
    original, steps = torch.nn.utils.clip_grad_norm_, list[int]()

    def step(*arguments: Any, **options: Any) -> Any:
        steps.append(1)
        if len(steps) == step_number:
            die()
        return original(*arguments, **options)

    torch.nn.utils.clip_grad_norm_ = step


def run_killed(stage: str, config: StudyConfig) -> None:
    """Run a study that kills its own process with SIGKILL at a stage of its run."""
    if stage == "mid-epoch":
        die_at_step(7)  # four steps an epoch: in the middle of the second
    elif stage == "between checkpoint and result":
        Store.finish = lambda *_, **__: die()  # type: ignore[method-assign]
    elif stage == "after the weights":
        die_around_rename("weights.safetensors", after=True)
    else:
        die_around_rename(stage.split()[-1], after=stage.startswith("after"))
    run_study(config)


def kill_study(stage: str, config: StudyConfig) -> None:
    """Execute a study in another process, which is killed at a stage of its run."""
    process = FORKED.Process(target=run_killed, args=(stage, config))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


STAGES = [
    "before renaming checkpoint.pt",
    "after renaming checkpoint.pt",
    "between checkpoint and result",
    "after the weights",
    "before renaming result.json",
    "after renaming result.json",
]


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a study of one run that was never stopped."""
    root = tmp_path_factory.mktemp("unstopped")
    fields = {**FIELDS, "segments": "C"}
    run_study(StudyConfig(**fields, out=root / "out", runs=root / "runs"))
    return root / "runs"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the same study, killed in the middle of the second epoch."""
    root = tmp_path_factory.mktemp("stopped")
    fields = {**FIELDS, "segments": "C"}
    kill_study("mid-epoch", StudyConfig(**fields, out=root / "out", runs=root / "runs"))
    return root / "runs"


def check_end(config: StudyConfig, unstopped: Path) -> None:
    """Run a study and check that its store becomes that of the study that was never stopped."""
    (row,) = run_study(config).to_dict("records")
    assert row["status"] == "done"
    assert weights(config.runs) == weights(unstopped)
    assert sorted(path.name for path in (config.runs / row["run_id"]).iterdir()) == [
        ".lock",
        "config.json",
        "curve.jsonl",
        "predictions.npz",
        "result.json",
        "weights.safetensors",
    ]
    assert [line["epoch"] for line in Store(config.runs).curve(row["run_id"])] == [1, 2, 3]
    reference = Store(unstopped).result(row["run_id"])
    for figure in ("val_top1", "test_top1", "test_loss"):
        assert row[figure] == reference[figure]


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_study_ends_as_one_never_killed(
    stage: str, small_study: Callable[..., StudyConfig], unstopped: Path
) -> None:
    config = small_study(segments="C")
    kill_study(stage, config)
    check_end(config, unstopped)


def test_a_study_killed_in_an_epoch_goes_on_from_the_one_before(
    small_study: Callable[..., StudyConfig],
    unstopped: Path,
    stopped: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small_study(segments="C")
    shutil.copytree(stopped, config.runs)
    steps = []
    original = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda *given: (steps.append(1), original(*given))
    )
    check_end(config, unstopped)
    assert len(steps) == 8  # two epochs of four steps; the first is in the checkpoint


def test_a_run_that_goes_on_has_the_images_of_its_seed(
    small_study: Callable[..., StudyConfig], tmp_path: Path
) -> None:
    fields = {"segments": "C", "seeds": 2, "resplit": True}
    config, undisturbed = (
        small_study(**fields),
        small_study(**fields, runs=tmp_path / "undisturbed"),
    )
    kill_study("mid-epoch", config)
    run_study(config)
    run_study(undisturbed)
    assert len(weights(config.runs)) == 2
    assert weights(config.runs) == weights(undisturbed.runs)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_truncated_checkpoint_is_reported_and_the_run_starts_anew(
    size: int,
    small_study: Callable[..., StudyConfig],
    unstopped: Path,
    stopped: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = small_study(segments="C")
    shutil.copytree(stopped, config.runs)
    (checkpoint,) = config.runs.glob("*/checkpoint.pt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:size])
    run_study(config)
    errors = " ".join(capsys.readouterr().err.split())
    assert errors.count("is damaged, training starts anew") == 1
    assert weights(config.runs) == weights(unstopped)


def test_a_damaged_result_is_reported_and_the_run_is_done_again(
    small_study: Callable[..., StudyConfig],
    unstopped: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = small_study(segments="C")
    shutil.copytree(unstopped, config.runs)
    (path,) = config.runs.glob("*/result.json")
    store, before = Store(config.runs), path.read_bytes()
    for content in (b"", b'{"status": "do', b"[1]", b'{"a": 1}', b"\xff\xfe"):
        path.write_bytes(content)
        assert store.result(path.parent.name) is None
    run_study(config)
    assert "; the run is done again" in " ".join(capsys.readouterr().err.split())
    assert store.result(path.parent.name)["test_loss"] == json.loads(before)["test_loss"]


def test_finished_runs_are_not_executed_again(
    small_study: Callable[..., StudyConfig], unstopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(unstopped, small_study().runs)
    monkeypatch.setattr("spectrum.study.study.execute_runs", lambda *_, **__: pytest.fail("ran"))
    # Another study that asks for the same runs finds them, whatever its name.
    results = run_study(small_study(name="other", segments="C"))
    assert results["run_id"].tolist() == [path.name for path in unstopped.iterdir()]


def test_a_checkpoint_that_does_not_fit_starts_the_run_anew(
    small_study: Callable[..., StudyConfig], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The checkpoint of one run stands in the folder of another, of the same shapes."""
    config = small_study(network={"name": "tiny", "width": 0.2, "activation": ["none", "elu"]})
    ids = run_study(config)["run_id"]
    expected = weights(config.runs)
    interrupted = small_study(runs=tmp_path / "interrupted", network=config.network)
    kept: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Store, "drop_checkpoint", lambda store, name: kept.append(store.checkpoint_path(name))
        )
        run_study(interrupted)
    for source, target in zip(kept, reversed(kept), strict=True):
        shutil.copyfile(source, target.with_name("of_another"))
    for path in kept:
        path.with_name("of_another").rename(path)
        path.with_name("result.json").unlink()
    capsys.readouterr()
    assert sorted(run_study(interrupted)["run_id"]) == sorted(ids)
    assert capsys.readouterr().err.count("training starts anew") == len(kept)
    assert weights(interrupted.runs) == expected
