"""Commands end their work whatever their streams are, and foreign text can't control a terminal."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from rich.table import Table

from spectrum.errors import DamagedFile, FieldError, printable
from spectrum.terminal import make_console, print_error, print_text, safe_streams, shown_progress

HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\n\u202eb\x9b31m[red]c[/] :smile: \ufeff"


def controls(text: str) -> set[str]:
    return {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


@given(st.text(st.characters(), max_size=40))
def test_text_from_elsewhere_is_one_line_without_controls(text: str) -> None:
    shown = printable(text)
    assert not {char for char in controls(shown) if unicodedata.category(char) != "Cf"}
    assert printable(shown) == shown
    assert len(shown.splitlines()) <= 1
    for error in (FieldError(text, text, text), DamagedFile(Path("x"), text)):
        assert len(str(error).splitlines()) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_all_that_is_printed_is_safe(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", files[0])
    monkeypatch.setattr(sys, "stderr", files[1])
    table = Table(HOSTILE)
    table.add_row(HOSTILE)
    with safe_streams():
        for stderr in (False, True):
            console = make_console(stderr=stderr)
            console.print(HOSTILE)
            console.print(table)
        print_error(HOSTILE, 1)
        logging.getLogger("spectrum.test").warning("%s", HOSTILE)
        print_text(f"{HOSTILE}\n")
        sys.stderr.write(warnings.formatwarning(HOSTILE, UserWarning, "x.py", 1))
    for file in files:
        file.flush()
        text = file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
        assert controls(text) <= {"\n"}
        assert "[red]c[/]" in text
        assert ":smile:" in text


def test_a_terminal_keeps_its_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    console = make_console()
    console.file = io.StringIO()
    console.print("a\x1b[2J", style="bold")
    assert console.file.getvalue().count("\x1b") == 2  # bold, and its end
    assert "\\x1b[2J" in console.file.getvalue()


def test_progress_is_a_line_every_ten_seconds_and_a_bar_on_a_terminal() -> None:
    times = iter([0, 4, 8, 12, 16, 30])
    console = Console(file=io.StringIO(), width=80)
    assert [*shown_progress("abcde", "planning", console, times.__next__)] == [*"abcde"]
    assert console.file.getvalue().splitlines() == ["planning: 3 of 5", "planning: 5 of 5"]
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80)
    assert [*shown_progress("abc", "planning", terminal)] == [*"abc"]
    assert "100%" in terminal.file.getvalue()
    assert [*shown_progress("abc", "planning", None)] == [*"abc"]


REPORT = "report --network=tiny --input=3x8x8 --segments=1,C"
OTHER_PLACES = {
    ">&-": 0,
    "2>&-": 0,
    "<&- >&- 2>&-": 0,
    "2>/dev/full": 0,
    ">/dev/full": 1,
    "| head -c 1": 0,
    "| true": 0,
}
CASES = [("study --help", redirection) for redirection in OTHER_PLACES]
CASES += [("--help", redirection) for redirection in (">&-", ">/dev/full", "| true")]
CASES += [("bench layer --help", ">/dev/full")]
CASES += [(REPORT, redirection) for redirection in ("<&- >&- 2>&-", ">/dev/full", "| true")]


@pytest.mark.parametrize(("arguments", "redirection"), CASES)
def test_a_command_ends_whatever_its_streams_are(
    arguments: str, redirection: str, tmp_path: Path
) -> None:
    status = tmp_path / "status"
    script = f'"$@" {redirection}; echo "${{PIPESTATUS[0]}}" > {status}'
    command = [sys.executable, "-m", "spectrum", *arguments.split()]
    found = subprocess.run(["bash", "-c", script, "-", *command], capture_output=True, check=True)
    assert status.read_text().split() == [str(OTHER_PLACES[redirection])]
    assert b"Traceback" not in found.stderr
    assert b"Exception" not in found.stderr


def test_a_stream_has_all_that_the_one_beneath_has(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setattr(sys, "stderr", None)
    with safe_streams():
        sys.stdout.buffer.write(b"a")
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        assert not hasattr(sys.stderr, "buffer")
        print("b", file=sys.stderr)
    assert file.buffer.getvalue() == b"a"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_hostile_names_reach_no_stream_as_they_are(
    environment: dict[str, str], tmp_path: Path
) -> None:
    code = f"""
import logging, warnings
from torch import nn
def make(num_classes, in_channels):
    warnings.warn({HOSTILE!r})
    logging.getLogger("other").error("%s", {HOSTILE!r})
    return nn.Sequential(nn.Conv2d(in_channels, 8, 3), nn.Flatten(), nn.Linear(288, num_classes))
"""
    (tmp_path / "hostile.py").write_text(code, "utf-8")
    rng = np.random.default_rng(0)
    for name in ("cat\x1b[2J", "猫[red]\u202e"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
        (tmp_path / "data" / name / "notes\x1b]0;x\x07.txt").touch()
    command = [sys.executable, "-m", "spectrum", "study", "--data", f"folder:{tmp_path / 'data'}"]
    found = subprocess.run(
        [*command, "--dry-run", "--match=none", "--network=hostile:make"],
        capture_output=True,
        env={**os.environ, **environment},
        cwd=tmp_path,
        check=False,
    )
    shown = (found.stdout + found.stderr).decode("ascii")
    assert controls(shown) <= {"\n"}
    assert found.returncode == 0, shown
    assert shown.count("\\x1b]0;title") >= 2, shown  # the warning and the log
