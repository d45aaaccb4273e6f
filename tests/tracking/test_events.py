"""The events of a study, and the listeners that they are passed on to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spectrum import FieldError, StudyConfig, run_study
from spectrum.runs.store import Store
from spectrum.study.dry_run import dry_run
from spectrum.tracking import (
    RunEvaluated,
    RunFinished,
    RunNote,
    RunStarted,
    StudyEvent,
    StudyFinished,
)
from spectrum.tracking.listeners import check_installed, open_listeners


def events_of(config: StudyConfig) -> list[StudyEvent]:
    events: list[StudyEvent] = []
    run_study(config, on_event=events.append)
    return events


def test_each_start_epoch_and_end_is_an_event(small_study: Callable[..., StudyConfig]) -> None:
    config = small_study()
    events, store = events_of(config), Store(config.runs)
    assert isinstance(events[-1], StudyFinished)
    assert events[-1].folder == config.out / config.name
    started = [event for event in events if isinstance(event, RunStarted)]
    assert [event.name for event in started] == ["segments 1, seed 0", "segments C, seed 0"]
    expected: list[StudyEvent] = []
    for event in started:
        assert event.config["network"]["segments"] == event.name.split()[1].strip(",")
        assert event.config["costs"].keys() == {"params", "macs"}
        expected += [event, *(RunEvaluated(event.run_id, one) for one in store.curve(event.run_id))]
        result = store.result(event.run_id)
        assert result is not None
        expected.append(RunFinished(event.run_id, result))
    assert [event for event in events[:-1] if not isinstance(event, RunNote)] == expected
    assert events_of(config) == [*expected, events[-1]]  # from the store


def test_a_run_that_is_tuned_and_compared_has_its_events_once(
    small_study: Callable[..., StudyConfig],
) -> None:
    events = events_of(small_study(segments="C", epochs=1, tune_lr=[0.5, 1]))
    ended = [event.run_id for event in events if isinstance(event, RunFinished)]
    assert len(ended) == len(set(ended)) == 2


def test_a_failed_run_has_its_reason_and_is_tried_again(
    small_study: Callable[..., StudyConfig],
) -> None:
    config = small_study(segments="C", epochs=1)
    started, *_, ended, _ = events_of(config)
    assert isinstance(started, RunStarted)
    folder = config.runs / started.run_id
    (folder / "result.json").unlink()
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    again, failed, _ = events_of(config)
    assert again == started
    assert isinstance(failed, RunFinished)
    assert failed.result["status"] == "failed"
    assert str(folder) in failed.result["error"]
    assert not failed.is_final
    (folder / "config.json").rmdir()
    assert events_of(config)[-2].result["test_top1"] == ended.result["test_top1"]  # type: ignore[union-attr]


def test_a_study_goes_on_without_a_listener_that_fails(
    small_study: Callable[..., StudyConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[StudyEvent] = []

    def fail(event: StudyEvent) -> None:
        calls.append(event)
        if isinstance(event, RunEvaluated):
            raise OSError("postgres://me:secret@host\nis away")

    rows = run_study(small_study(epochs=1), on_event=fail)
    assert rows["status"].tolist() == ["done", "done"]
    assert len(calls) == 2
    said = capsys.readouterr().err.splitlines()
    reason = "OSError: postgres://***@host"
    assert [line for line in said if line.startswith("note:")] == [
        f"note: on_event gets no further events, since it failed: {reason}"
    ]


def test_an_interrupt_in_a_listener_is_one(small_study: Callable[..., StudyConfig]) -> None:
    def interrupt(event: StudyEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(small_study(epochs=1), on_event=interrupt)


START, END = RunStarted("a", "one", {}), RunFinished("a", {"status": "done", "error": ""})
FAILED = RunFinished("a", {"status": "out_of_memory", "error": "large"})
NOTE = RunNote("a", "again")


def epoch(number: int) -> RunEvaluated:
    return RunEvaluated("a", {"epoch": number})


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        # A worker dies in epoch 3, and another one begins with the epochs of the checkpoint.
        (
            [START, epoch(1), epoch(2), NOTE, START, epoch(1), epoch(2), epoch(3), END],
            [START, epoch(1), epoch(2), NOTE, epoch(3), END],
        ),
        ([START, epoch(1), END, START, epoch(1), END], [START, epoch(1), END]),
        (
            [START, epoch(1), FAILED, START, epoch(1), epoch(2), END],
            [START, epoch(1), FAILED, START, epoch(1), epoch(2), END],
        ),
    ],
)
def test_attempts_are_passed_on_as_one_run(
    given: list[StudyEvent], passed_on: list[StudyEvent], tmp_path: Path
) -> None:
    events: list[StudyEvent] = []
    with open_listeners([], "study", tmp_path, events.append, pytest.fail) as listener:
        for event in given:
            listener(event)
    assert events == passed_on


@pytest.mark.parametrize("work", [run_study, dry_run])
def test_a_missing_package_is_named_before_training(
    work: Callable[..., Any],
    small_study: Callable[..., StudyConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "wandb").mkdir()  # W&B leaves such a folder where it is used
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    config = small_study(track="wandb")
    with pytest.raises(FieldError) as raised:
        work(config)
    assert str(raised.value) == (
        "track (='wandb') needs a package: pip install 'segment-spectrum[wandb]'"
    )
    assert not config.runs.exists()
    assert not config.out.exists()
    check_installed([])


def test_unknown_trackers_are_refused(
    small_toml: Path, spectrum_study: Callable[..., tuple[int, str]]
) -> None:
    status, said = spectrum_study(small_toml, "--track=tensorboard,neptune")
    assert status == 2
    (line,) = said.splitlines()
    assert line.startswith("error: --track (='neptune') must be ")
    assert "'mlflow'" in line
