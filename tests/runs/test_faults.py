"""Runs that fail: a full disk, no memory, an unforeseen exception."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.optim.optimizer import register_optimizer_step_pre_hook

from spectrum import StudyConfig, load_results, run_study
from tests.small_studies import run_command


def test_a_full_disk_is_a_row_without_a_traceback(
    small_toml: Path, spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    def no_large_files() -> None:
        # A checkpoint of this network takes about 60 kB, its weights 15 kB.
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))

    full = run_command(small_toml, preexec_fn=no_large_files)
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    assert full.stderr.count("io_error: File too large: ") == 2
    assert not list(tmp_path.glob("runs/*/result.json"))

    status, errors = spectrum_study(small_toml)  # with room, the same command does what is left
    assert status == 0, errors
    assert load_results(tmp_path / "out" / "tested")["status"].tolist() == ["done", "done"]


OUT_OF_MEMORY = """
import resource, sys
from spectrum import StudyConfig, run_study
config = StudyConfig.model_validate_json(sys.argv[1])
if len(sys.argv) > 2:
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    import torch
    from spectrum.study import study
    make_plan = study.make_plan
    def limited(*arguments):  # limits memory after planning, so that training fails
        plan = make_plan(*arguments)
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]),) * 2)
        return plan
    study.make_plan = limited
results = run_study(config)
print(results[["status", "error"]].to_json(orient="records"))
"""


def test_out_of_memory_is_a_row_and_is_tried_again(small_study: Callable[..., StudyConfig]) -> None:
    config = small_study(
        segments="1,C",
        epochs=1,
        network={"name": "tiny", "width": [0.2, 16.0]},
        recipe={"batch_size": 1024},
        data={"test": 0.01, "validation": 0.01},
    )
    arguments = [sys.executable, "-c", OUT_OF_MEMORY, config.model_dump_json()]
    ran = subprocess.run([*arguments, str(700 << 20)], capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    rows = json.loads(ran.stdout)
    assert [row["status"] for row in rows] == ["done", "done", "out_of_memory", "out_of_memory"]
    assert all(row["error"].startswith("out of memory: ") for row in rows[2:])
    assert len(list(config.runs.glob("*/result.json"))) == 2
    assert "Traceback" not in ran.stderr


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
