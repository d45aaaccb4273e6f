"""The report command as a user starts it: what it prints and writes, and its exit status."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from spectrum.costs import count_config, match_budget
from spectrum.networks import NetworkConfig
from spectrum.report.__main__ import main

CODE = """
from torch import nn

def net(num_classes=6):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, num_classes),
    )

def number():
    return 3

def failing():
    raise KeyError("no weights")

def talking(num_classes=6):
    print("hello")
    return net(num_classes)

def free():
    return nn.ReLU()

answer = 42
"""


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


Report = Callable[..., Outcome]


@pytest.fixture
def report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Report:
    """Calls the command in this process, in a folder with a user's model."""
    (tmp_path / "users_code.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["spectrum.report", *arguments])
        status = main()
        return Outcome(status, *capsys.readouterr())

    return call


def rows(report: Report, *arguments: str) -> pd.DataFrame:
    """The CSV of the tiny network at a small input, unless other flags are given."""
    small = ["--network=tiny", "--input=3x8x8", "--segments=1,C", "--classes=10", "--format=csv"]
    outcome = report(*small, *arguments)
    assert outcome.status == 0, outcome.err
    return pd.read_csv(io.StringIO(outcome.out))


REFUSED = {
    ("--segments", ""): "--segments (='') must be a whole number from 1",
    ("--segments", "0"): "--segments (='0') must be",
    ("--segments=16:8", "--network=tiny"): "--segments (='16:8') add up to 24, must add up to 51",
    ("--segments=16:8", "--network=tiny", "--match=macs"): "--segments (='16:8') must not be ex",
    ("--segments=front=C", "--network=tiny"): "--segments (='front=C') must name every flow once",
    ("--segments=C+C", "--network=tiny"): "--segments (=C,C) must be 9 values",
    ("--network", "huge"): "--network (='huge') must be one of paper, small, tiny",
    ("--network", "users_code:"): "--network (='users_code:') must be one of",
    ("--network", "nowhere:net"): "--network (='nowhere:net') can't be imported: ModuleNotFound",
    ("--network", "users_code:failing"): "--network (='users_code:failing') failed: KeyError: 'no",
    ("--network=users_code:net", "--match=macs"): "--network (='users_code:net') must take",
    ("--pointwise-segments", "x"): "--pointwise-segments (='x') must be a whole number from 1",
    ("--pointwise-segments=2", "--network=resnet50"): "--pointwise-segments (='2') must not be gi",
    ("--shuffle", "--network=resnet50"): "--shuffle (=True) must not be given for resnet50",
    ("--order", "random"): "--order (='random') must be 'spatial_first', 'pointwise_first' or 's",
    ("--match", "latency"): "--match (='latency') must be 'params', 'macs' or 'none'",
    ("--by", "block"): "--by (='block') must be 'network', 'flow' or 'layer'",
    ("--format", "pdf"): "--format (='pdf') must be 'table', 'csv', 'markdown' or 'html'",
    ("--classes", "0"): "--classes (='0') must be greater than 0",
    ("--input", "299"): "--input (='299') must be CHANNELSxHEIGHTxWIDTH, as in 3x299x299",
    ("--input", "3x8x8.5"): "--input (='3x8x8.5') must be CHANNELSxHEIGHTxWIDTH",
    ("--input=3x6x9",): "--input (='3x6x9') doesn't fit the network, which needs at least 7x7",
    ("--input=3x6x9", "--match=macs"): "--input (='3x6x9') doesn't fit the network, which needs",
    ("--input=1x8x8", "--network=users_code:net"): "--input (='1x8x8') doesn't fit the network: ",
    ("--plot", "figure.jpg"): "--plot (=figure.jpg) must end in .pdf, .png, .svg",
    ("--plot", "nowhere/a.png"): "--plot (=nowhere/a.png) can't be written: No such file or dir",
    ("--plot", "folder.png"): "--plot (=folder.png) can't be written: Is a directory",
    ("--colour", "red"): "No such option: --colour",
    ("tiny",): "unexpected extra argument",
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_bad_usage_is_one_line_and_status_2(arguments: tuple[str, ...], report: Report) -> None:
    Path("folder.png").mkdir()
    outcome = report(*arguments)
    assert outcome.status == 2
    assert outcome.err.startswith("error: ")
    assert REFUSED[arguments] in outcome.err
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""
    assert sorted(path.name for path in Path().iterdir() if path.suffix != "") == [
        "folder.png",
        "users_code.py",
    ]


def test_the_costs_are_those_of_count_config(report: Report) -> None:
    costs = rows(report, "--segments=1,4,C/8,entry=C+middle=4+exit=C")
    assert costs["segments"].tolist() == ["1", "4", "C/8", "entry=C+middle=4+exit=C"]
    for row in costs.to_dict("records"):
        config = NetworkConfig(name="tiny", segments=row["segments"], num_classes=10)
        counted = count_config(config, (3, 8, 8))
        assert (row["params"], row["macs"]) == (counted.params, counted.macs)
        assert (row["flops"], row["activations"]) == (2 * counted.macs, counted.activations)
        assert row["weight_bytes"] == 4 * counted.params
        assert row["spatial_params"] + row["pointwise_params"] < counted.params


def test_the_papers_network_is_the_default(report: Report) -> None:
    outcome = report("--segments", "C,32", "--format", "csv")
    assert (outcome.status, outcome.err) == (0, "")
    costs = pd.read_csv(io.StringIO(outcome.out))
    assert costs["params"].tolist() == [22_855_952, 27_680_240]
    assert costs["macs"].tolist() == [8_357_403_496, 10_200_627_400]
    assert costs["ratio"].iloc[0] == costs["paper_ratio"].iloc[0] < costs["ratio"].iloc[1]
    assert (costs["network"] + costs["input"]).unique().tolist() == ["paper3x299x299"]


def test_networks_orders_and_points_make_a_grid(report: Report) -> None:
    points = "--segments=1,C,01,C"  # each is shown once
    costs = rows(report, "--network=small, tiny", "--order=spatial_only,pointwise_first", points)
    assert costs[["network", "order", "segments"]].to_numpy().tolist() == [
        [network, order, segments]
        for network in ("small", "tiny")
        for order in ("spatial_only", "pointwise_first")
        for segments in ("1", "C")
    ]
    assert costs["macs"].nunique() == 8


def test_the_1x1_in_segments_is_a_second_dial(report: Report) -> None:
    costs = rows(report, "--pointwise-segments=1,4", "--shuffle", "--segments=1,C")
    columns = ["pointwise_segments", "shuffle", "segments"]
    assert costs[columns].to_numpy().tolist() == [
        [1, False, "1"],
        [1, False, "C"],
        [4, True, "1"],
        [4, True, "C"],
    ]
    fields = {"name": "tiny", "segments": "C", "num_classes": 10}
    divided = NetworkConfig(**fields, pointwise_segments="4", shuffle=True)
    assert costs["params"].iloc[3] == count_config(divided, (3, 8, 8)).params
    own = rows(report, "--network=shufflenet_tiny", "--input=3x14x14", "--segments=C")
    assert own[columns].to_numpy().tolist() == [[3, True, "C"]]
    small = ("--network=tiny", "--input=3x8x8", "--segments=C")
    caption = "tiny, spatial_first order, pointwise segments 4, shuffle True, width 1"
    assert caption in report(*small, "--pointwise-segments=4", "--shuffle").out


def test_classes_and_the_input_are_used(report: Report) -> None:
    base = rows(report)
    more = rows(report, "--classes=11")
    assert (more["params"] - base["params"]).tolist() == [115, 115]  # 114 features and a bias
    larger = rows(report, "--input=3x8x16")
    assert (larger["params"] == base["params"]).all()
    assert (larger["activations"] > 1.9 * base["activations"]).all()
    grey = rows(report, "--input=1x8x8")
    assert (base["params"] - grey["params"]).tolist() == [9 * 2 * 51] * 2


@pytest.mark.parametrize(("by", "lines"), [("network", 2), ("flow", 10), ("layer", 50)])
def test_rows_by_layer_flow_or_network_have_the_same_sum(
    report: Report, by: str, lines: int
) -> None:
    costs = rows(report, f"--by={by}")
    assert len(costs) == lines
    assert costs["params"].sum() == rows(report)["params"].sum()
    assert ("flow" in costs) == (by != "network")
    assert ("layer" in costs) == (by == "layer")


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_widths_are_solved_to_match(report: Report, cost: str) -> None:
    first = NetworkConfig(name="tiny", order="pointwise_first", num_classes=10)
    budget = getattr(count_config(first, (3, 8, 8)), cost)
    costs = rows(report, f"--match={cost}", "--order=pointwise_first", "--segments=1,C")
    config = first.model_copy(update={"segments": "1"})
    wanted = match_budget(config, (3, 8, 8), **{cost: budget})
    assert costs["width"].tolist() == [wanted.config.width, 1.0]
    assert costs["miss"].tolist() == pytest.approx([wanted.miss, 0])
    assert (costs[cost] / budget - 1).tolist() == pytest.approx(costs["miss"].tolist())
    assert rows(report)["miss"].isna().all()


def test_a_users_model_is_counted_unconverted_first(report: Report) -> None:
    costs = rows(report, "--network=users_code:net,tiny")
    assert costs["network"].tolist() == ["users_code:net"] * 3 + ["tiny"] * 2
    assert costs["segments"].tolist() == ["-", "1", "C", "1", "C"]
    conv = [9 * 3 * 8 + 8, 9 * 8 * 8 + 8, 8 * 10 + 10]
    assert costs["params"].tolist()[:2] == [sum(conv)] * 2  # its own order leaves it unchanged at 1
    assert costs["macs"].iloc[0] == 36 * 9 * 3 * 8 + 16 * 9 * 8 * 8 + 80
    assert costs["ratio"].isna().tolist() == [True, False, False, False, False]


def test_output_of_a_model_stays_out_of_the_table(report: Report) -> None:
    found = rows(report, "--network=users_code:talking")
    assert found["segments"].tolist() == ["-", "1", "C"]


@pytest.mark.filterwarnings("ignore:no convolution")
def test_a_model_without_costs_still_has_a_row(report: Report) -> None:
    found = rows(report, "--network=users_code:free", "--segments=1")
    assert found["macs"].tolist() == [0, 0]


def test_layers_that_saturate_are_noted_on_stderr(report: Report) -> None:
    outcome = report("--network=tiny", "--segments=200", "--input=3x8x8", "--format=csv")
    assert outcome.status == 0
    assert outcome.err == (
        "note: tiny: segments (=200): 9 of 9 layers have fewer channels and get one segment per "
        "channel\n"
    )
    assert len(pd.read_csv(io.StringIO(outcome.out))) == 1


def test_every_format_shows_the_same_numbers(report: Report) -> None:
    shown = {
        name: report("--network=tiny", "--segments=4", "--input=3x8x8", f"--format={name}")
        for name in ("table", "csv", "markdown", "html")
    }
    costs = count_config(NetworkConfig(name="tiny", segments="4"), (3, 8, 8))
    assert all((outcome.status, outcome.err) == (0, "") for outcome in shown.values())
    assert f",{costs.params},{costs.macs}," in shown["csv"].out
    assert f"| {costs.params:,} | {costs.macs:,} |" in shown["markdown"].out
    cells = '</td>\n<td class="number">'
    assert f">{costs.params:,}{cells}{costs.macs:,}<" in shown["html"].out
    assert f"{costs.params:,}  {costs.macs:,}" in shown["table"].out
    assert "tiny, spatial_first order, width 1, 1,000 classes, input 3x8x8" in shown["table"].out
    assert max(map(len, shown["table"].out.splitlines())) <= 120


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_a_plot_has_the_format_of_its_suffix(report: Report, suffix: str, start: bytes) -> None:
    outcome = report("--network=tiny", "--segments=1", "--input=3x8x8", "--plot", f"a.{suffix}")
    assert outcome.status == 0
    assert outcome.err == f"figure: a.{suffix}\n"
    assert Path(f"a.{suffix}").read_bytes().startswith(start)


def test_an_existing_plot_is_kept_when_counting_fails(report: Report) -> None:
    Path("a.png").write_text("an older one")
    assert report("--plot=a.png", "--input=3x2x2").status == 2
    assert Path("a.png").read_text() == "an older one"


def test_help_and_refusals_need_no_torch_and_no_pandas() -> None:
    code = (
        "import sys\nfrom spectrum.report.__main__ import main\n"
        "sys.argv = ['spectrum.report', '--plot', 'a.jpg']; assert main() == 2\n"
        "sys.argv = ['spectrum.report', '--help']; assert main() == 0\n"
        "assert not {'torch', 'pandas'} & set(sys.modules)"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    flags = ("segments", "network", "order", "match", "input", "classes", "by", "format", "plot")
    flags += ("pointwise-segments", "shuffle")
    assert all(f"--{flag} " in outcome.stdout for flag in flags)


def test_a_reader_that_stops_early_gets_no_traceback() -> None:
    report = f"{sys.executable} -m spectrum.report --network=tiny --input=3x8x8"
    outcome = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{report} | true"], capture_output=True, text=True
    )
    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_output_that_cannot_be_written_is_one_line(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        outcome = report("--network=tiny", "--input=3x8x8")
        monkeypatch.undo()
    line = "error: the output can't be written: No space left on device\n"
    assert (outcome.status, outcome.err) == (1, line)
