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

from spectrum import StudyConfig, load_results, run_study
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
    """Run a study that kills its own process with SIGKILL at a stage of its first run."""
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
    """Execute a study in another process, which is killed at a stage of its first run."""
    process = FORKED.Process(target=run_killed, args=(stage, config))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


STAGES = [
    "mid-epoch",
    "before renaming checkpoint.pt",
    "after renaming checkpoint.pt",
    "between checkpoint and result",
    "after the weights",
    "before renaming result.json",
    "after renaming result.json",
]


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unstopped")
    run_study(StudyConfig(**FIELDS, out=root / "out", runs=root / "runs"))
    return root / "runs"


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_study_ends_as_one_never_killed(
    stage: str, small_study: Callable[..., StudyConfig], unstopped: Path
) -> None:
    config = small_study()
    kill_study(stage, config)
    assert len(weights(config.runs)) <= 1  # it died in the first run

    results = run_study(config)

    assert list(results["status"]) == ["done", "done"]
    assert weights(config.runs) == weights(unstopped)
    for run_id in results["run_id"]:
        files = sorted(path.name for path in (config.runs / run_id).iterdir())
        assert files == [
            ".lock",
            "config.json",
            "curve.jsonl",
            "predictions.npz",
            "result.json",
            "weights.safetensors",
        ]
        epochs = [
            json.loads(line)["epoch"]
            for line in (config.runs / run_id / "curve.jsonl").read_text().splitlines()
        ]
        assert epochs == [1, 2, 3]
    figures = ["run_id", "val_top1", "test_top1", "test_loss"]
    reference = [json.loads((unstopped / i / "result.json").read_text()) for i in results["run_id"]]
    for figure in figures[1:]:
        assert list(results[figure]) == [result[figure] for result in reference]


def test_a_resumed_run_does_not_start_again(
    small_study: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_study(segments="C")
    kill_study("mid-epoch", config)
    steps = []
    original = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda *given: (steps.append(1), original(*given))
    )
    run_study(config)
    assert len(steps) == 8  # two epochs of four steps; the first is in the checkpoint


@pytest.mark.parametrize("size", [0, 1000])
def test_a_truncated_checkpoint_is_reported_and_the_run_starts_anew(
    size: int,
    small_study: Callable[..., StudyConfig],
    unstopped: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = small_study()
    kill_study("mid-epoch", config)
    (checkpoint,) = config.runs.glob("*/checkpoint.pt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:size])
    run_study(config)
    errors = " ".join(capsys.readouterr().err.split())
    assert errors.count("is damaged, training starts anew") == 1
    assert weights(config.runs) == weights(unstopped)


@pytest.mark.parametrize("content", [b"", b'{"status": "do', b"[1]", b'{"a": 1}', b"\xff\xfe"])
def test_a_damaged_result_is_reported_and_the_run_is_done_again(
    content: bytes,
    small_study: Callable[..., StudyConfig],
    unstopped: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = small_study(segments="C")
    shutil.copytree(unstopped, config.runs)
    before = run_study(config)
    result = config.runs / before["run_id"][0] / "result.json"
    result.write_bytes(content)
    after = run_study(config)
    assert "is damaged, the run is done again" in " ".join(capsys.readouterr().err.split())
    assert list(after["test_loss"]) == list(before["test_loss"])
    assert json.loads(result.read_text())["status"] == "done"


def test_finished_runs_are_not_executed_again(
    small_study: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_study()
    first = run_study(config)
    monkeypatch.setattr("spectrum.study.study.execute_runs", lambda *_, **__: pytest.fail("ran"))
    assert run_study(config).equals(first)
    assert load_results(config.out / config.name)["run_id"].tolist() == first["run_id"].tolist()
    # Another study that asks for the same runs finds them, whatever its name.
    other = run_study(small_study(name="other", segments="C"))
    assert set(other["run_id"]) < set(first["run_id"])
