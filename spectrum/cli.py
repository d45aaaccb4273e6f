"""What the commands share: flags made of a configuration's fields, and errors.

A command configures runs; it imports torch only when their work starts.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from spectrum.errors import FieldError
from spectrum.fields import Facts, field_facts
from spectrum.terminal import print_error, run_safely

if TYPE_CHECKING:
    from pydantic import BaseModel

_SUMMARY = "How many channel-space segments"
"""The beginning of this distribution's summary, as pyproject.toml has it."""


class CommandFailed(Exception):
    """The work of a command has failed, for the reason that the message gives in one line."""


def make_app() -> typer.Typer:
    """An application of typer without colours, frames and the installation of completion."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def make_command(
    model: type[BaseModel],
    run: Callable[..., int | None],
    *further: inspect.Parameter,
) -> Callable[..., int | None]:
    """A function for typer, with a flag for every field of a model.

    Args:
        model: the configuration. The help of a flag is the field's description and default.
        run: called with the flags that were given, as text by field, and with the values of
            ``further``. Its docstring is the help of the command.
        further: other parameters of the command, which the help lists first.
    """
    flags = list(_flags(model))

    def command(**values: Any) -> int | None:
        given = {flag.name: values.pop(flag.name) for flag in flags}
        try:
            return run(
                {name: value for name, value in given.items() if value is not None}, **values
            )
        except KeyboardInterrupt:  # typer would end without a word
            raise typer.Abort from None

    parameters = [*further, *flags]
    command.__doc__ = run.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _flags(model: type[BaseModel]) -> Iterator[inspect.Parameter]:
    for name, field in model.model_fields.items():
        facts = field_facts(model, name)
        default = _describe_default(field.default, facts)
        text = " ".join(str(field.description).split())
        option = typer.Option(
            f"--{name.replace('_', '-')}",
            metavar=facts.metavar,
            help=f"{text}  [default: {default}]" if default else text,
        )
        kind = bool if facts.is_switch else str
        yield inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, option],
        )


def _describe_default(value: object, facts: Facts) -> str:
    if value is None or facts.is_switch:
        return facts.unset
    if isinstance(value, Mapping):
        value = value["name"]
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def run_app(app: typer.Typer, interrupted: str) -> int:
    """Run an application on this process's command line.

    Args:
        app: its commands return an exit status, or None for 0.
        interrupted: what to print if the user interrupts it.

    Returns:
        The exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted.
    """
    return run_safely(lambda: _run(app, interrupted))


def _run(app: typer.Typer, interrupted: str) -> int:
    warn_of_other_spectrum()
    try:
        # Under the command "spectrum" its name is that and the first argument.
        name = sys.argv[0] if sys.argv[0].startswith("spectrum ") else None
        return int(app(standalone_mode=False, prog_name=name) or 0)
    except typer.Abort:
        return print_error(interrupted, 130)
    except TyperException as error:
        return print_error(f"error: {error.format_message()}", 2)
    except ValueError as error:
        return print_error(f"error: {error}", 2)
    except CommandFailed as error:
        return print_error(f"error: {error}", 1)
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        return print_error(f"error: {error.strerror or error}{place}", 1)


def complete(apps: Mapping[str, typer.Typer]) -> int:
    """Complete a command line of ``spectrum``, or install or show what makes the shell ask.

    The flags ``--install-completion`` and ``--show-completion`` are typer's. So are the environment
    variables in which a shell hands over a command line that isn't finished.

    Args:
        apps: the application of each command.

    Returns:
        The exit status: 0 done, 1 for a shell that typer doesn't know.
    """
    root = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    root.callback()(lambda: None)
    group = typer.main.get_command(root)
    assert isinstance(group, typer.core.TyperGroup)
    for name, app in apps.items():
        group.add_command(typer.main.get_command(app), name)
    try:
        return int(group(standalone_mode=False, prog_name="spectrum") or 0)
    except SystemExit as end:
        return int(end.code or 0)


def name_flag(error: FieldError, flags: Mapping[str, str]) -> FieldError:
    """The error with the flag in place of the field, if the field was given as a flag.

    Args:
        error: an error about a field.
        flags: for each field that was given as a flag, that flag without its dashes.
    """
    flag = flags.get(error.field)
    return error if flag is None else error.renamed(f"--{flag.replace('_', '-')}")


def warn_of_other_spectrum() -> None:
    """Print a warning if the unrelated distribution ``spectrum`` is installed.

    This package is the distribution ``segment-spectrum``. Both install into the folder
    ``spectrum``, so each overwrites files of the other.
    """
    from importlib.metadata import distributions

    for other in distributions(name="spectrum"):
        metadata = other.read_text("METADATA") or other.read_text("PKG-INFO") or ""
        # Early editable installs of this package had that name too.
        if metadata and _SUMMARY not in metadata:
            print(
                'warning: the distribution "spectrum" is another package, which overwrites files '
                "of this one; run pip uninstall spectrum, then reinstall segment-spectrum",
                file=sys.stderr,
            )
            return
