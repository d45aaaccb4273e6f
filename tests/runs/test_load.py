"""A run of a user's own network is loaded on request only, before any of its code has run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spectrum import StudyConfig, load_run, run_study
from spectrum.errors import FieldError

PARTS = """
from pathlib import Path
from torch import nn

Path(__file__).with_suffix(".imported").touch()

class Small(nn.Sequential):
    pass
"""
MODEL = """
from pathlib import Path
from torch import nn
from mine.parts import Small

Path(__file__).with_suffix(".imported").touch()

def net(num_classes=10):
    return Small(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes))
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the user's own, two of whose files define a network."""
    folder = tmp_path / "code" / "mine"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("from pathlib import Path\nPath(__file__).touch()\n")
    (folder / "parts.py").write_text(PARTS)
    (folder / "model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(folder.parent)
    return folder


@pytest.fixture
def run(package: Path, small_study: Callable[..., StudyConfig]) -> Path:
    """The folder of a run of that network, whose code is then forgotten."""
    config = small_study(network={"name": "mine.model:net"}, segments="C", epochs=1)
    (row,) = run_study(config).to_dict("records")
    assert row["status"] == "done"
    forget(package)
    return config.runs / row["run_id"]


def forget(package: Path) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]
    for marker in package.glob("*.imported"):
        marker.unlink()


def check_nothing_ran(package: Path) -> None:
    assert not list(package.glob("*.imported"))
    assert not any(name.partition(".")[0] == "mine" for name in sys.modules)


def test_code_runs_on_request_only(run: Path, package: Path) -> None:
    with pytest.raises(FieldError, match=r"the network mine\.model:net.*trust_code=True"):
        load_run(run)
    check_nothing_ran(package)
    load_run(run, trust_code=True)
    assert len(list(package.glob("*.imported"))) == 2


@pytest.mark.parametrize("name", ["model.py", "parts.py"])
@pytest.mark.parametrize("change", ["edited", "removed"])
def test_changed_code_is_refused_before_it_runs(
    name: str, change: str, run: Path, package: Path
) -> None:
    if change == "edited":
        (package / name).write_text((package / name).read_text() + "# edited\n")
    else:
        (package / name).unlink()
    with pytest.raises(FieldError, match=r"the network mine\.model:net, whose code has changed"):
        load_run(run, trust_code=True)
    check_nothing_ran(package)
    if change == "edited":
        load_run(run, trust_code="changed")


def test_code_of_runs_of_earlier_versions_is_checked_after_its_import(
    run: Path, package: Path
) -> None:
    values = json.loads((run / "result.json").read_bytes())
    for name in ("files", "run_id", "code_modules", "sha256"):
        del values[name]
    (run / "result.json").write_text(json.dumps(values))
    (package / "parts.py").write_text(PARTS + "# edited\n")
    with pytest.raises(FieldError, match="whose code has changed"):
        load_run(run, trust_code=True)
