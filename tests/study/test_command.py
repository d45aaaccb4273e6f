"""The command as a user runs it: what it prints and writes, and its exit status."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from spectrum import StudyConfig, load_results
from spectrum.study.__main__ import main
from spectrum.study.command import make_grid_app, run_grid_app
from tests.forked import is_worker, start_forked, wait_for, workers_of
from tests.held import Hold
from tests.small_studies import TIMES, weights

REFUSED = {
    ("--segments", "foo"): "--segments (='foo') must be",
    ("--segments", "1,,4"): "--segments (='1,,4') must have a point",
    ("--segments", "C+C"): "--segments (=C,C) must be 9 values",
    (
        "--segments",
        "16:8",
    ): "--segments (='16:8') must not be explicit sizes where a width is solved",
    ("--segments=16:8", "--match=none"): "--segments (='16:8') add up to 24, must add up to 51",
    ("--segments", "front=C"): "must name every flow once: entry, middle, exit",
    ("--data", "nothing"): "--data (='nothing') must be one of digits, fashion_mnist, planted",
    ("--budget", "0"): "--budget (='0') must be greater than 0",
    ("--budget=5000", "--match=none"): "--budget (=5000) needs match 'params', 'macs' or 'l",
    ("--budget", "1"): "--budget (=1) must be near ",
    ("--budget=0.5",): "--budget (=0.5) must be a valid integer with match (='params')",
    ("--match=latency", "--device=cuda:99"): "--device (='cuda:99') must be one of auto, cpu",
    ("--compare", "order"): "--compare (='order') must be one of segments, what varies",
    ("--network", "huge"): "--network (='huge') must be one of paper, small, tiny",
    ("--device", "tpu"): "--device (='tpu') must be auto, cpu, cuda or cuda:N",
    ("--precision", "int8"): "--precision (='int8') must be 'float32' or 'bfloat16'",
    ("--match", "time"): "--match (='time') must be 'params', 'macs', 'latency' or 'none'",
    ("--order", "random"): "--order (='random') must be 'spatial_first'",
    ("--activation", "gelu"): "--activation (='gelu') must be one of none, relu, elu",
    ("--seeds", "0"): "--seeds (='0') must be greater than 0",
    ("--epochs", "0"): "--epochs (=0) must be greater than 0",
    ("--workers", "-1"): "--workers (='-1') must be greater than 0",
    ("--image-size", "32"): "--image-size (=32) needs data of kind fashion_mnist or folder or",
    ("--bad-images", "skip"): "--bad-images (='skip') needs data of kind folder or parquet or",
    ("--name", "a/b"): "--name (='a/b') must be 1 to 100 letters, digits",
    ("--out", "/dev/null/x"): "--out (=/dev/null/x/default) can't be written: Not a directory",
    ("--runs", "/dev/null/x"): "--runs (=/dev/null/x) can't be written: Not a directory",
    ("--resplit", "--seeds=1"): "--resplit (=True) needs at least 2 seeds, which draw their own im",
    ("--data", "idx:/nowhere"): "data (='idx:/nowhere') must be a folder of files such as train-i",
    ("--colour", "red"): "No such option: --colour",
    ("missing.toml",): "missing.toml can't be read: No such file or directory",
}


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_bad_usage_is_one_line_and_status_2(
    arguments: tuple[str, ...], spectrum_study: Callable[..., tuple[int, str]]
) -> None:
    status, said = spectrum_study(*arguments)
    assert status == 2
    assert said.startswith("error: ")
    assert REFUSED[arguments] in said
    assert said.count("\n") == 1


TOML = {
    "segments = [1": "is not a TOML file: Unclosed array",
    "segmints = 4": "segmints (=4) is not a known field; known: activation, address, against, bad",
    "seeds = 'many'": "seeds (='many') must be a valid integer",
    "match = 3": "match (=3) must be 'params', 'macs', 'latency' or 'none'",
    "network = 3": "network (=3) must be a name, a list of names or a table",
    "segments = []": "segments (=[]) must be",
    "[recipe]\nlr = []": "recipe.lr (=[]) must have at least one value",
    "[recipe]\nrate = 1": "recipe.rate (=1) is not a known field; known: average, batch_norm",
    "[network]\ndropout = [0.1, 1.5]": "network.dropout (=1.5) must be less than 1",
    "[network]\nsegments = 2": "network.segments (=2) must not be given, segments belong outside",
    "[network]\nwidth = 2": "network.width (=2) must not be given unless match is 'none'",
    "[network]\nnum_classes = 7": "network.num_classes (=7) must not be given",
    "epochs = 3\n[recipe]\nepochs = 4": "epochs (=3) must not be given in the table 'recipe'",
    "[data]\ntrain_images = 5": "train_images (=5) must be in 10..1079, what the other",
    "image_size = 32": "image_size (=32) needs data of kind fashion_mnist or folder or",
    "[data]\nrank = 2": "data.rank (=2) needs data of kind planted, not digits",
    '[data]\nname = "planted"\nrank = 9': "data.rank (=9) must be in 1..8, for 8 channels of 5x5",
    "[recipe]\nmomentum = 0.9": "recipe.momentum (=0.9) needs optimizer sgd or rmsprop, not adamw",
    "tune_lr = 3": "tune_lr (=3) must be true, false or a list of factors",
    "tune_lr = [1, 0]": "tune_lr (=0) must be greater than or equal to 0.001",
    "tune_lr = true\n[recipe]\nlr = [0.1, 0.2]": "tune_lr (=0.25,0.5,1.0,2.0,4.0) must not "
    "be given with several learning rates, recipe.lr (=0.1,0.2)",
    "compare = 3": "compare (=3) must be a valid string",
    "sample = 0": "sample (=0) must be greater than 0",
    "min_activations = 0": "min_activations (=0) must be greater than 0",
    "sample_seed = -1": "sample_seed (=-1) must be greater than or equal to 0",
    "[data]\nrank = {a = 1}": "data.rank (={'a': 1}) must be a value or a list of values",
    "[recipe]\nlr = [{a = 1}]": "recipe.lr (={'a': 1}) must be a value or a list of values",
    "[network]\nname = {a = 1}": "network (={'a': 1}) must be a value or a list of values",
    "[network]\nname = 'vgg_small'\nresidual = false": "network.residual (=False) must not be "
    "given for vgg",
    "budget = 9\nmatch = 'none'": "budget (=9) needs match 'params', 'macs' or 'latency',",
}


@pytest.mark.parametrize("text", TOML)
def test_a_bad_file_is_one_line_and_status_2(
    text: str, spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_text(text)
    status, said = spectrum_study("bad.toml")
    assert status == 2
    assert TOML[text] in said
    assert said.count("\n") == 1


BYTES = {
    "utf-8-sig": None,
    "utf-8": None,
    "utf-16": "is not a TOML file: not UTF-8 text",
    "utf-16-le": "is not a TOML file",  # every other byte is 0
    "utf-32": "is not a TOML file: not UTF-8 text",
}


@pytest.mark.parametrize("encoding", BYTES)
def test_a_file_may_begin_with_a_byte_order_mark(
    encoding: str, spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "x.toml").write_bytes("seeds = 0".encode(encoding))
    status, said = spectrum_study("x.toml")
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith("error: x.toml")
    assert (BYTES[encoding] or "seeds (=0) must be greater than 0") in said


UNREADABLE = {
    "seeds = " + "9" * 5000: "is not a TOML file: Exceeds the limit",
    "x = " + "[" * 5000 + "]" * 5000: "is not a TOML file: its tables are nested too deeply",
    "[recipe]\nlr" + ".a" * 3000 + " = 1": "recipe.lr (=a value that is nested too deeply) must",
    "a" + ".a" * 3000 + " = 1": "a (=a value that is nested too deeply) is not a known field",
    "[[recipe]]\nlr = 1\n[[recipe]]\nlr = 2": "recipe (={'lr': 1}) must be a value or a list",
    "[recipe]\nlr = 2020-01-01": "recipe.lr (=datetime.date(2020, 1, 1)) must be a valid number",
    "#" * 2_000_000: "can't be read: it has more than 1,000,000 bytes",
}


@pytest.mark.parametrize("text", UNREADABLE, ids=lambda text: text[:20])
def test_a_file_without_end_is_one_line(
    text: str,
    spectrum_study: Callable[..., tuple[int, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.toml").write_text(text)
    status, said = spectrum_study("~/x.toml")
    assert (status, said.count("\n")) == (2, 1)
    assert UNREADABLE[text] in said


def test_tuning_by_the_flag_is_refused_by_the_flag(
    spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "rates.toml").write_text("[recipe]\nlr = [0.1, 0.2]")
    status, said = spectrum_study("rates.toml", "--tune-lr")
    assert status == 2
    assert said.startswith("error: --tune-lr (=0.25,0.5,1.0,2.0,4.0) must not be given with")


def test_flags_win_over_the_file(small_toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"segments": "2", "order": "own,spatial_only", "compare": "order", "match": "macs"}
    others = {"budget": "5000", "seeds": "2", "network": "small", "epochs": "1", "name": "called"}
    text = small_toml.read_text().replace("width = 0.2", 'order = "pointwise_first"')
    small_toml.write_text(text)
    given = [f"--{name}={value}" for name, value in (flags | others).items()]
    monkeypatch.setattr(sys, "argv", ["spectrum.study", str(small_toml), "--tune-lr", *given])
    found: list[StudyConfig] = []

    def run(config: StudyConfig, _: object = None) -> int:
        found.append(config)
        return 0

    assert run_grid_app(make_grid_app(StudyConfig, "", "STUDY.toml", run, run)) == 0
    assert found == [
        StudyConfig(
            **flags | others | {"network": {"name": "small", "dropout": 0.3}, "tune_lr": True},
            recipe={"batch_size": 256},
            workers=1,
            device="cpu",
            out=small_toml.parent / "out",
            runs=small_toml.parent / "runs",
        )
    ]


def test_a_run_that_diverges_is_a_row_and_status_1(
    small_toml: Path, spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    small_toml.write_text(small_toml.read_text() + "lr = [1e12, 0.004]\n")
    status, said = spectrum_study(small_toml, "--segments=200,C", "--epochs=1")
    assert status == 1
    assert "2 of 4 runs failed: 2 diverged (training loss is nan in epoch 1 of 1)" in said
    assert " ".join(said.split()).count("segments (=200): 9 of 9 layers have fewer channels") == 1
    results = load_results(tmp_path / "out" / "tested")
    assert list(results["status"]) == ["diverged", "diverged", "done", "done"]
    assert results["test_top1"].notna().tolist() == [False, False, True, True]
    assert "Traceback" not in said


def test_a_dry_run_trains_and_writes_nothing(
    small_toml: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_toml.write_text(small_toml.read_text().replace("width = 0.2", ""))
    command = ["spectrum.study", str(small_toml), "--dry-run", "--match", "params"]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["segments", "width", "params", "MACs", "miss", "done"]
    assert lines[1].split()[0] == "1"
    assert lines[2].split()[:2] == ["C", "1"]
    assert lines[2].endswith("0 of 1")
    assert sorted(path.name for path in small_toml.parent.iterdir()) == ["tested.toml"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_command_keeps_checkpoints_and_leaves_no_worker(
    sent: signal.Signals, small_toml: Path, tmp_path: Path
) -> None:
    hold = Hold(tmp_path / "hold", 6)  # in the second epoch
    process = start_forked(
        "spectrum.study", tmp_path / "said", small_toml, "--workers", "2", before=hold.workers
    )
    assert process.pid is not None
    workers = hold.wait(2)
    os.kill(process.pid, sent)
    process.join(300)
    if sent == signal.SIGINT:
        assert process.exitcode == 130
        assert (tmp_path / "said").read_text().splitlines()[-1] == (
            "interrupted, 0 of 2 runs done and kept; run the same command to continue"
        )
    wait_for(lambda: not any(map(is_worker, workers)))
    assert "Traceback" not in (tmp_path / "said").read_text()
    assert len(list(tmp_path.glob("runs/*/checkpoint.pt"))) == 2


def test_a_killed_worker_and_the_number_of_workers_change_no_result(
    small_toml: Path, spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    hold = Hold(tmp_path / "hold", 6)  # in the second epoch
    process = start_forked(
        "spectrum.study", tmp_path / "said", small_toml, "--workers", "2", before=hold.workers
    )
    assert process.pid is not None
    os.kill(hold.wait(2)[0], signal.SIGKILL)
    hold.release()
    process.join(300)
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 0, said
    assert (
        said.count("its process was killed, as the system does when memory runs out; it continues")
        == 1
    )

    elsewhere = ("--runs", tmp_path / "others", "--out", tmp_path / "alone")
    status, said = spectrum_study(small_toml, *elsewhere)
    assert status == 0, said
    assert weights(tmp_path / "runs") == weights(tmp_path / "others")
    apart, alone = (load_results(tmp_path / out / "tested") for out in ("out", "alone"))
    assert apart["status"].tolist() == ["done", "done"]
    pd.testing.assert_frame_equal(apart.drop(columns=TIMES), alone.drop(columns=TIMES))


def test_a_run_whose_workers_all_die_has_failed(small_toml: Path, tmp_path: Path) -> None:
    hold = Hold(tmp_path / "hold", 0)
    process = start_forked(
        "spectrum.study", tmp_path / "said", small_toml, "--workers", "2", before=hold.workers
    )
    assert process.pid is not None
    killed: set[int] = set()
    while process.is_alive():
        for worker in set(workers_of(process.pid)) - killed:
            os.kill(worker, signal.SIGKILL)
            killed.add(worker)
        time.sleep(0.05)
    assert process.exitcode == 1
    assert len(killed) == 2 * 3
    results = load_results(tmp_path / "out" / "tested")
    assert results["status"].tolist() == ["failed"] * 2
    assert results["error"].str.contains("killed").all()


def test_two_commands_at_once_train_each_run_once(small_toml: Path, tmp_path: Path) -> None:
    names = ("first", "second")
    both = [
        start_forked("spectrum.study", tmp_path / name, small_toml, "--name", name)
        for name in names
    ]
    for process in both:
        process.join(300)
    assert [process.exitcode for process in both] == [0, 0]
    first, second = (load_results(tmp_path / "out" / name) for name in names)
    # The time that training took is the same only where it is the same training.
    assert first["train_seconds"].tolist() == second["train_seconds"].tolist()
