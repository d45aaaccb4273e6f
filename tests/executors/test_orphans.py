"""A local worker ends without a word when the process that started it is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spectrum import StudyConfig
from spectrum.executors.local import worker_variables
from spectrum.study.plan import make_plan


@pytest.mark.parametrize(
    ("way", "has_stderr"),
    [("half a line", True), ("no reader", True), ("no input", False), ("neither", False)],
)
def test_a_worker_ends_silently(
    way: str, has_stderr: bool, small_study: Callable[..., StudyConfig], tmp_path: Path
) -> None:
    (_, run), _ = make_plan(small_study(epochs=1)).runs()
    line = json.dumps({"run": run.model_dump(mode="json")}) + "\n"
    given = {"no input": "", "half a line": line[:50]}.get(way, line)
    program = [sys.executable, "-P", "-m", "spectrum.executors.local_worker"]
    arguments = [*program, str(tmp_path), "cpu", "1", "[]"]
    if not has_stderr:
        arguments = ["sh", "-c", 'exec "$@" 2>&-', "sh", *arguments]
    with (
        (tmp_path / "errors").open("w") as errors,
        subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | worker_variables(1),
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        if way in ("no reader", "neither"):
            process.stdout.close()
        process.stdin.write(given.encode())
        process.stdin.flush()
        if way != "no reader":
            process.stdin.close()
        assert process.wait(300) == 0
    assert (tmp_path / "errors").read_text() == ""
