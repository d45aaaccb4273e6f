"""The code of the README and of the studies' pages runs, and prints the text below it."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import torch
from rich.console import Console

from spectrum import NetworkConfig, Segments, StudyConfig, compare_pairs
from spectrum.analysis.evidence import analyze_study
from spectrum.costs import count_config
from spectrum.report import render_summary
from spectrum.study.command import merge_flags

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the README's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def execute(code: str) -> None:
    """Run code as a script, but in this process, where torch is imported already."""
    exec(compile(code, "<example>", "exec"), {"__name__": "__main__"})


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api, _, _ = blocks("python")
    monkeypatch.chdir(tmp_path)
    # In this process and without figures, which other tests draw.
    monkeypatch.setattr("spectrum.executors.local.cpu_count", lambda: 1)
    monkeypatch.setattr("spectrum.study.outputs._draw", lambda *_: None)
    execute(api)
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 4
    assert len([line for line in api.splitlines() if line]) == 11


def test_the_example_of_networks_runs(capsys: pytest.CaptureFixture[str]) -> None:
    _, code, _ = blocks("python")
    execute(code)
    exact, lost = capsys.readouterr().out.split()
    assert exact == "tensor(True)"
    assert 0 < float(lost) < 0.1


def test_the_table_of_counts_is_printed_by_the_code_above_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, _, code = blocks("python")
    table, _ = blocks("text")
    with torch.device("meta"):  # counts need shapes only; 184 million weights take long
        execute(code.replace('(1, 4, 32, "C")', '("C",)'))  # a trace takes seconds
    head, *rows = table.splitlines()
    assert capsys.readouterr().out.splitlines() == [head, rows[-1]]
    for segments, *numbers in map(str.split, rows):
        costs = count_config(NetworkConfig(segments=segments), (3, 299, 299))
        found = (costs.params, costs.macs, costs.fvcore_total)
        assert numbers == [f"{number:,}" for number in found]


def test_the_counts_of_other_libraries_match_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmark = import_module("exact_counts")
    _, tables = blocks("text")
    params, macs = (
        {line[:24].strip(): line[24:].split() for line in table.splitlines()}
        for table in tables.split("\n\n")
    )
    for row in benchmark.ROWS:
        side = 299 if row.config.name in ("paper", "inception_v3") else 224
        costs = count_config(row.config, (3, side, side))
        assert params[row.title.strip()][0] == f"{costs.params:,}"
        if not row.config.aux_logits:  # MACs leave the auxiliary head out
            assert macs[row.title][0] == f"{costs.macs:,}"
    for title, name in (("Xception", "Xception"), ("Inception V3", "InceptionV3")):
        assert params[title][1] == f"{benchmark.keras_parameters(name):,}"


def test_the_largest_error_is_the_largest_in_parity_txt() -> None:
    (stated,) = re.findall(r"differ from those libraries' by (\S+) of the largest", README)
    lines = (ROOT / "benchmarks" / "parity.txt").read_text().splitlines()[1:]
    assert float(stated) == max(float(line.split()[-1]) for line in lines)


@pytest.mark.parametrize(
    ("setting", "sizes"), re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", README, re.MULTILINE)
)
def test_the_table_of_the_dial_is_correct(setting: str, sizes: str) -> None:
    if setting == "500:200:28":
        expected = [500, 200, 28]
    else:
        pairs = re.findall(r"(\d+) (?:segments? )?of (\d+)", sizes)
        expected = [int(size) for n, size in pairs for _ in range(int(n))]
    assert list(Segments(setting).sizes(728)) == expected


def test_the_toml_files_and_the_flags_are_valid() -> None:
    import shlex
    import tomllib

    dial, planted = (StudyConfig(**tomllib.loads(text)) for text in blocks("toml"))
    assert len(list(dial.combinations())) == 4 * 2 * 2
    assert len(list(planted.combinations())) == len(planted.segments) * 3
    commands = next(
        block for block in blocks("sh") if block.startswith(".venv/bin/python -m spectrum.study")
    )
    first = shlex.split(commands.splitlines()[0])[3:]
    flags = {
        name.removeprefix("--"): value for name, value in zip(first[::2], first[1::2], strict=True)
    }
    assert len(list(StudyConfig(**merge_flags({}, flags)).combinations())) == 6 * 2


STUDIES = ROOT / "studies"
NUMBER = r"([+-]\d+\.\d\d)"
FINDING = rf"(\S+) less (\S+): {NUMBER} \({NUMBER} to {NUMBER}\)(?: (after|at) `?([^`\s;|]+))?"


@pytest.mark.parametrize(
    ("study", "effects"),
    re.findall(r"^\| \[.*?\]\(studies/(\w+)\.md\) \|(.*)", README, re.MULTILINE),
)
def test_the_findings_follow_from_the_studies(study: str, effects: str) -> None:
    found = re.findall(FINDING, effects.replace("`C`:", "C:"))
    assert len(found) == effects.count(" less ")
    for point, other, *numbers, word, place in found:
        rows = compare_pairs(STUDIES / study)
        if word:
            name = "epochs" if word == "after" else "segments"
            rows = rows[rows[name].astype(str) == place]
        forward = rows[(rows["point"] == point) & (rows["other"] == other)]
        backward = rows[(rows["point"] == other) & (rows["other"] == point)]
        columns = ["difference", "difference_low", "difference_high"]
        values = [*forward[columns].to_numpy(), *-backward[columns].to_numpy()[:, [0, 2, 1]]]
        assert [f"{100 * value:+.2f}" for value in values[0]] == numbers
        assert len(values) == 1


PRINTED = re.compile(r'```sh\npython -c "(.*?)"\n?```\n\n```text\n(.*?)```', re.DOTALL)


@pytest.mark.parametrize(
    "page", [path.name for path in sorted(STUDIES.glob("*.md")) if "python -c" in path.read_text()]
)
def test_the_code_in_a_studys_page_prints_the_text_below_it(
    page: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (STUDIES / page).read_text()
    examples = PRINTED.findall(text)
    assert len(examples) == text.count("python -c")
    monkeypatch.chdir(ROOT)
    for code, printed in examples:
        execute(code)
        assert capsys.readouterr().out == printed


@pytest.mark.parametrize("name", sorted(path.parent.name for path in STUDIES.glob("*/study.json")))
def test_the_results_in_a_studys_page_follow_from_its_files(name: str) -> None:
    text = (STUDIES / f"{name}.md").read_text()
    command = f"`python -m spectrum.study studies/{name}.toml`"
    assert command in text
    assert command.strip("`") in (STUDIES / f"{name}.toml").read_text()
    printed = text.split(command)[1].split("```text\n")[1].split("```")[0]
    found = analyze_study(STUDIES / name)
    console = Console(width=200)
    with console.capture() as captured:
        console.print(render_summary(found.summary))
        for sentence in found.sentences:
            console.print(sentence, markup=False)
    assert captured.get().split() == printed.split()


def test_each_study_has_its_page_and_its_results() -> None:
    for path in STUDIES.glob("*.toml"):
        folder = path.with_suffix("")
        if (folder / "search.json").is_file():  # its results are on the page of its space
            assert f"studies/{path.name}" in (STUDIES / "fashion_space.md").read_text()
        else:
            assert path.with_suffix(".md").is_file()
            assert (folder / "study.json").is_file()
    index = (STUDIES / "README.md").read_text() + (STUDIES / "fashion_budgets.md").read_text()
    for page in STUDIES.glob("[a-z]*.md"):
        assert f"]({page.name})" in index
