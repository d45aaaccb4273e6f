"""The project's own files agree: Makefile, workflow, hooks, versions, citation and templates."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

import spectrum

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
JOBS = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"]
MAKEFILE = (ROOT / "Makefile").read_text()
NEEDED = {*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]}
REQUIREMENTS = sorted(NEEDED.union(*PROJECT["optional-dependencies"].values()))


def targets_in(text: str) -> list[str]:
    """The targets that the commands of a script make."""
    return re.findall(r"^\s*make ([\w-]+)", text, re.MULTILINE)


CALLED = [
    target
    for job in JOBS.values()
    for step in job["steps"]
    for target in targets_in(step.get("run", ""))
]


def make(*arguments: str) -> list[str]:
    """The lines that make would execute, also where make has started these tests."""
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    done = subprocess.run(
        ["make", "--dry-run", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def pins(name: str) -> dict[str, str]:
    """The versions in a file of constraints, by the normalised names of their packages."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    pairs = (line.split("==") for line in lines)
    return {normal(package): version for package, version in pairs}


def normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


@pytest.mark.parametrize(
    "target",
    [
        *CALLED,
        *targets_in((ROOT / ".ci" / "run").read_text()),
        *re.findall(r"^make ([\w-]+)", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE),
        *re.findall(r"^# make ([\w-]+)", MAKEFILE, re.MULTILINE),
    ],
)
def test_each_target_that_is_called_can_be_made(target: str) -> None:
    assert make(target)


def test_the_workflow_tests_the_versions_of_python_that_are_claimed() -> None:
    claimed = re.findall(r":: Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert PROJECT["requires-python"] == f">={claimed[0]}"
    assert JOBS["tests"]["strategy"]["matrix"]["python"] == claimed
    others = {
        step["with"]["python-version"]
        for job in ("lowest", "newest")
        for step in JOBS[job]["steps"]
        if "with" in step
    }
    assert others == {claimed[0], claimed[-1]}
    assert CALLED == ["test", "docs", "test-lowest", "test-trackers", "test-newest", "dist"]


def test_the_hooks_are_the_commands_of_make_lint() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == make("lint")[-3:]


@pytest.mark.parametrize("line", REQUIREMENTS)
def test_each_version_that_is_tested_is_allowed(line: str) -> None:
    requirement = Requirement(line)
    (lowest,) = (bound.version for bound in requirement.specifier if bound.operator == ">=")
    package = normal(requirement.name)
    assert requirement.specifier.contains(pins("constraints.txt")[package])
    assert pins("constraints-lowest.txt").get(package, lowest) == lowest


def test_the_lowest_versions_are_complete() -> None:
    assert {normal(Requirement(line).name) for line in NEEDED} <= {*pins("constraints-lowest.txt")}


def test_the_citation_is_of_this_version_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == spectrum.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    assert citation["repository-code"] == PROJECT["urls"]["Homepage"]
    (paper,) = citation["references"]
    assert [entry["value"] for entry in paper["identifiers"]] == ["arXiv:1610.02357"]


FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_for_issues_has_what_github_asks_for(path: Path) -> None:
    form: dict[str, Any] = yaml.safe_load(path.read_text())
    assert form["name"]
    assert form["description"]
    assert len({field["id"] for field in form["body"]}) == len(form["body"])
    assert all(field["attributes"]["label"] for field in form["body"])
