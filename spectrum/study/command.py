"""What the commands of studies and searches share: a file and flags become a configuration."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from spectrum.cli import make_app, make_command, name_flag, run_app
from spectrum.errors import FieldError
from spectrum.files import as_path, read_file
from spectrum.machine import started_by_torchrun
from spectrum.study.grid import TABLES, GridConfig, outside_fields

_MAX_BYTES = 1_000_000  # of a file with fields
_Config = TypeVar("_Config", bound=GridConfig)


def make_grid_app(
    model: type[_Config],
    summary: str,
    metavar: str,
    run: Callable[[_Config, list[str]], int],
    print_plan: Callable[[_Config], int],
) -> typer.Typer:
    """The application of a command that is configured by a file, by flags, or by both.

    Args:
        model: the configuration, whose fields are the flags.
        summary: the text of the command's help.
        metavar: the placeholder of the file in the help.
        run: does the work and returns the exit status. It is given the arguments of the command
            too, without secrets, to be shown.
        print_plan: prints what the work would be, for ``--dry-run``.
    """

    def command(flags: dict[str, Any], file: str | None, dry_run: bool) -> int:
        try:
            config = _configure(model, file, flags)
            if dry_run:
                return print_plan(config)
            return run(config, _shown_arguments(config, file, flags))
        except FieldError as error:
            raise name_flag(error, {flag: flag for flag in flags}) from None

    command.__doc__ = summary
    place = typer.Argument(metavar=metavar, help="A file with fields, which flags override.")
    switch = typer.Option(
        "--dry-run", help="Print what would be done, with its costs, and what is done already."
    )
    keyword = inspect.Parameter.KEYWORD_ONLY
    app = make_app()
    app.command()(
        make_command(
            model,
            command,
            inspect.Parameter(
                "file", keyword, default=None, annotation=Annotated[str | None, place]
            ),
            inspect.Parameter(
                "dry_run", keyword, default=False, annotation=Annotated[bool, switch]
            ),
        )
    )
    return app


def run_grid_app(app: typer.Typer) -> int:
    """Run an application of ``make_grid_app`` and return its exit status.

    Of the processes that torchrun started, the first runs it.
    """
    interrupted = "interrupted before training; run the same command to start again"
    if started_by_torchrun():
        from spectrum.executors.distributed import run_on_rank_zero

        return run_on_rank_zero(lambda: run_app(app, interrupted))
    return run_app(app, interrupted)


def _shown_arguments(config: GridConfig, file: str | None, flags: dict[str, Any]) -> list[str]:
    """The arguments of a command, with flags of text as the configuration shows them."""
    fields, arguments = config.shown(), [file] if file else []
    for name, given in flags.items():
        arguments.append(f"--{name.replace('_', '-')}")
        if given is not True:
            arguments.append(fields[name] if isinstance(fields[name], str) else given)
    return arguments


def _configure(model: type[_Config], file: str | None, flags: dict[str, Any]) -> _Config:
    fields = {"name": Path(file).stem, **read_toml(as_path(file))} if file else {}
    try:
        return model.checked(merge_flags(fields, flags))
    except FieldError as error:
        if file and error.field not in flags:
            raise ValueError(f"{file}: {error}") from None
        raise


def read_toml(path: Path) -> dict[str, Any]:
    """Reads the fields of a TOML file.

    Raises:
        ValueError: the file can't be read or isn't TOML. The message names the file and the place.
    """
    try:
        # utf-8-sig leaves out the byte-order mark that some editors write.
        return tomllib.loads(read_file(path, _MAX_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a TOML file: not UTF-8 text") from None
    except RecursionError:
        raise ValueError(f"{path} is not a TOML file: its tables are nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits is another than TOML's own
        raise ValueError(f"{path} is not a TOML file: {error}") from None


def merge_flags(fields: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """Merges command-line flags into the fields of a file; flags win.

    A flag also replaces the same field inside a table.

    Args:
        fields: the fields of a TOML file.
        flags: the flags that were given.
    """
    merged = {**fields, **flags}
    for name in TABLES:
        table = fields.get(name)
        if isinstance(table, dict):
            kept = {
                field: value
                for field, value in table.items()
                if field not in flags or outside_fields().get(field) != name
            }
            merged[name] = {**kept, "name": flags[name].split(",")} if name in flags else kept
    return merged
