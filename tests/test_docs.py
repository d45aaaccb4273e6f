"""The pages of docs/ are true: their code and commands run, and print what the text says."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import spectrum
from spectrum import NetworkConfig, StudyConfig, load_results
from spectrum.costs import count_config

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"(?:-m spectrum\.|^spectrum )(study|search|report|bench)\b *(.*)", re.M)
TRAINED = {"first", "photos", "small_net"}
"""Studies that are carried out; the others are only planned, as they would train for minutes."""


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def blocks(name: str) -> list[tuple[str, str]]:
    """The languages and texts of a page's blocks of code, in order."""
    return BLOCK.findall(page(name))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data that the pages name, in which everything runs in this process."""
    rng = np.random.default_rng(0)
    rows = []
    for folder in ("photos", "imagenet/train", "imagenet/val"):
        for i in range(40):
            path = tmp_path / folder / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
            rows.append({"image": {"bytes": path.read_bytes()}, "label": i % 2})
    pd.DataFrame(rows).to_parquet(tmp_path / "photos.parquet")
    (tmp_path / "kmnist").mkdir()
    for split in ("train", "t10k"):
        images = rng.integers(0, 256, (50, 28, 28), dtype=np.uint8)
        head = np.array([0x803, *images.shape], ">u4").tobytes()
        (tmp_path / "kmnist" / f"{split}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        head = np.array([0x801, 50], ">u4").tobytes()
        labels = (np.arange(50) % 5).astype(np.uint8)
        (tmp_path / "kmnist" / f"{split}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    for name in ("benchmarks", "studies"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("spectrum.executors.local.cpu_count", lambda: 1)
    monkeypatch.setattr("spectrum.study.outputs._draw", lambda *_: None)  # other tests draw
    return tmp_path


def call(command: str, arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Call a command of the package; studies and searches are planned, a few carried out."""
    words = shlex.split(arguments, comments=True)
    if command in ("study", "search") and TRAINED.isdisjoint(words) and "--dry-run" not in words:
        words.append("--dry-run")
    if command == "bench":  # measuring takes minutes
        for name in ("run_layer", "run_shapes", "run_network", "run_study"):
            monkeypatch.setattr(f"spectrum.bench.run.{name}", lambda *_: None)
    monkeypatch.setattr(sys, "argv", [f"spectrum {command}", *words])
    assert import_module(f"spectrum.{command}.__main__").main() == 0


def commands(text: str) -> list[tuple[str, str]]:
    """The package's commands in a block of shell."""
    found = COMMAND.findall(text.replace("\\\n", " ").replace("$point", "1"))
    assert len(found) == len(re.findall(r"(?:spectrum\.|spectrum )(?:study|search|re|be)", text))
    return [
        (command, arguments.replace("/shared", "shared"))
        for command, arguments in found
        if "hub:" not in arguments  # it would be downloaded
        # These need a cluster, which tests/executors/ starts.
        and "HEAD:" not in arguments
        and "--engine slurm" not in arguments
        and ("fashion_mnist" not in arguments or FASHION_MNIST.is_dir())
    ]


@pytest.mark.parametrize(
    "name",
    ["data", "installation", "models", "reading_results", "scale", "speed", "studies", "supernet"],
)
def test_a_page_runs_from_top_to_bottom(
    name: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name == "reading_results":
        call(*commands(blocks("studies")[0][1])[0], monkeypatch)
    for language, text in blocks(name):
        if text.startswith("# mypackage/"):
            path = workplace / text.splitlines()[0].removeprefix("# ")
            path.parent.mkdir()
            path.write_text(text)
        elif language == "toml":
            assert StudyConfig(**tomllib.loads(text))
            (workplace / "study.toml").write_text(text)
    code = [block for block in blocks(name) if "# mypackage/" not in block[1]]
    for (language, text), (_, after) in zip(code, [*code[1:], ("", "")], strict=True):
        if language == "sh" and "benchmarks/fast_widths.py" not in text:
            for command, arguments in commands(text):
                call(command, arguments, monkeypatch)
                if (workplace / "outputs" / "first" / "results.csv").is_file():
                    run = load_results("outputs/first").run_id[0]
                    shutil.copy(f"outputs/runs/{run}/weights.safetensors", "first.safetensors")
        elif language == "python":
            capsys.readouterr()
            exec(compile(text, f"docs/{name}.md", "exec"), {"__name__": "__main__"})
            assert capsys.readouterr().out == after


# What README's placeholders stand for here.
PLACEHOLDERS = {
    "PHOTOS": "photos",
    "PACKAGE.MODULE:CALLABLE": "small:small_net",
    "STUDY.toml": "studies/default.toml",
    "outputs/FIRST": "studies/default",
}


def test_the_commands_of_readme_run(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"^\| .*? \| `(spectrum .*?)` \|", text, re.MULTILINE)
    (model,) = (text for _, text in blocks("models") if text.startswith("# mypackage/"))
    (workplace / "small.py").write_text(model)
    for placeholder, value in PLACEHOLDERS.items():
        assert placeholder in "\n".join(found)
        found = [line.replace(placeholder, value) for line in found]
    assert {line.split()[1] for line in found} == {"report", "study", "search", "bench"}
    for line in found:
        ((command, arguments),) = commands(line)
        call(command, f"{arguments} --dry-run" if "photos" in line else arguments, monkeypatch)


def test_the_table_of_widths_is_what_the_benchmark_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    runpy.run_path(str(ROOT / "benchmarks" / "fast_widths.py"), run_name="__main__")
    assert ("text", capsys.readouterr().out.rstrip() + "\n") in blocks("speed")


def test_the_counts_of_the_paper_are_what_the_code_above_them_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = [text for language, text in blocks("counts") if language == "python"]
    table = blocks("counts")[2][1]
    with torch.device("meta"):  # counts need shapes only; 184 million weights take long
        exec(compile(code.replace('(1, 4, 32, "C")', '("C",)'), "counts.md", "exec"), {})
    head, *rows = table.splitlines()
    assert capsys.readouterr().out.splitlines() == [head, rows[-1]]
    for segments, *numbers in map(str.split, rows):
        costs = count_config(NetworkConfig(segments=segments), (3, 299, 299))
        found = (costs.params, costs.macs, costs.fvcore_total)
        assert numbers == [f"{number:,}" for number in found]


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scripts in benchmarks/ be imported."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")


