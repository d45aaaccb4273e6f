"""The commands under a real ``torchrun`` with two processes, one of which is killed; bad usage."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import safetensors.torch
import torch

from spectrum import StudyConfig, load_results, run_study
from spectrum.executors.distributed import open_torchrun
from tests.held import Hold

TOML = """
segments = "4"
seeds = 1
epochs = 6
match = "none"
[network]
name = "tiny"
width = 0.2
[recipe]
batch_size = 256
lr = 1e-4
"""


@pytest.fixture(scope="module")
def toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ranks") / "tested.toml"
    path.write_text(TOML)
    return path


@contextmanager
def torchrun(*command: object, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A module with its arguments on two processes, whose output goes to the file ``log``."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*launch, "-m", *map(str, command)],
            stdout=file,
            stderr=file,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def run(*command: object, log: Path) -> int:
    with torchrun(*command, log=log) as process:
        return process.wait(300)


def rank_one(process: subprocess.Popen[bytes]) -> int:
    """The process id of rank 1."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (found,) = [c for c in children if b"\0RANK=1\0" in Path(f"/proc/{c}/environ").read_bytes()]
    return int(found)


def results(out: Path) -> pd.DataFrame:
    columns = ["run_id", "params", "macs", "epochs", "val_top1", "test_top1", "status"]
    return load_results(out / "tested")[columns]


def weights(runs: Path) -> dict[str, torch.Tensor]:
    (path,) = runs.glob("*/weights.safetensors")
    return safetensors.torch.load(path.read_bytes())


def test_a_killed_rank_ends_the_command_and_calling_it_again_continues(
    toml: Path, tmp_path: Path
) -> None:
    runs, out, log = tmp_path / "runs", tmp_path / "out", tmp_path / "log"
    study = ("spectrum.study", toml, "--runs", runs, "--out", out)
    hold = Hold(tmp_path / "hold", 6)  # in the second epoch
    with torchrun("tests.held", hold.folder, *study, log=log) as process:
        ranks = hold.wait(2)
        killed = rank_one(process)
        assert killed in ranks
        os.kill(killed, signal.SIGKILL)
        hold.release()
        assert process.wait(300) == 1
    (checkpoint,) = runs.glob("*/checkpoint.pt")
    assert len(torch.load(checkpoint, weights_only=True)["curve"]) == 1
    assert not list(runs.glob("*/result.json"))

    assert run(*study, log=log) == 0, log.read_text()
    alone = StudyConfig(
        **tomllib.loads(TOML),
        name="tested",
        out=tmp_path / "alone",
        runs=tmp_path / "alone" / "runs",
        workers=1,
    )
    run_study(alone)
    ours, theirs = results(out), results(alone.out)
    pd.testing.assert_frame_equal(ours, theirs, atol=0.01)
    expected = weights(alone.runs)
    for name, tensor in weights(runs).items():
        torch.testing.assert_close(tensor, expected[name], atol=2e-3, rtol=1e-2)
    result = json.loads(next(runs.glob("*/result.json")).read_text())
    assert result["processes"] == 2
    curve = next(runs.glob("*/curve.jsonl")).read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in curve] == list(range(1, 7))


def test_a_search_trains_each_trial_on_all_ranks(toml: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    search = tmp_path / "tested.toml"
    search.write_text(
        TOML.replace('segments = "4"', 'segments = "4,C"\ntrials = 3\nfinalists = 1').replace(
            "epochs = 6", "epochs = 1"
        )
    )
    folders = ("--runs", tmp_path / "runs", "--out", tmp_path / "out")
    assert run("spectrum.search", search, *folders, log=log) == 0, log.read_text()
    done = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/result.json")]
    assert len(done) >= 3
    assert all(result["processes"] == 2 for result in done)
    assert (tmp_path / "out" / "tested" / "trials.csv").exists()


def test_bad_usage_is_one_line_of_rank_zero(toml: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert run("spectrum.study", toml, "--workers", 3, log=log) == 1  # torchrun's own
    lines = [line for line in log.read_text().splitlines() if line.startswith("error:")]
    assert lines == [
        "error: --workers (=3) must not be given under torchrun, where all processes train the "
        "same run"
    ]
    assert "exitcode  : 2" in log.read_text()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device": "cuda:1"}, r"device \(='cuda:1'\) must be auto, cpu or cuda under torchrun"),
        ({"engine": "ray"}, r"engine \(='ray'\) must be 'local' under torchrun"),
        ({"device": "cuda"}, r"device \(='cuda'\) must have a GPU for each of the 99 processes"),
    ],
)
def test_values_that_torchrun_does_not_allow(
    fields: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "99")
    with pytest.raises(ValueError, match=message):
        open_torchrun(StudyConfig(**fields))
