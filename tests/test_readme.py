"""The README's code runs, and prints what stands below it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from spectrum import Segments, StudyConfig, load_results, summarize
from spectrum.report import render_summary
from spectrum.study.config import merge

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_code_runs_as_it_stands(tmp_path: Path) -> None:
    api, _ = blocks("python")
    ran = subprocess.run([sys.executable, "-c", api], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 4
    assert len([line for line in api.splitlines() if line]) == 9


def test_the_table_of_counts_is_printed_by_the_code_above_it() -> None:
    _, code = blocks("python")
    (table,) = blocks("text")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == table, ran.stderr


@pytest.mark.parametrize(
    ("setting", "sizes"), re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", README, re.MULTILINE)
)
def test_the_table_of_the_dial_is_true(setting: str, sizes: str) -> None:
    if setting == "500:200:28":
        expected = [500, 200, 28]
    else:
        pairs = re.findall(r"(\d+) (?:segments? )?of (\d+)", sizes)
        expected = [int(size) for n, size in pairs for _ in range(int(n))]
    assert list(Segments(setting).sizes(728)) == expected


def test_the_file_and_the_flags_are_understood() -> None:
    import shlex
    import tomllib

    (text,) = blocks("toml")
    config = StudyConfig(**tomllib.loads(text))
    assert len(list(config.combinations())) == 4 * 2 * 2
    _, commands = blocks("sh")
    first = shlex.split(commands.splitlines()[0])[3:]
    flags = {
        name.removeprefix("--"): value for name, value in zip(first[::2], first[1::2], strict=True)
    }
    assert len(list(StudyConfig(**merge({}, flags)).combinations())) == 6 * 2


STUDIES = Path(__file__).parents[1] / "studies"


@pytest.mark.parametrize("name", ["default", "recipe"])
def test_what_a_study_found_is_printed_by_the_code_above_it(name: str) -> None:
    text = (STUDIES / f"{name}.md").read_text()
    code = re.findall(r'```sh\npython -c "(.*?)"\n?```', text, re.DOTALL)
    (printed,) = re.findall(r"```\n\n```text\n(.*?)```", text, re.DOTALL)
    ran = subprocess.run(
        [sys.executable, "-c", code[0]], cwd=STUDIES.parent, capture_output=True, text=True
    )
    assert ran.stdout == printed, ran.stderr


@pytest.mark.parametrize("name", ["default", "unmatched"])
def test_a_studys_table_is_that_of_its_rows(name: str) -> None:
    table = (STUDIES / f"{name}.md").read_text().split("```text\n")[1].split("```")[0]
    console = Console(width=120)
    with console.capture() as captured:
        console.print(render_summary(summarize(load_results(STUDIES / name))))
    shown = [line.split() for line in captured.get().splitlines()]
    assert shown == [line.split() for line in table.splitlines()]