@pytest.mark.usefixtures("benchmarks")
def test_the_counters_agree_with_their_table() -> None:
    counters = import_module("counters")
    networks, layers = blocks("counts")[3][1].split("\n\n")
    rows = [
        (line[:24].rstrip(), [int(cell.replace(",", "")) for cell in line[24:].split()])
        for line in [*networks.splitlines()[1:], *layers.splitlines()[1:]]
    ]
    tried = [*counters.NETWORKS, *counters.LAYERS]
    assert [title for title, _ in rows] == [title for title, *_ in tried]
    for (_, make), (_, shown) in zip(counters.LAYERS, rows[len(counters.NETWORKS) :], strict=True):
        ours = (counters.by_spectrum, counters.by_fvcore, counters.by_torch)
        assert [count(make().eval(), counters.IMAGE) for count in ours] == shown[:3]
    same = (("paper", "C"), ("paper", "C"), ("paper", "1"), ("resnet50", "1"), ("vgg16", "1"))
    for (name, segments), (_, shown) in zip(same, rows, strict=False):
        side = 299 if name == "paper" else 224
        costs = count_config(NetworkConfig(name=name, segments=segments), (3, side, side))
        assert shown[:3] == [costs.macs, costs.fvcore_total, 2 * costs.macs]


@pytest.mark.usefixtures("benchmarks")
def test_the_counts_of_other_libraries_match_the_benchmark() -> None:
    benchmark = import_module("exact_counts")
    params, macs = (
        {line[:24].strip(): line[24:].split() for line in table.splitlines()}
        for table in blocks("counts")[4][1].split("\n\n")
    )
    for row in benchmark.ROWS:
        costs = count_config(row.config, (3, row.side, row.side))
        assert params[row.title.strip()][0] == f"{costs.params:,}"
        if not row.config.aux_logits:  # MACs leave the auxiliary head out
            assert macs[row.title][0] == f"{costs.macs:,}"
    for title, name in (("Xception", "Xception"), ("Inception V3", "InceptionV3")):
        assert params[title][1] == f"{benchmark.keras_parameters(name):,}"


def test_the_largest_error_is_the_largest_in_parity_txt() -> None:
    (stated,) = re.findall(r"differ from those libraries' by (\S+) of the largest", page("counts"))
    lines = (ROOT / "benchmarks" / "parity.txt").read_text().splitlines()[1:]
    errors = [float(cell) for line in lines for cell in line.split()[3:] if cell != "-"]
    assert float(stated) == max(errors)


# Keras 3.15 turns tensors into arrays as NumPy 2.4 deprecates.
@pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
@pytest.mark.usefixtures("benchmarks")
def test_the_page_of_the_paper_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [text for language, text in blocks("paper") if language == "python"]
    names: dict[str, torch.nn.Module] = {}
    exec(compile(code.replace('weights="imagenet"', "weights=None"), "paper.md", "exec"), names)
    theirs = names["published"].get_layer("block14_sepconv2").pointwise_kernel.value
    ours = names["network"].state_dict()
    assert any(theirs.squeeze().T.equal(tensor.squeeze()) for tensor in ours.values())
    for language, text in blocks("paper"):
        if language == "sh":
            for command, arguments in commands(text):
                call(command, arguments, monkeypatch)


def test_every_public_name_has_its_place_in_the_reference() -> None:
    text = "".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    shown = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    public = [getattr(spectrum, name) for name in spectrum.__all__]
    assert sorted(shown) == sorted(f"{it.__module__}.{it.__qualname__}" for it in public)
