"""The arrows between the rooms, and what only one room may import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import spectrum

PACKAGE = Path(spectrum.__file__).parent
# What the modules of a room may import of the package; its own room goes without saying.
MAY_IMPORT = {
    "__init__": {
        *("costs", "data", "layers", "networks", "report", "search", "segments", "study"),
        "training",
    },
    "segments": set(),
    "command": set(),
    "layers": {"segments"},
    "networks": {"segments", "layers"},
    "costs": {"segments", "layers", "networks"},
    "data": set(),
    "training": {"data"},
    "report": set(),
    "report/__main__": {"command", "segments", "networks", "costs", "report"},
    "study": {"segments", "layers", "networks", "costs", "data", "training", "report", "command"},
    "search": {
        *("segments", "layers", "networks", "costs", "data", "training", "report", "command"),
        "study",
    },
    "bench": {
        *("segments", "layers", "networks", "costs", "data", "training", "report", "command"),
        "study",
    },
}
ONLY_IN = {
    "PIL": {"data"},
    "datasets": {"data"},
    "fvcore": {"costs"},
    "llvmlite": {"layers"},
    "numba": {"layers"},
    "optuna": {"search"},
    "ray": {"study"},
    "typer": {"study", "search", "report/__main__", "bench"},
    "pyarrow": {"data"},
    "sklearn": {"data"},
    "jinja2": {"report"},
}


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("")
        # The report's command counts networks, its other modules know DataFrames only.
        yield name.as_posix() if name.as_posix() in MAY_IMPORT else name.parts[0], path


def _imports(path: Path) -> set[str]:
    """Every absolute import in a file, wherever it stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
    return found


def test_every_room_is_known() -> None:
    assert {room for room, _ in _modules()} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room: str) -> None:
    for owner, path in _modules():
        if owner != room:
            continue
        rooms = {name.split(".")[1] for name in _imports(path) if name.startswith("spectrum.")}
        assert rooms - {room} <= MAY_IMPORT[room], path


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_at_home_in_one_room(library: str) -> None:
    users = {
        room
        for room, path in _modules()
        if library in {name.split(".")[0] for name in _imports(path)}
    }
    assert users <= ONLY_IN[library]


@pytest.mark.parametrize(
    "modules",
    [
        "spectrum, spectrum.segments, spectrum.command, spectrum.report",
        "spectrum.report.costs, spectrum.report.formats, spectrum.report.dial",
        "spectrum.report.statistics, spectrum.report.tables, spectrum.report.plots",
        "spectrum.report.evidence, spectrum.report.sentences, spectrum.report.page",
        "spectrum.report.figures, spectrum.report.populations, spectrum.report.published",
    ],
)
def test_what_needs_no_torch_imports_none(modules: str) -> None:
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_public_name_is_there() -> None:
    for name in spectrum.__all__:
        assert getattr(spectrum, name).__doc__, name
    assert set(spectrum.__all__) <= set(dir(spectrum))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = spectrum.nothing
