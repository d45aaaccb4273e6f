"""Runs that fail: a full disk, no memory, an unforeseen exception."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.optim.optimizer import register_optimizer_step_pre_hook

from spectrum import StudyConfig, load_results, run_study
from spectrum.study import study
from tests.forked import FORKED, start_forked


def allow_no_large_files() -> None:
    # A checkpoint of this network takes about 60 kB, its weights 15 kB.
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))


def test_a_full_disk_is_a_row_without_a_traceback(
    small_toml: Path, spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    process = start_forked("spectrum.study", log, small_toml, before=allow_no_large_files)
    process.join(100)
    assert process.exitcode == 1
    assert "Traceback" not in log.read_text()
    assert log.read_text().count("io_error: File too large: ") == 2
    assert not list(tmp_path.glob("runs/*/result.json"))

    status, errors = spectrum_study(small_toml)  # with room, the same command does what is left
    assert status == 0, errors
    assert load_results(tmp_path / "out" / "tested")["status"].tolist() == ["done", "done"]


def run_without_memory(config: StudyConfig) -> None:
    """Run a study in a process whose memory is limited after planning, so that training fails."""
    make_plan = study.make_plan

    def limited(*arguments: Any) -> Any:
        plan = make_plan(*arguments)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (700 << 20),) * 2)
        return plan

    study.make_plan = limited
    run_study(config)


def test_out_of_memory_is_a_row_and_is_tried_again(small_study: Callable[..., StudyConfig]) -> None:
    config = small_study(
        segments="C",
        epochs=1,
        network={"name": "tiny", "width": [0.2, 16.0]},
        recipe={"batch_size": 1024},
        data={"test": 0.01, "validation": 0.01},
    )
    process = FORKED.Process(target=run_without_memory, args=(config,))
    process.start()
    process.join(100)
    assert process.exitcode == 0
    results = load_results(config.out / config.name)
    assert results["status"].tolist() == ["done", "out_of_memory"]
    assert results["error"][1].startswith("out of memory: ")
    assert len(list(config.runs.glob("*/result.json"))) == 1


def test_an_unforeseen_failure_writes_its_traceback_to_a_file(
    small_study: Callable[..., StudyConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_study(segments="C")

    def broken(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    hook = register_optimizer_step_pre_hook(broken)
    try:
        (row,) = run_study(config).to_dict("records")
    finally:
        hook.remove()
    assert row["status"] == "failed"
    assert row["error"].startswith("AssertionError: a bug (see ")
    assert "Traceback" not in capsys.readouterr().err
    traceback = config.runs / row["run_id"] / "error.txt"
    assert str(traceback) in row["error"]
    assert "in broken" in traceback.read_text()

    assert run_study(config)["status"].tolist() == ["done"]
    assert not traceback.exists()
