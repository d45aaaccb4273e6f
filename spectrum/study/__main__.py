"""The command ``python -m spectrum.study``."""

from __future__ import annotations

import shlex
import sys

import typer

from spectrum.errors import counted
from spectrum.study.command import make_grid_app, run_grid_app
from spectrum.study.config import StudyConfig
from spectrum.terminal import make_console, print_error, show_status

_SUMMARY = """Train a network at several points of the dial and compare their accuracy.

Values separated by commas make a grid. A TOML file can set all of these fields, and those of the
tables [network], [data] and [recipe].
"""


def _run(config: StudyConfig, arguments: list[str]) -> int:
    with show_status(make_console(stderr=True), "loading torch"):
        from spectrum.analysis.folder import RESULTS
        from spectrum.report import render_summary
        from spectrum.study.outputs import FIGURE, PAGE
        from spectrum.study.study import Interrupted, complete_study

    command = shlex.join(["python", "-m", "spectrum.study", *arguments])
    try:
        analysis = complete_study(config, make_console(stderr=True), command)
    except Interrupted as interrupted:
        return print_error(f"{interrupted}; run the same command to continue", 130)
    console, folder = make_console(), config.out / config.name
    console.print(render_summary(analysis.summary))
    console.print()
    for sentence in analysis.sentences:
        console.print(sentence, markup=False)
    console.print(
        f"\nresults: {folder / RESULTS}\nfigure:  {folder / FIGURE}\npage:    {folder / PAGE}",
        soft_wrap=True,
    )
    failed = analysis.rows[analysis.rows["status"] != "done"]
    if failed.empty:
        return 0
    reasons = "; ".join(
        f"{len(rows)} {status} ({rows['error'].iloc[0]})"
        for status, rows in failed.groupby("status", sort=False)
    )
    runs = counted(len(analysis.rows), "run")
    return print_error(f"{len(failed)} of {runs} failed: {reasons}", 1)


def _print_plan(config: StudyConfig) -> int:
    with show_status(make_console(stderr=True), "loading torch"):
        from spectrum.study.dry_run import dry_run

    console = make_console()
    table, notes = dry_run(config)
    console.print(table)
    for note in notes:
        console.print(f"note: {note}", markup=False)
    return 0


def make() -> typer.Typer:
    """The application, which has the one command."""
    return make_grid_app(StudyConfig, _SUMMARY, "STUDY.toml", _run, _print_plan)


def main() -> int:
    """Runs the command and returns the exit status: 0 done, 1 some runs failed, 2 bad usage."""
    return run_grid_app(make())


if __name__ == "__main__":
    sys.exit(main())
