"""The code, tables and commands of docs/search.md are true."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from spectrum import SearchConfig
from spectrum.search.__main__ import main

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "search.md").read_text()
README = (ROOT / "README.md").read_text()


def printed_by(command: str) -> str:
    """The output block below a command."""
    (found,) = re.findall(
        rf"```sh\n{re.escape(command)}\n```\n\n```text\n(.*?)```", DOCS, re.DOTALL
    )
    return found


def test_the_regrets_are_what_the_benchmark_prints() -> None:
    command = "python benchmarks/search_regret.py"
    # The other samplers compute in floats what they propose, which may differ between machines.
    ran = subprocess.run(
        [sys.executable, *command.split()[1:], "--samplers", "random", "--runs", "13"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    lines = printed_by(command).splitlines()
    shown = [line for line in lines if not line.startswith(("gp", "tpe", "nsga2"))]
    found = ran.stdout.splitlines()
    assert len(shown) == len(found)
    assert all(line.startswith(start) for line, start in zip(shown, found, strict=True))
    # The interval of what further seeds gain for the leader of the default sampler.
    (gain,) = [line for line in lines if line.startswith("gp      leader   difference")]
    assert all(float(high) < 0 for high in re.findall(r"to (\S+)\)", gain))


@pytest.mark.filterwarnings(r"ignore:.isinstance\(treespec:FutureWarning")  # of torch's exporter
def test_the_winner_loads_and_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Path
) -> None:
    import numpy as np
    import onnxruntime
    import torch

    from spectrum import load_run

    monkeypatch.chdir(tmp_path)
    run = next(undisturbed.glob("*/result.json")).parent
    shutil.copytree(run, "outputs/search/winner")
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    exec(compile(code, "docs/search.md", "exec"), {"__name__": "__main__"})
    images = torch.randn(5, 1, 8, 8)  # another batch than the one it was exported with
    with torch.no_grad():
        expected = load_run("outputs/search/winner")(images).numpy()
    exported = torch.export.load("winner.pt2").module()(images).detach().numpy()
    np.testing.assert_allclose(exported, expected, rtol=1e-5, atol=1e-6)
    session = onnxruntime.InferenceSession("winner.onnx")
    (given,) = session.get_inputs()
    (logits,) = session.run(None, {given.name: images.numpy()})
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "command", re.findall(r"^(?:\.venv/bin/)?python -m spectrum\.search .*$", README + DOCS, re.M)
)
def test_every_command_is_understood(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = shlex.split(command)[3:]
    runs = words.index("--runs") if "--runs" in words else None
    if runs is not None:
        words[runs + 1] = str(tmp_path / "runs")
    monkeypatch.setattr(sys, "argv", ["spectrum.search", *words, "--dry-run"])
    monkeypatch.chdir(ROOT)
    assert main() == 0


def test_the_committed_search_is_one() -> None:
    SearchConfig(**tomllib.loads((ROOT / "benchmarks" / "search_peak.toml").read_text()))
