"""The examples of docs/trackers.md run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from spectrum import load_results
from spectrum.study.__main__ import main
from tests.tracking.readers import TRACKERS, read_figures, read_runs

DOCS = (Path(__file__).parents[2] / "docs" / "trackers.md").read_text()
COMMANDS = re.findall(r"^(?:(\w+)=(\w+) )?spectrum study (.*)$", DOCS, re.MULTILINE)


def run_example(start: str) -> None:
    (code,) = re.findall(rf"```python\n({start}.*?)```", DOCS, re.DOTALL)
    exec(compile(code, "<example>", "exec"), {"__name__": "__main__"})


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # MLflow's own
@pytest.mark.parametrize(("variable", "value", "arguments"), COMMANDS)
def test_a_command_is_tracked(
    variable: str,
    value: str,
    arguments: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    with_figures: None,
) -> None:
    words = shlex.split(arguments)
    tracker = words[words.index("--track") + 1]
    if find_spec(tracker) is None:
        pytest.skip(f"{tracker} isn't installed; make test-trackers installs it")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["spectrum study", *words, "--workers=1"])
    if variable:
        monkeypatch.setenv(variable, value)
    assert main() == 0
    out = Path("outputs").resolve()
    runs = read_runs(tracker, out, "tracked")
    assert runs.keys() == {*load_results(out / "tracked")["run_id"]}
    figures = {path.stem: path.read_bytes() for path in (out / "tracked").glob("*.png")}
    assert {"accuracy_vs_segments", "learning_curves"} <= figures.keys()
    assert read_figures(tracker, out, "tracked") == figures
    capsys.readouterr()
    if tracker == "mlflow":
        run_example("from mlflow")
        printed = sorted(capsys.readouterr().out.splitlines())
        assert printed == [f"segments {n}, seed 0 {n} FINISHED" for n in "1C"]
    elif tracker == "wandb":
        (sync,) = re.findall(r"^wandb (sync .*)$", DOCS, re.MULTILINE)
        said = subprocess.run(
            [sys.executable, "-m", "wandb", *sync.split()], capture_output=True, text=True
        ).stderr
        assert all(f"run-{run_id}-" in said for run_id in runs)


def test_each_tracker_has_its_example() -> None:
    assert [arguments.split()[-1] for _, _, arguments in COMMANDS] == [*TRACKERS]


def test_the_example_of_a_listener_prints_what_stands_below_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    with_figures: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    run_example("from spectrum")
    (shown,) = re.findall(r"```text\n(.*?)```", DOCS, re.DOTALL)
    assert capsys.readouterr().out == shown
