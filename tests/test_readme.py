"""The code of the README and of the studies' pages runs, and prints the text below it."""

import re
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

from spectrum import Segments
from spectrum.analysis.evidence import analyze_study
from spectrum.report import render_summary

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


analyzed = cache(lambda name: analyze_study(STUDIES / name))


def execute(code: str) -> None:
    """Run code as a script, but in this process, where torch is imported already."""
    exec(compile(code, "<example>", "exec"), {"__name__": "__main__"})


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (api,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    # In this process and without figures, which other tests draw.
    monkeypatch.setattr("spectrum.executors.local.cpu_count", lambda: 1)
    monkeypatch.setattr("spectrum.study.outputs._draw", lambda *_: None)
    execute(api.replace("epochs=3", "epochs=1"))
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 4
    assert len([line for line in api.splitlines() if line]) == 11


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
        rows = analyzed(study).pairs
        assert rows is not None
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
    found = analyzed(name)
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
