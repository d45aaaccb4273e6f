"""What the commands share: flags made of fields, a help that needs no torch, errors."""

from __future__ import annotations

import getpass
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spectrum import SearchConfig, StudyConfig
from spectrum.cli import CommandFailed, make_app, make_command, run_app
from spectrum.fields import Config, field_facts
from spectrum.search.__main__ import main as search
from spectrum.study.__main__ import main as study
from tests.test_numbers import MODELS, kinds_of

COMMANDS = {"study": (study, StudyConfig), "search": (search, SearchConfig)}
# Each kind of default: a number, a list, a table, a path, and what None stands for.
DEFAULTS = {
    "seeds": "5",
    "precision": "float32",
    "data": "digits",
    "runs": "outputs/runs",
    "epochs": "the recipe's",
}


# Off or none.
WITHOUT_DEFAULT = {"shuffle", "tune_lr", "minimize", "resplit", "compare_with", "track"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_is_a_flag_with_its_description_and_default(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main, model = COMMANDS[command]
    monkeypatch.setattr(sys, "argv", [f"spectrum.{command}", "--help"])
    assert main() == 0
    shown = " ".join(capsys.readouterr().out.split())
    defaults = {}
    for name, field in model.model_fields.items():
        metavar = field_facts(model, name).metavar or ""
        entry = f"--{name.replace('_', '-')} {metavar}".strip() + f" {field.description} "
        _, found, rest = shown.partition(" ".join(entry.split()))
        assert found, entry
        if rest.startswith(" [default: "):
            defaults[name] = rest.removeprefix(" [default: ").partition("]")[0]
    assert set(model.model_fields) - set(defaults) <= WITHOUT_DEFAULT
    assert DEFAULTS.items() <= defaults.items()


PATHS = [
    (model, name)
    for model in MODELS
    for name, field in model.model_fields.items()
    if Path in kinds_of(field.annotation)
]


@pytest.mark.parametrize(("model", "field"), PATHS)
@pytest.mark.parametrize("start", ["~", f"~{getpass.getuser()}"])
def test_every_path_begins_at_home_if_it_says_so(
    start: str, model: type[Config], field: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = Path(start).expanduser()
    if start == "~":
        monkeypatch.setenv("HOME", str(tmp_path))
        home = tmp_path
    monkeypatch.setattr("os.path.isfile", lambda _: True)
    others = {"match": "none"} if field == "start" else {}
    config = model.checked({field: f"{start}/x.png", **others})
    found = getattr(config, field)
    assert found in (home / "x.png", (home / "x.png",))


def test_help_needs_no_torch() -> None:
    code = "import sys; sys.argv = ['spectrum', '--help']\n" + "".join(
        f"from spectrum.{command} import __main__ as {command}\nassert {command}.main() == 0\n"
        for command in ("study", "search", "report", "bench")
    )
    code += "assert not {'torch', 'optuna', 'pandas', 'matplotlib'} & {*sys.modules}\n"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("width (=0) must be positive"), 2, "error: width (=0) must be positive"),
        (CommandFailed("nothing was found"), 1, "error: nothing was found"),
        (OSError(28, "No space left", "out"), 1, "error: No space left: out"),
        (OSError("nothing but text"), 1, "error: nothing but text"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
    ids=str,
)
def test_an_error_is_one_line_and_a_status(
    error: BaseException,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Nothing(Config):
        pass

    def fail(flags: dict[str, Any]) -> None:
        raise error

    app = make_app()
    app.command()(make_command(Nothing, fail))
    monkeypatch.setattr(sys, "argv", ["spectrum.example"])
    assert run_app(app, "stopped") == status
    assert capsys.readouterr().err == line + "\n"
