"""The command as a user types it: errors in one line, plans, and output."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from spectrum.analysis.folder import load_results
from spectrum.search import SearchConfig, SearchResult, load_trials
from spectrum.search.search import dry_run
from spectrum.search.space import make_space

Command = Callable[..., tuple[int, str, str]]

# One of each kind of error: of a field, of several, of the space, of its points, of a place.
REFUSED = {
    ("--sampler", "cma"): "--sampler (='cma') must be 'gp', 'tpe', 'nsga2', 'random' or 'grid'",
    ("--minimize", "macs,"): "--minimize (='macs,') must be one or more of params, macs",
    ("--minimize=macs", "--pruner=median"): "--pruner (='median') must be rungs or none with",
    ("--max-params", "few"): "--max-params (='few') must be a valid integer",
    ("--segments", "1,,4"): "--segments (='1,,4') must have a point before and after every comma",
    ("--segments", "1,C+C"): "--segments (='C+C') must be one setting of the dial, such as 4 or C",
    ("--data", "digits,planted"): "--data (=digits,planted) must be one value, the same for all",
    ("--epochs", "2,3"): "--epochs (=2,3) must be one value, the same for all trials",
    ("--network", "huge"): "--network (='huge') must be one of paper, small, tiny",
    ("--order", "random"): "--order (='random') must be 'spatial_first'",
    ("--width=1,-1", "--match=none"): "--width (=-1.0) must be greater than 0",
    (
        "--max-macs=5",
        "--sampler=grid",
        "--per=layer",
    ): "--sampler (='grid') must be another one for 1,000,000,000 points with a limit",
    ("--segments=1,C", "--trials=2"): "--trials (=2) must be more than 2, the uniform points that",
    ("--network=vgg16", "--segments=1,C"): "--network (='vgg16') can't take the images of digits:",
    ("--budget=1", "--segments=1,C"): "--budget (=1) must be near what a width can reach",
    ("--max-params=9", "--segments=1,C"): "--max-params (=9) can't be met: the nearest point",
    ("--device", "cuda:99"): "--device (='cuda:99') must be one of auto, cpu",
    ("--out", "/dev/null/x"): "--out (=/dev/null/x/search) can't be written: Not a directory",
    ("--runs", "/dev/null/x"): "--runs (=/dev/null/x) can't be written: Not a directory",
    ("--storage", ""): "--storage (='') must be the URL of a database that is kept",
    ("--colour", "red"): "No such option: --colour",
    ("missing.toml",): "missing.toml can't be read: No such file or directory",
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_bad_usage_is_one_line_and_status_2(
    arguments: tuple[str, ...], spectrum_search: Command
) -> None:
    status, told, said = spectrum_search(*arguments)
    assert status == 2
    assert said.startswith(f"error: {REFUSED[arguments]}")
    assert said.count("\n") == 1
    assert told == ""


@pytest.fixture
def small_toml(tmp_path: Path) -> Path:
    """A search of eight points that train quickly."""
    path = tmp_path / "found.toml"
    path.write_text(
        """
        segments = "1,C"
        match = "none"
        trials = 4
        epochs = 2
        seeds = 1
        finalists = 1
        workers = 1
        device = "cpu"
        [network]
        name = "tiny"
        width = 0.2
        [recipe]
        batch_size = 256
        """
    )
    return path


TOML = {
    "segments = [1": "is not a TOML file: Unclosed array",
    "segmints = 4": "segmints (=4) is not a known field; known: activation, address, bad_images",
    "[recipe]\nlr = [0.1, -1]": "recipe.lr (=-1) must be greater than 0",
}


@pytest.mark.parametrize("text", TOML)
def test_a_bad_file_is_one_line_and_status_2(
    text: str, spectrum_search: Command, tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_text(text)
    status, _, said = spectrum_search("bad.toml")
    assert status == 2
    assert said.startswith("error: bad.toml")
    assert TOML[text] in said
    assert said.count("\n") == 1


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


UNREACHABLE = {
    "no_such://host/trials": "(='no_such://host/trials') must be the URL of a database: sqlite",
    "sqlite:///no/such/folder/trials.db": "can't be used: unable to open database file",
    "sqlite:///found.toml": "can't be used: file is not a database",
}


@pytest.mark.parametrize("url", UNREACHABLE)
def test_a_storage_out_of_reach_is_refused(
    url: str, small_toml: Path, spectrum_search: Command, tmp_path: Path
) -> None:
    status, _, said = spectrum_search(small_toml, "--storage", url)
    assert status == 2
    assert said.startswith("error: --storage (=")
    assert UNREACHABLE[url] in said
    assert said.count("\n") == 1
    assert list(tmp_path.glob("outputs/runs/*")) == []


def test_a_server_that_is_not_there_is_refused_without_the_password(
    small_toml: Path, spectrum_search: Command
) -> None:
    pytest.importorskip("psycopg", exc_type=ImportError)
    url = f"postgresql+psycopg://me:secret@127.0.0.1:{closed_port()}/trials"
    status, _, said = spectrum_search(small_toml, "--storage", url)
    assert status == 2
    assert said.startswith(f"error: --storage (='{url.replace('secret', '***')}') can't be used: ")
    assert "secret" not in said
    assert said.count("\n") == 1


def test_a_dry_run_prints_the_space_and_writes_nothing(
    small_toml: Path, spectrum_search: Command, tmp_path: Path
) -> None:
    flags = ["--dry-run", "--max-params", "9000", "--order", "spatial_first,pointwise_first"]
    status, told, said = spectrum_search(small_toml, *flags)
    assert (status, said) == (0, "")
    lines = [line.split() for line in told.splitlines()]
    assert lines[0] == ["order", "uniform", "point", "width", "params", "MACs", "allowed", "done"]
    assert [line[:2] for line in lines[1:5]] == [
        [order, segments] for order in ("spatial_first", "pointwise_first") for segments in "1C"
    ]
    assert [line[-2:] for line in lines[1:5]] == [["no", "no"], ["yes", "no"]] * 2
    assert "16 points, of which 4 will be tried" in told
    assert "entry: 1, C\n" in told
    assert "order: spatial_first, pointwise_first\n" in told
    assert [path.name for path in tmp_path.iterdir()] == ["found.toml"]


def test_a_dry_run_lists_every_point_that_a_search_calls_uniform(
    small_search: Callable[..., SearchConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_search(
        per="block",
        pointwise_segments="1,4",
        shuffle=True,
        network={"name": "tiny", "width": [0.2, 0.5]},
    )
    space = make_space(config)
    known = [params for params in space.all_points() if space.is_uniform(params)]
    names = {
        (params["pointwise_segments"], space.segments(params), params["width"]) for params in known
    }

    def listed() -> list[tuple[str, ...]]:
        table, _ = dry_run(config)
        cells = {str(column.header): [*map(str, column.cells)] for column in table.columns}
        return [
            *zip(cells["pointwise_segments"], cells["uniform point"], cells["width"], strict=True)
        ]

    rows = listed()
    assert len(rows) == len(known) == 8
    assert {*rows} == names
    monkeypatch.setattr("spectrum.search.search._MOST_LISTED", 3)
    assert listed() == rows[:3]
    assert "5 more uniform points are not listed" in dry_run(config)[1]


@pytest.mark.parametrize(
    ("limits", "trials", "told"),
    [
        ({}, 7, "8 points, of which 7 will be tried"),
        ({}, 8, "8 points, all of which will be tried"),
        ({"max_params": 9000}, 30, "8 points, of which all that are allowed will be tried"),
    ],
)
def test_a_dry_run_says_how_many_points_are_tried(
    limits: dict[str, int], trials: int, told: str, small_search: Callable[..., SearchConfig]
) -> None:
    assert told in dry_run(small_search(trials=trials, **limits))[1]


def test_a_dry_run_notes_what_the_uniform_points_cannot_have(
    small_toml: Path, spectrum_search: Command
) -> None:
    told = spectrum_search(small_toml, "--dry-run", "--segments=1,300", "--per=network")[1]
    assert "segments (=300): " in told
    assert "layers have fewer channels and get one segment per channel" in told.replace("\n", " ")


def test_a_search_says_what_it_found_and_asked_again_does_nothing_anew(
    small_toml: Path,
    spectrum_search: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    status, told, said = spectrum_search(small_toml)
    assert status == 0, said
    folder = tmp_path / "outputs" / "found"
    trials = load_trials(folder)
    assert trials["state"].tolist() == ["done"] * 4
    assert trials["uniform"].tolist() == [True, True, False, False]
    shown = {line.split()[0] for line in told.splitlines()[1:5]}
    assert shown == {*trials["segments"]}
    for name, file in {
        "trials": "trials.csv",
        "front": "front.csv",
        "winner": "winner",
        "page": "report.html",
    }.items():
        assert f"{name}: " in told
        assert (folder / file).exists()
    assert "new seed, 359 test examples)" in " ".join(told.split())

    trained = {
        path: path.stat().st_mtime_ns for path in tmp_path.glob("outputs/runs/*/result.json")
    }
    monkeypatch.setattr("spectrum.search.outputs._draw", lambda *_: {})  # what takes longest
    again, told_again, _ = spectrum_search(small_toml)
    assert (again, told_again) == (0, told)
    assert trained == {path: path.stat().st_mtime_ns for path in trained}
    assert spectrum_search(small_toml, "--dry-run")[1].split("\n")[1].split()[-1] == "yes"
    assert load_results(folder)["seed"].tolist() == [1, 1]

    for other in ("--segments=1,4", "--minimize=macs", "--epochs=1"):
        status, _, said = spectrum_search(small_toml, other)
        assert status == 2
        assert said.startswith(
            "error: name (='found') is in outputs/found/search.db already, for a search"
        )
        assert said.endswith("; use another name or storage for a new search\n")
        assert said.count("\n") == 1


def test_failed_runs_are_counted_and_named(
    small_toml: Path, spectrum_search: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {"trial": [0, 1], "state": ["done", "failed"], "error": ["", "out_of_memory: of 1 TB"]}
    costs = {"params": [9, 9], "macs": [9, 9], "width": [1, 1], "val_top1": [0.5, math.nan]}
    trials = pd.DataFrame({**states, **costs, "segments": ["1", "C"]})
    results = pd.DataFrame({"status": ["done", "diverged"], "error": ["", "loss is nan"]})
    found = SearchResult(trials, results, ["A sentence."])
    monkeypatch.setattr("spectrum.search.search.run_search", lambda *_, **__: found)
    status, told, said = spectrum_search(small_toml)
    assert (status, said) == (1, "2 runs failed, the first: out_of_memory: of 1 TB\n")
    assert "A sentence." in told


def test_flags_win_over_the_file(small_toml: Path, spectrum_search: Command) -> None:
    flags = ["--segments=C,4,1", "--width=0.1,0.4", "--per=network", "--trials=9", "--dry-run"]
    status, told, _ = spectrum_search(small_toml, *flags)
    assert status == 0
    assert "segments: 1, 4, C\n" in told
    assert "width: 0.1, 0.4\n" in told
    assert "6 points, all of which will be tried" in told


def test_help_needs_neither_torch_nor_optuna() -> None:
    code = (
        "import sys; sys.argv = ['spectrum.search', '--help']\n"
        "from spectrum.search.__main__ import main\n"
        "status = main(); assert not {'torch', 'optuna', 'pandas'} & {*sys.modules}\n"
        "sys.exit(status)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "--sampler NAME" in shown.stdout
