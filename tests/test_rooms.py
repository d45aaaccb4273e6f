"""The arrows between the rooms, and what only one room may import."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import spectrum

PACKAGE = Path(spectrum.__file__).parent
BASE = {"copying", "errors", "fields", "files", "machine", "segments", "terminal", "user_code"}
NETWORKS = BASE | {"kernels", "layers", "networks"}
RUNS = NETWORKS | {"analysis", "costs", "data", "training", "runs"}
STUDY = RUNS | {"cli", "executors", "report", "study", "tracking"}
# What the modules of a room may import of the package; its own room is always allowed.
MAY_IMPORT = {
    "__init__": set(),
    "copying": {"errors"},
    "errors": set(),
    "fields": {"errors", "files"},
    "segments": {"errors"},
    "files": {"errors"},
    "terminal": {"errors"},
    "__main__": {"cli", "terminal"},
    "machine": {"errors"},
    "user_code": {"errors"},
    "cli": BASE,
    "kernels": BASE,
    "layers": BASE | {"kernels"},
    "networks": BASE | {"layers"},
    "costs": BASE | {"layers", "networks", "analysis"},
    "data": BASE,
    "training": BASE | {"layers", "data"},
    "analysis": {"data", "errors", "fields", "files", "segments"},
    "report": {"errors", "files", "segments", "analysis"},
    "report/__main__": {
        "cli",
        "costs",
        "errors",
        "fields",
        "networks",
        "report",
        "segments",
        "terminal",
    },
    "runs": RUNS - {"kernels"},
    "executors": RUNS - {"kernels"},
    "tracking": {"errors"},
    "study": STUDY - {"kernels"},
    "search": STUDY - {"kernels"},
    "bench": STUDY - {"search"},
}
ONLY_IN = {
    "PIL": {"data"},
    "datasets": {"data"},
    "fvcore": {"costs"},
    "llvmlite": {"kernels"},
    "numba": {"kernels"},
    "optuna": {"search"},
    "ray": {"executors"},
    "submitit": {"executors"},
    "typer": {"cli", "study", "search", "report/__main__", "bench"},
    "pyarrow": {"data"},
    "sklearn": {"data"},
    "jinja2": {"report"},
    "matplotlib": {"report", "bench", "study", "search"},
    "mlflow": {"tracking"},
    "tensorboard": {"tracking"},
    "wandb": {"tracking"},
}


@cache
def _modules() -> list[tuple[str, Path]]:
    """Each module with the room that it belongs to; stubs say what lazy packages import."""
    modules = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("")
        # The report's command counts networks, its other modules know DataFrames only.
        room = name.as_posix() if name.as_posix() in MAY_IMPORT else name.parts[0]
        modules.append((room, path))
    return modules


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _imports(path: Path) -> frozenset[str]:
    """Every absolute import in a file, wherever it stands: modules, and modules with a name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def test_every_room_is_known() -> None:
    assert {room for room, _ in _modules()} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room: str) -> None:
    for owner, path in _modules():
        if owner != room:
            continue
        rooms = {name.split(".")[1] for name in _imports(path) if name.startswith("spectrum.")}
        assert rooms - {room.partition("/")[0], "__version__"} <= MAY_IMPORT[room], path


def test_layers_meet_kernels_in_one_module() -> None:
    users = [
        _name(path)
        for room, path in _modules()
        if room not in ("kernels", "bench")
        and any(name.startswith("spectrum.kernels") for name in _imports(path))
    ]
    assert users == ["spectrum.layers.acceleration"]


def test_no_module_imports_itself_through_others() -> None:
    modules = {_name(path): path for _, path in _modules()}
    homes = {  # the module that a lazy package takes a name from
        f"{package}.{alias.name}": f"{package}.{node.module}"
        for package, path in modules.items()
        if (stub := path.with_suffix(".pyi")).exists()
        for node in ast.walk(ast.parse(stub.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def module_of(name: str) -> str | None:
        while name in homes and name not in modules:
            name = f"{homes[name]}.{name.rpartition('.')[2]}"
            name = name if name in homes else name.rpartition(".")[0]
        return name if name in modules else _parent(name)

    def _parent(name: str) -> str | None:
        parent = name.rpartition(".")[0]
        return parent if parent in modules and parent != "spectrum" else None

    graph = {
        name: {
            module
            for imported in _imports(path)
            if imported.startswith("spectrum.") and (module := module_of(imported)) is not None
        }
        - {name}
        for name, path in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_is_at_home_in_one_room(library: str) -> None:
    users = {
        room
        for room, path in _modules()
        if library in {name.split(".")[0] for name in _imports(path)}
    }
    assert users <= ONLY_IN[library]


CONFIGURATIONS = (
    "from spectrum import DataConfig, NetworkConfig, Recipe, SearchConfig, StudyConfig, Segments; "
    "from spectrum.runs import RunConfig; StudyConfig(); SearchConfig(); "
    "RunConfig(network=NetworkConfig(), data=DataConfig(), fingerprint='', recipe=Recipe(), seed=0)"
)
READERS = "torch pandas numpy scipy sklearn PIL pyarrow datasets matplotlib optuna fvcore numba ray"
PLAIN = "torch fvcore numba optuna ray"
# By statement, in the order in which one interpreter executes them: what isn't imported then.
ABSENT = {
    "import spectrum, spectrum.segments, spectrum.files, spectrum.cli": READERS,
    CONFIGURATIONS: READERS,
    "from spectrum.tracking import *; from spectrum.tracking import listeners": READERS,
    "from spectrum.analysis import *": f"{PLAIN} matplotlib",
    "from spectrum.report import *; from spectrum.report import page": f"{PLAIN} matplotlib.pyplot",
}


def test_what_is_needed_alone_is_imported() -> None:
    script = "import sys\n" + "".join(
        f"{statement}\nprint(*sorted({{*{absent.split()}}} & {{*sys.modules}}))\n"
        for statement, absent in ABSENT.items()
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n" * len(ABSENT), "")


def test_every_public_name_is_there() -> None:
    for name in spectrum.__all__:
        assert getattr(spectrum, name).__doc__, name
    assert set(spectrum.__all__) <= set(dir(spectrum))
    with pytest.raises(AttributeError, match="nothing"):
        _ = spectrum.nothing
