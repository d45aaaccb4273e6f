"""The command line: what it prints, writes and refuses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from spectrum.bench import run
from spectrum.bench.config import StudyBenchConfig
from spectrum.bench.study import OURS, PLAIN, StudyTimes
from tests.bench.conftest import Bench

SMALL = ("--channels=12", "--size=6", "--batch=2", "--seconds=0.01")
TINY = ("--input=1x8x8", "--classes=10", "--batch=2", "--seconds=0.01")

REFUSED = {
    ("layer", "--channels=0"): "--channels (='0') must be greater than or equal to 1",
    (
        "layer",
        "--channels=1000001",
    ): "--channels (='1000001') must be less than or equal to 1",
    ("layer", "--kernel=2.5"): "--kernel (='2.5') must be a valid integer",
    ("layer", "--segments=729"): "--segments (=729) must be in 1..728, the layer's channels",
    ("layer", "--segments=1,,C"): "--segments (='1,,C') must have a point before and after",
    ("layer", "--segments=C+4"): "--segments (='C+4') must be a whole number from 1 to 9",
    (
        "layer",
        "--precision=int8",
    ): "--precision (='int8') must be 'float32', 'bfloat16' or 'fl",
    ("layer", "--plan=fast"): "--plan (='fast') must be 'auto', 'native'",
    ("layer", "--device=cuda:99"): "--device (='cuda:99') must be one of cpu",
    ("layer", "--threads=999999"): "--threads (='999999') must be less than or equal to",
    ("layer", "--seconds=0"): "--seconds (='0') must be greater than 0",
    ("layer", "--seconds=nan"): "--seconds (='nan') must be a finite number",
    ("layer", "--out=/dev/null/x"): "--out (=/dev/null/x/bench) can't be written: Not a directory",
    ("layer", "--colour=red"): "No such option: --colour",
    ("network",): "Missing argument",
    ("network", "huge"): "network (='huge') must be one of paper, small",
    ("network", "tiny@int8"): "network (='tiny@int8') must be NAME@WORD",
    ("network", "no.module:at_all"): "network (='no.module:at_all') can't be imported",
    ("network", "tiny", "--input=8x8"): "--input (='8x8') must be CHANNELSxHEIGHTxWIDTH",
    (
        "network",
        "paper",
        "--input=3x2x2",
    ): "--input (='3x2x2') doesn't fit the network, which ",
    ("network", "tiny", "--batch=most"): "--batch (='most') must be a valid integer",
    ("network", "tiny", "--match=time"): "--match (='time') must be 'params', 'macs' or 'none'",
    ("network", "tiny", "--layout=rows"): "--layout (='rows') must be 'contiguous' or 'channels_",
    ("network", "tiny", "--segments=16:8"): "--segments (='16:8') add up to 24, must add up to 51",
    ("study", "--seeds=none"): "--seeds (='none') must be a valid integer",
    ("study", "--script=missing.py"): "--script (='missing.py') must be a file, such as benchmarks",
    (): "Missing command",
    ("everything",): "No such command 'everything'",
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_bad_usage_is_one_line_and_status_2(
    arguments: tuple[str, ...], bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = bench(*arguments)
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert result.err.startswith(f"error: {REFUSED[arguments]}")
    assert result.out == ""
    assert not list(tmp_path.rglob("*.csv"))


@pytest.mark.usefixtures("_quick_probes")
def test_a_layer_is_printed_written_and_drawn(bench: Bench, tmp_path: Path) -> None:
    result = bench("layer", *SMALL, "--segments=1,5,C", f"--out={tmp_path}", "--threads=1")
    assert (result.status, result.err) == (0, "")
    title, machine, limits, *_ = result.out.splitlines()
    assert title == "3x3 convolution, 12 channels, 6x6, batch 2, float32, forward and backward"
    assert ", 1 thread, torch " in machine
    assert limits.startswith("ceilings in this run: ")
    assert "geometric means of the library's time over ours: " in result.out
    assert "time rises" in result.out
    assert re.search(r"our layer adds -?\d+\.\d microseconds to torch's own calls", result.out)
    assert "uneven segments take at most " in result.out
    assert "* nn.Conv2d has no uneven groups" in result.out
    rows = pd.read_csv(tmp_path / "bench" / "layer.csv", dtype={"segments": str})
    assert rows["segments"].tolist() == ["1", "5", "C"]
    assert rows["machine"].unique().tolist() == [machine]
    assert rows[["channels", "size", "batch", "kernel"]].iloc[0].tolist() == [12, 6, 2, 3]
    assert (rows["passes"] == "forward and backward").all()
    assert (tmp_path / "bench" / "layer.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / "bench" / "layer.csv") in result.out
    for value in rows["ms"]:
        assert f"{value:.3g}"[:3] in result.out


@pytest.mark.usefixtures("_quick_probes")
def test_flags_of_a_layer_take_effect(bench: Bench, tmp_path: Path) -> None:
    flags = ("--precision=bfloat16", "--forward-only", "--kernel=5", "--plan=native")
    result = bench("layer", *SMALL, "--segments=3", f"--out={tmp_path}", *flags)
    assert result.out.startswith(
        "5x5 convolution, 12 channels, 6x6, batch 2, bfloat16, forward, pl"
    )
    rows = pd.read_csv(tmp_path / "bench" / "layer.csv")
    assert rows["macs"].tolist() == [25 * 12 * 4 * 36]
    assert rows["plan"].tolist() == ["native"]


def test_networks_are_printed_written_and_drawn(bench: Bench, tmp_path: Path) -> None:
    flags = (*TINY, f"--out={tmp_path}", "--match=params")
    result = bench("network", "tiny@1", "tiny", *flags)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(
        "input 1x8x8, equal parameters, precision float32, layout channels_last, plan auto, batch 2"
    )
    rows = pd.read_csv(tmp_path / "bench" / "network.csv", dtype={"segments": str})
    assert rows["mode"].tolist() == ["training", "training", "inference", "inference"]
    assert rows["segments"].tolist() == ["1", "C", "1", "C"]
    assert (tmp_path / "bench" / "network.png").read_bytes().startswith(b"\x89PNG")
    bench("network", "tiny@1", *TINY, f"--out={tmp_path}", "--training")
    assert pd.read_csv(tmp_path / "bench" / "network.csv")["mode"].tolist() == ["training"]


def test_a_models_output_and_notes_stay_out_of_the_table(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from torch import nn\ndef net():\n    print('hello')\n    return nn.Sequential("
    code += "nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    (tmp_path / "talking_networks.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    flags = (*TINY, f"--out={tmp_path}", "--inference")
    result = bench("network", "talking_networks:net", "tiny@200", *flags)
    assert result.status == 0
    assert "hello" in result.err
    assert "hello" not in result.out
    assert "note: tiny: segments (=200): 9 of 9 layers have fewer channels" in result.out


def test_a_study_is_printed_written_and_drawn(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = pd.DataFrame(
        {
            "program": [OURS, PLAIN],
            "repeat": [1, 1],
            "runs": [8, 8],
            "seconds": [24.0, 96.0],
            "runs_per_minute": [20.0, 5.0],
            "test_top1": [0.95, 0.97],
        }
    )
    runs = pd.DataFrame(
        {
            "program": [OURS, PLAIN],
            "segments": ["C", "C"],
            "seed": [0, 0],
            "params": [79777, 79777],
            "test_top1": [0.95, 0.97],
        }
    )
    asked: list[StudyBenchConfig] = []

    def fake_bench(config: StudyBenchConfig, _: object) -> StudyTimes:
        asked.append(config)
        return StudyTimes(times, runs)

    monkeypatch.setattr(run, "bench_study", fake_bench)
    script = tmp_path / "script.py"
    script.touch()
    flags = ("--seeds=2", "--epochs=3", "--repeats=1", f"--script={script}", f"--out={tmp_path}")
    result = bench("study", *flags)
    assert (result.status, result.err) == (0, "")
    assert asked == [StudyBenchConfig(seeds=2, epochs=3, repeats=1, script=script, out=tmp_path)]
    assert "4.00 times as many runs per minute as the plain script" in result.out
    assert "test top-1 less the script's: -0.0200\n" in result.out
    folder = tmp_path / "bench"
    assert pd.read_csv(folder / "study.csv")["runs_per_minute"].tolist() == [20, 5]
    assert pd.read_csv(folder / "study_runs.csv")["program"].tolist() == [OURS, PLAIN]
    assert (folder / "study.png").read_bytes().startswith(b"\x89PNG")


def test_a_script_that_fails_is_one_line_and_status_1(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "script.py"
    script.write_text("raise SystemExit('no time')")
    runs = pd.DataFrame({"segments": ["C"], "seed": [0], "params": [79777], "test_top1": [0.9]})
    monkeypatch.setattr("spectrum.bench.study._run_ours", lambda *_: (1.0, runs))
    result = bench("study", f"--script={script}", f"--out={tmp_path}")
    assert result.status == 1
    assert result.err == f"error: {script} ended with status 1: no time\n"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--help"], 0), (["network", "--help"], 0), (["layer", "--segments=999"], 2)],
)
def test_help_and_bad_usage_need_no_torch_and_no_pandas(arguments: list[str], status: int) -> None:
    code = (
        f"import sys; sys.argv = ['spectrum.bench', *{arguments!r}]\n"
        "from spectrum.bench.__main__ import main\n"
        "status = main(); assert not {'torch', 'pandas'} & set(sys.modules); sys.exit(status)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == status, result.stderr
