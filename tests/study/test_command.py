"""The command as a user runs it: what it prints and writes, and its exit status."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spectrum import compare_points, load_results
from tests.forked import start_forked
from tests.small_studies import run_command, weights

REFUSED = {
    ("--segments", ""): "--segments (='') must be a whole number from 1",
    ("--segments", "0"): "--segments (='0') must be",
    ("--segments", "-3"): "--segments (='-3') must be",
    ("--segments", "foo"): "--segments (='foo') must be",
    ("--segments", "1,,4"): "--segments (='1,,4') must have a point",
    ("--segments", "C/0"): "--segments (='C/0') must be",
    ("--segments", "C/x"): "--segments (='C/x') must be",
    ("--segments", "1e9999"): "--segments (='1e9999') must be",
    ("--segments", "C+C"): "--segments (=C,C) must be 9 values",
    ("--segments", "16:8"): "--segments (='16:8') must not be explicit sizes where a width is solved",
    ("--segments=16:8", "--match=none"): "--segments (='16:8') add up to 24, must add up to 51",
    ("--segments", "front=C"): "must name every flow once: entry, middle, exit",
    ("--data", "nothing"): "--data (='nothing') must be one of digits, planted",
    ("--budget", "0"): "--budget (='0') must be greater than 0",
    ("--budget", "lots"): "--budget (='lots') must be a valid integer",
    ("--budget=5000", "--match=none"): "--budget (=5000) needs match 'params', 'macs' or 'l",
    ("--budget", "1"): "--budget (=1) must be near ",
    ("--budget=3", "--match=macs"): "--budget (=3) must be near ",
    ("--budget=0.5",): "--budget (=0.5) must be a valid integer with match (='params')",
    ("--budget=-1", "--match=latency"): "--budget (='-1') must be greater than 0",
    ("--budget=inf", "--match=latency"): "--budget (='inf') must be a ",
    ("--match=latency", "--segments=16:8"): "--segments (='16:8') must not be explicit sizes where",
    ("--match=latency", "--device=cuda:99"): "--device (='cuda:99') must be one of auto, cpu",
    ("--compare", "order"): "--compare (='order') must be one of segments, what varies",
    ("--compare=order", "--network=tiny,small"): "(='order') must be one of segments, network, wh",
    ("--network", "huge"): "--network (='huge') must be one of paper, small, tiny",
    ("--device", "tpu"): "--device (='tpu') must be auto, cpu, cuda or cuda:N",
    ("--device", "cuda:99"): "--device (='cuda:99') must be one of auto, cpu",
    ("--precision", "int8"): "--precision (='int8') must be 'float32' or 'bfloat16'",
    ("--match", "time"): "--match (='time') must be 'params', 'macs', 'latency' or 'none'",
    ("--order", "random"): "--order (='random') must be 'spatial_first'",
    ("--activation", "gelu"): "--activation (='gelu') must be one of none, relu, elu",
    ("--order=spatial_only", "--activation=elu"): "--activation (='elu') must be none for spatial",
    ("--seeds", "0"): "--seeds (='0') must be greater than 0",
    ("--seeds", "two"): "--seeds (='two') must be a valid integer",
    ("--epochs", "0"): "--epochs (=0) must be greater than 0",
    ("--workers", "-1"): "--workers (='-1') must be greater than 0",
    ("--threads", "0"): "--threads (='0') must be greater than 0",
    ("--name", "a/b"): "--name (='a/b') must be 1 to 100 letters, digits",
    ("--out", "/dev/null/x"): "--out (=/dev/null/x/default) can't be written: Not a directory",
    ("--runs", "/dev/null/x"): "--runs (=/dev/null/x) can't be written: Not a directory",
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
    "segmints = 4": "segmints (=4) is not a known field; known: activation, address, bad_images",
    "seeds = 'many'": "seeds (='many') must be a valid integer",
    "match = 3": "match (=3) must be 'params', 'macs', 'latency' or 'none'",
    "network = 3": "network (=3) must be a name, a list of names or a table",
    "segments = []": "segments (=[]) must be",
    "[recipe]\nlr = -1": "recipe.lr (=-1) must be greater than 0",
    "[recipe]\nlr = []": "recipe.lr (=[]) must have at least one value",
    "[recipe]\nrate = 1": "recipe.rate (=1) is not a known field; known: average, batch_norm",
    "[network]\ndropout = [0.1, 1.5]": "network.dropout (=1.5) must be less than 1",
    "[network]\nsegments = 2": "network.segments (=2) must not be given, segments belong outside",
    '[data]\nname = [["digits"]]': "data (=digits) must be one of digits",
    "[network]\nwidth = 2": "network.width (=2) must not be given unless match is 'none'",
    "[network]\nnum_classes = 7": "network.num_classes (=7) must not be given",
    "epochs = 3\n[recipe]\nepochs = 4": "epochs (=3) must not be given in the table 'recipe'",
    "[data]\ntest = 0.001": "test (=0.001) must be at least",
    "[data]\ntest = 0.6\nvalidation = 0.6": "must leave at least 0.05 for training",
    "[data]\ntrain_images = 5": "train_images (=5) must be in 10..1079, what the other",
    "[data]\nlabel_noise = 1": "data.label_noise (=1) must be less than 1",
    "[data]\nrank = 2": "data.rank (=2) needs kind planted, not digits",
    '[data]\nname = "planted"\nrank = 9': "data.rank (=9) must be in 1..8, for 8 channels of 5x5",
    '[data]\nname = "planted"\nblock = 6': "data.block (=6) must be a multiple of 4 that divides",
    '[data]\nname = "planted"\nsignal = 0': "data.signal (=0) must be greater than 0",
    '[data]\nname = "planted"\nimages = 20': "data.images (=20) must be greater than or equal to",
    "[recipe]\nmomentum = 0.9": "recipe.momentum (=0.9) needs optimizer sgd or rmsprop, not adamw",
    '[recipe]\nname = "jft"\nwarmup = 0.1': "recipe.warmup (=0.1) needs schedule one_cycle, not",
    '[recipe]\nname = "large"': "recipe (='large') must be 'small', 'imagenet' or 'jft'",
    "tune_lr = 3": "tune_lr (=3) must be true, false or a list of factors",
    "tune_lr = [1, 0]": "tune_lr (=0) must be greater than or equal to 0.001",
    "tune_lr = true\n[recipe]\nlr = [0.1, 0.2]": "tune_lr (=0.25,0.5,1.0,2.0,4.0) must not "
    "be given with several learning rates, recipe.lr (=0.1,0.2)",
    "compare = 3": "compare (=3) must be a valid string",
    "compare = 'lr'": "compare (='lr') must be one of segments, what varies",
    "budget = 1.5": "budget (=1.5) must be a valid integer",
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


def test_tuning_by_the_flag_is_refused_by_the_flag(
    spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "rates.toml").write_text("[recipe]\nlr = [0.1, 0.2]")
    status, said = spectrum_study("rates.toml", "--tune-lr")
    assert status == 2
    assert said.startswith("error: --tune-lr (=0.25,0.5,1.0,2.0,4.0) must not be given with")
    assert said.count("\n") == 1


def test_the_budget_tune_lr_and_compare_flags(
    small_toml: Path, spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    text = small_toml.read_text().replace("width = 0.2", "").replace('match = "none"', "")
    small_toml.write_text(text)
    flags = ["--budget=5000", "--tune-lr", "--compare=order", "--epochs=1", "--segments=C"]
    assert spectrum_study(small_toml, *flags, "--order=spatial_first,spatial_only")[0] == 0
    results = load_results(tmp_path / "out" / "tested")
    assert (results["params"] / 5000 - 1).abs().max() < 0.02
    assert set(results["tuned_lr"] / 0.004) <= {0.25, 0.5, 1.0, 2.0, 4.0}
    assert (
        compare_points(tmp_path / "out" / "tested")["reference"].tolist() == ["spatial_first"] * 2
    )


def test_flags_win_over_the_file(
    small_toml: Path, spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    flags = ["--segments", "2", "--epochs", "1", "--order", "pointwise_first", "--seeds", "2"]
    assert spectrum_study(small_toml, *flags)[0] == 0
    results = load_results(tmp_path / "out" / "tested")
    assert set(results["segments"]) == {"2"}
    assert set(results["order"]) == {"pointwise_first"}
    assert list(results["seed"]) == [0, 1]
    assert set(results["epochs"]) == {1}
    assert set(results["dropout"]) == {0.3}  # of the file


def test_the_name_of_a_study_does_not_change_the_network(
    small_toml: Path, spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    small_toml.write_text(small_toml.read_text().replace('"tiny"', '"small"'))
    flags = ["--name", "called", "--segments", "C", "--epochs", "1"]
    assert spectrum_study(small_toml, *flags)[0] == 0
    assert load_results(tmp_path / "out" / "called")["network"].tolist() == ["small"]


def test_saturated_layers_are_noted_once(
    spectrum_study: Callable[..., tuple[int, str]], small_toml: Path
) -> None:
    status, said = spectrum_study(small_toml, "--segments", "200", "--epochs", "1", "--seeds", "2")
    assert status == 0
    assert " ".join(said.split()).count("segments (=200): 9 of 9 layers have fewer channels") == 1


def test_a_run_that_diverges_is_a_row_and_status_1(
    small_toml: Path, spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    small_toml.write_text(small_toml.read_text() + "lr = [1e38, 0.004]\n")
    status, said = spectrum_study(small_toml)
    assert status == 1
    assert "2 of 4 runs failed: 2 diverged (training loss is nan in epoch 1 of 3)" in said
    results = load_results(tmp_path / "out" / "tested")
    assert list(results["status"]) == ["diverged", "diverged", "done", "done"]
    assert results["test_top1"].notna().tolist() == [False, False, True, True]
    assert "Traceback" not in said


def test_a_dry_run_trains_and_writes_nothing(
    small_toml: Path, spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    refused, _ = spectrum_study(small_toml, "--dry-run", "--match", "params", "--network", "small")
    assert refused == 2  # the file's width can't be kept
    small_toml.write_text(small_toml.read_text().replace("width = 0.2", ""))
    planned = run_command(small_toml, "--dry-run", "--match", "params")
    assert planned.returncode == 0, planned.stderr
    lines = planned.stdout.splitlines()
    assert lines[0].split() == ["segments", "width", "params", "MACs", "miss", "done"]
    assert lines[1].split()[0] == "1"
    assert lines[2].split()[:2] == ["C", "1"]
    assert lines[2].endswith("0 of 1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tested.toml"]


def test_an_interrupt_keeps_checkpoints_and_says_how_to_continue(
    small_toml: Path, tmp_path: Path
) -> None:
    long = [small_toml, "--epochs", "400", "--workers", "2"]
    process = start_forked("spectrum.study", tmp_path / "said", *long)
    _wait_for(lambda: len(list(tmp_path.glob("runs/*/checkpoint.pt"))) == 2)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(30)
    assert process.exitcode == 130
    assert (tmp_path / "said").read_text().splitlines()[-1] == (
        "interrupted, 0 of 2 runs are done; run the same command to continue"
    )
    _wait_for(lambda: not _workers_of(tmp_path))
    assert len(list(tmp_path.glob("runs/*/checkpoint.pt"))) == 2


def test_a_killed_command_leaves_no_worker(small_toml: Path, tmp_path: Path) -> None:
    long = [small_toml, "--epochs", "400", "--workers", "2"]
    process = start_forked("spectrum.study", tmp_path / "said", *long)
    _wait_for(lambda: len(list(tmp_path.glob("runs/*/checkpoint.pt"))) == 2)
    assert len(_workers_of(tmp_path)) == 2
    process.kill()
    process.join()
    _wait_for(lambda: not _workers_of(tmp_path))


def test_a_run_continues_when_its_worker_is_killed(
    small_toml: Path, spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    study = [small_toml, "--epochs", "12", "--workers", "2", "--segments", "1,2,C"]
    process = start_forked("spectrum.study", tmp_path / "said", *study)
    _wait_for(lambda: len(list(tmp_path.glob("runs/*/checkpoint.pt"))) == 2)
    os.kill(_workers_of(tmp_path)[0], signal.SIGKILL)
    process.join(100)
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 0, said
    assert (
        said.count("its process was killed, as the system does when memory runs out; it continues")
        == 1
    )
    assert load_results(tmp_path / "out" / "tested")["status"].tolist() == ["done"] * 3

    elsewhere = ("--workers", "1", "--runs", tmp_path / "others", "--name", "other")
    status, said = spectrum_study(*study, *elsewhere)
    assert status == 0, said
    assert weights(tmp_path / "runs") == weights(tmp_path / "others")


def test_a_run_whose_workers_all_die_has_failed_and_is_done_next_time(
    small_toml: Path, spectrum_study: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    study = [small_toml, "--workers", "2"]
    process = start_forked("spectrum.study", tmp_path / "said", *study)
    killed: set[int] = set()
    while process.is_alive():
        for worker in set(_workers_of(tmp_path)) - killed:
            os.kill(worker, signal.SIGKILL)  # long before its first epoch is over
            killed.add(worker)
        time.sleep(0.05)
    assert process.exitcode == 1
    assert len(killed) == 2 * 3
    results = load_results(tmp_path / "out" / "tested")
    assert results["status"].tolist() == ["failed"] * 2
    assert results["error"].str.contains("killed").all()

    status, said = spectrum_study(*study, "--workers", "1")
    assert status == 0, said
    assert load_results(tmp_path / "out" / "tested")["status"].tolist() == ["done"] * 2


def test_two_commands_at_once_train_each_run_once(small_toml: Path, tmp_path: Path) -> None:
    names = ("first", "second")
    both = [
        start_forked("spectrum.study", tmp_path / name, small_toml, "--name", name)
        for name in names
    ]
    for process in both:
        process.join(100)
    assert [process.exitcode for process in both] == [0, 0]
    first, second = (load_results(tmp_path / "out" / name) for name in names)
    # The time that training took is the same only where it is the same training.
    assert first["train_seconds"].tolist() == second["train_seconds"].tolist()


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['spectrum.study', '--help']\n"
        "from spectrum.study.__main__ import main\n"
        "status = main(); assert 'torch' not in sys.modules; sys.exit(status)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "--segments POINTS" in shown.stdout


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen"
        time.sleep(0.05)


def _workers_of(folder: Path) -> list[int]:
    """The worker processes whose store is in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it has just ended
        if b"spectrum.executors.local_worker" in words and str(folder / "runs").encode() in words:
            found.append(int(path.parent.name))
    return found
