"""The command ``spectrum``: its help, hints at mistyped names, and completion in a shell."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spectrum import __version__
from spectrum.__main__ import main

ROOT = Path(__file__).parents[1]
HOOK = (
    "COMP_WORDS=({words}); COMP_CWORD={last}; "
    '_spectrum_completion spectrum; echo "${{COMPREPLY[@]}}"'
)
COMMANDS = "must be one of study, search, report, bench"


@pytest.fixture
def spectrum(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Call it with arguments; returns the status, standard output and standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["spectrum", *arguments])
        monkeypatch.setattr(sys, "path", [*sys.path])
        return main(), *capsys.readouterr()

    return call


@pytest.fixture
def bash(tmp_path: Path) -> Callable[[str], str]:
    """Run lines of bash by a user without a configuration, who can call spectrum."""
    command = tmp_path / "bin" / "spectrum"
    command.parent.mkdir()
    command.write_text(
        f"#!{sys.executable}\nimport sys\nfrom spectrum.__main__ import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "--norc", "-c", script],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def test_it_says_its_version_and_its_commands(
    spectrum: Callable[..., tuple[int, str, str]],
) -> None:
    assert spectrum("--version") == (0, f"spectrum {__version__}\n", "")
    status, shown, _ = spectrum()
    assert (status, shown) == spectrum("--help")[:2]
    names = [line.split()[0] for line in shown.splitlines() if line.startswith("  ")]
    assert names[:4] == ["study", "search", "report", "bench"]
    assert names[4:] == ["--version", "--install-completion", "--show-completion", "--help"]
    assert spectrum("report", "--help")[1].startswith("Usage: spectrum report ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("stdy", f"command (='stdy') {COMMANDS}; did you mean study?"),
        ("--versoin", f"command (='--versoin') {COMMANDS}; did you mean --version?"),
        ("x", f"command (='x') {COMMANDS}"),
        (
            "study --segmets 1",
            "No such option: --segmets (Possible options: --lengths, --seeds, --segments)",
        ),
        ("bench layr", "No such command 'layr'. Did you mean 'layer'?"),
    ],
)
def test_a_mistyped_name_is_an_error_that_names_the_nearest(
    arguments: str, line: str, spectrum: Callable[..., tuple[int, str, str]]
) -> None:
    assert spectrum(*arguments.split()) == (2, "", f"error: {line}\n")


COMPLETIONS = {
    "spectrum se": "search",
    "spectrum bench ''": "layer network supernet study",
    "spectrum study --segm": "--segments",
    "spectrum search --dry": "--dry-run",
    "spectrum report --pl": "--plot",
    "spectrum bench layer --str": "--stride",
    "spectrum study --out ''": "",  # bash completes names of files then
}


def test_bash_completes_commands_and_flags(bash: Callable[[str], str]) -> None:
    hooks = [HOOK.format(words=words, last=len(words.split()) - 1) for words in COMPLETIONS]
    printed = bash("\n".join(['eval "$(spectrum --show-completion)"', *hooks]))
    assert printed.splitlines() == [*COMPLETIONS.values()]


def test_completion_is_installed_for_the_next_shell(
    bash: Callable[[str], str], tmp_path: Path
) -> None:
    script = tmp_path / ".bash_completions" / "spectrum.sh"
    said = bash("spectrum --install-completion; true")
    assert said.startswith(f"bash completion installed in {script}\n")
    hook = HOOK.format(words="spectrum study --segm", last=2)
    assert bash(f"source ~/.bashrc; {hook}") == "--segments\n"


def test_a_model_of_the_users_is_found_in_the_folder_of_the_call(
    bash: Callable[[str], str], tmp_path: Path
) -> None:
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n\n\ndef my_net():\n    return nn.Conv2d(3, 8, 3)\n"
    )
    printed = bash("spectrum report --network mynet:my_net --segments 1 --input 3x8x8")
    assert "mynet:my_net" in printed
