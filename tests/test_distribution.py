"""The distribution: its name, which is segment-spectrum, and its files.

The name "spectrum" is somebody else's.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from importlib import import_module
from importlib.metadata import metadata
from pathlib import Path

import pytest

import spectrum

ROOT = Path(__file__).parents[1]
SUMMARY = "How many channel-space segments should a spatial convolution have?"
OTHER = "Spectrum Analysis Tools"
TEXTS = [
    *ROOT.glob("*.md"),
    *(
        path
        for folder in ("docs", "spectrum", "notebooks", "studies", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".md", ".py", ".ipynb", ".toml", ".txt", ".html")
    ),
]


def install(folder: Path, name: str, summary: str) -> Path:
    """Write the metadata that pip leaves of a distribution called spectrum."""
    file = folder / name / ("METADATA" if name.endswith(".dist-info") else "PKG-INFO")
    file.parent.mkdir(parents=True)
    file.write_text(
        f"Metadata-Version: 2.1\nName: spectrum\nVersion: 0.9.0\nSummary: {summary}\n\nReadme.\n"
    )
    return folder


def warning(command: str, patch: pytest.MonkeyPatch, *paths: Path) -> str:
    """What a command prints to standard error beside its help."""
    patch.setattr(sys, "argv", [f"spectrum.{command}", "--help"])
    with patch.context() as path, contextlib.redirect_stderr(io.StringIO()) as said:
        path.setattr(sys, "path", [*map(str, paths), *sys.path])
        assert import_module(f"spectrum.{command}.__main__").main() == 0
    return said.getvalue()


@pytest.mark.parametrize("command", ["study", "search", "report", "bench"])
def test_every_command_warns_of_the_other_distribution(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = install(tmp_path / "ours", "spectrum.egg-info", SUMMARY)
    theirs = install(tmp_path / "theirs", "spectrum-0.9.0.dist-info", OTHER)
    assert warning(command, monkeypatch, ours, theirs) == (
        'warning: the distribution "spectrum" is another package, which overwrites files of this '
        "one; run pip uninstall spectrum, then reinstall segment-spectrum\n"
    )


def test_an_old_install_of_this_package_is_no_reason_to_warn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = install(tmp_path, "spectrum-0.1.0.dist-info", SUMMARY)
    (tmp_path / "spectrum-0.9.0.dist-info").mkdir()  # a remainder without metadata
    assert warning("study", monkeypatch, ours) == ""


def test_this_distribution_is_segment_spectrum() -> None:
    assert metadata("segment-spectrum")["Summary"].startswith(SUMMARY)
    assert f'description = "{SUMMARY}' in (ROOT / "pyproject.toml").read_text()


def test_it_is_imported_from_the_folder_that_holds_a_clone(tmp_path: Path) -> None:
    # There the clone's own folder, which has the package's name, is a namespace package.
    (tmp_path / "spectrum").symlink_to(ROOT, target_is_directory=True)
    code = "from spectrum import Segments; print(Segments('C/8').count(64))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert (done.stdout, done.stderr) == ("8\n", "")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network from the source distribution, as ``make dist`` does."""
    source = tmp_path_factory.mktemp("source")
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "spectrum", source / "spectrum", ignore=caches)

    def build(kind: str, folder: Path) -> Path:
        code = (
            f"from setuptools.build_meta import build_{kind}; print(build_{kind}({str(source)!r}))"
        )
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return source / done.stdout.splitlines()[-1]

    with tarfile.open(build("sdist", source)) as archive:
        archive.extractall(source / "unpacked", filter="data")
    (unpacked,) = (source / "unpacked").iterdir()
    return build("wheel", unpacked)


def test_the_wheel_has_all_files_of_the_package_and_what_an_index_shows(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}
        (about,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        shown = message_from_bytes(archive.read(about))
    folder = wheel.parent / "spectrum"
    assert files == {
        path.relative_to(wheel.parent).as_posix() for path in folder.rglob("*") if path.is_file()
    }
    assert (shown["License-Expression"], shown["Requires-Python"]) == ("MIT", ">=3.11")
    links = [link.partition(", ")[0] for link in shown.get_all("Project-URL", [])]
    assert links == ["Homepage", "Issues", "Changelog"]
    assert shown.get_payload().startswith("# spectrum\n")


def test_the_wheel_runs_where_there_is_no_clone(wheel: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    options = ["--no-index", "--no-deps", "--no-compile", "--target", str(tmp_path)]
    subprocess.run([*pip, *options, str(wheel)], capture_output=True, check=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    def run(*command: str) -> str:
        return subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
        ).stdout

    command = str(tmp_path / "bin" / "spectrum")
    place = run(sys.executable, "-c", "import spectrum; print(spectrum.__file__)")
    assert Path(place.strip()).parent == tmp_path / "spectrum"
    assert run(command, "--version") == f"spectrum {spectrum.__version__}\n"
    assert run(command, "--help").startswith("Usage: spectrum COMMAND")
    rows = run(
        command, "report", "--network=tiny", "--segments=1,C", "--input=3x8x8", "--format=csv"
    )
    assert len(rows.splitlines()) == 3


INSTALLS_OTHER = re.compile(r"\binstall\b[^\n]*?[\s'\"=/]spectrum(?=[\s'\"`\[=<>,;)]|$)")


def test_no_text_says_to_install_the_other_distribution() -> None:
    for path in TEXTS:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not INSTALLS_OTHER.search(line), (path, line)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("pip install spectrum", True),
        ("pip install 'spectrum[ray]'", True),
        ("`uv pip install -U spectrum`", True),
        ("pip install spectrum==0.9", True),
        ("pip install 'segment-spectrum[ray]'", False),
        ("pip uninstall spectrum", False),
        ("pip install -e . and call spectrum.study", False),
    ],
)
def test_what_counts_as_installing_the_other_distribution(line: str, wrong: bool) -> None:
    assert bool(INSTALLS_OTHER.search(line)) == wrong
