"""The command ``python -m spectrum.report``, which counts what networks cost along the dial."""

from __future__ import annotations

import os
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer.exceptions import TyperException

from spectrum.cli import make_console, print_error, warn_of_other_spectrum
from spectrum.segments import parse_points

if TYPE_CHECKING:
    import pandas as pd

    from spectrum.costs import CostGrid, Matching
    from spectrum.networks import NetworkConfig
    from spectrum.report.costs import Grouping
    from spectrum.report.formats import Format

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

PLOTS = ("pdf", "png", "svg")
# The flag that sets a value, by the name of the value in error messages.
_FLAGS = {
    **{name: name for name in ("segments", "network", "match", "input", "order", "classes")},
    **{name: name for name in ("by", "format", "plot")},
    "name": "network",
    "num_classes": "classes",
    "input_shape": "input",
}


@app.command()
def report(
    segments: Annotated[
        str,
        typer.Option(
            metavar="POINTS", help="Points of the dial, as in 1,C/8,entry=C+middle=4+exit=C."
        ),
    ] = "1,2,3,4,8,16,32,C/8,C/2,C",
    network: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="paper, small, tiny, vgg16, resnet50, inception_v3 and others, or your own "
            "model as package.module:callable.",
        ),
    ] = "paper",
    order: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="spatial_first, pointwise_first or spatial_only.  [default: the network's own]",
        ),
    ] = None,
    match: Annotated[
        str,
        typer.Option(
            metavar="COST",
            help="The cost that widths make equal at all points: params, macs or none.",
        ),
    ] = "none",
    input_: Annotated[
        str,
        typer.Option("--input", metavar="CxHxW", help="Channels, height and width."),
    ] = "3x299x299",
    classes: Annotated[str, typer.Option(metavar="N", help="Number of classes.")] = "1000",
    by: Annotated[
        str, typer.Option(metavar="WHAT", help="One line per network, flow or layer.")
    ] = "network",
    format_: Annotated[
        str, typer.Option("--format", metavar="NAME", help="table, csv, markdown or html.")
    ] = "table",
    plot: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Figure of the costs: .png, .pdf or .svg."),
    ] = None,
) -> int:
    """Count what networks cost along the dial: parameters, MACs and activations.

    Names separated by commas make a grid. Your own model is counted as it is first, then converted
    to each point of the dial.
    """
    try:
        shape = _parse_shape(input_)
        points = parse_points(segments)
        if match == "latency":
            raise ValueError(
                "match (='latency') must be one of params, macs, none, which are counted; "
                "spectrum.study and spectrum.search measure latencies"
            )
        matching = cast("Matching", _check_choice("match", match, ("params", "macs", "none")))
        grouping = cast("Grouping", _check_choice("by", by, ("layer", "flow", "network")))
        text_format = cast(
            "Format", _check_choice("format", format_, ("table", "csv", "markdown", "html"))
        )
        if plot is not None:
            _check_plot_path(plot)
        names = [name.strip() for name in network.split(",")]
        orders = [name.strip() for name in order.split(",")] if order is not None else [None]
        with redirect_stdout(sys.stderr):  # a user's model may print
            grid = _count_costs(names, orders, points, classes, shape, matching)
        if plot is not None:
            _write_plot(grid.rows, plot)
    except ValueError as error:
        return print_error(f"error: {_as_flag(str(error))}", 2)
    for note in grid.notes:
        print_error(f"note: {note}", 0)
    return _print_costs(grid.rows, grouping, text_format)


def _parse_shape(text: str) -> tuple[int, int, int]:
    if not re.fullmatch(r"[1-9]\d{0,5}x[1-9]\d{0,5}x[1-9]\d{0,5}", text, re.ASCII):
        raise ValueError(f"input (={text!r}) must be CHANNELSxHEIGHTxWIDTH, as in 3x299x299")
    channels, height, width = map(int, text.split("x"))
    return channels, height, width


def _check_choice(flag: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{flag} (={value!r}) must be one of {', '.join(allowed)}")
    return value


def _check_plot_path(plot: str) -> None:
    """Raises a ValueError if the plot can't be written, before anything is counted."""
    path = Path(plot)
    if path.suffix.lstrip(".") not in PLOTS:
        raise ValueError(f"plot (={plot!r}) must end in {', '.join(f'.{p}' for p in PLOTS)}")
    try:
        new = not path.exists()
        path.open("ab").close()
        if new:
            path.unlink()
    except OSError as error:
        raise _cannot_write(plot, error) from error


def _cannot_write(plot: str, error: OSError) -> ValueError:
    return ValueError(f"plot (={plot!r}) can't be written: {error.strerror}")


def _count_costs(
    names: list[str],
    orders: list[str] | list[None],
    points: list[str],
    classes: str,
    shape: tuple[int, int, int],
    match: Matching,
) -> CostGrid:
    """Counts the costs of every point, and shows the progress on a terminal."""
    from rich.console import Console

    with Console(stderr=True).status("counting") as status:
        from spectrum.costs import cost_grid

        # dict.fromkeys drops points that are given twice.
        configs = list(
            dict.fromkeys(
                _make_config(name, order, point, classes, shape[0])
                for name in names
                for order in orders
                for point in points
            )
        )

        def show_progress(done: int) -> None:
            status.update(f"counted {done} of {len(configs)} points")

        return cost_grid(configs, shape, match=match, on_point=show_progress)


def _make_config(
    name: str, order: str | None, segments: str, classes: str, channels: int
) -> NetworkConfig:
    from pydantic import ValidationError

    from spectrum.networks import NetworkConfig

    try:
        return NetworkConfig.model_validate(
            {
                "name": name,
                "order": order,
                "segments": segments,
                "num_classes": classes,
                "in_channels": channels,
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise ValueError(message) from None  # the message names the field itself
        message = message.replace("Input should be", "must be", 1)
        raise ValueError(f"{first['loc'][0]} (={first['input']!r}) {message}") from None


def _write_plot(rows: pd.DataFrame, plot: str) -> None:
    from spectrum.report.cost_figure import plot_costs

    try:
        plot_costs(rows).savefig(plot)
    except OSError as error:
        raise _cannot_write(plot, error) from error
    print_error(f"figure: {plot}", 0)


def _print_costs(rows: pd.DataFrame, by: Grouping, text_format: Format) -> int:
    from spectrum.report.costs import group_costs
    from spectrum.report.formats import as_csv, as_html, as_markdown, make_cost_table, print_table

    costs = group_costs(rows, by)
    if text_format == "csv":
        return _write(as_csv(costs))
    table = make_cost_table(costs, by)
    if text_format == "markdown":
        return _write(as_markdown(table))
    if text_format == "html":
        return _write(as_html(table))
    console = make_console()
    with console.capture() as capture:
        print_table(table, console)
    return _write(capture.get())


def _write(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as head, has stopped reading. Python would flush the rest at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _as_flag(message: str) -> str:
    """The message of an error, with the flag in place of the name of the value."""
    field, space, rest = message.partition(" ")
    if field == "input_shape":  # shown in the form in which the user typed it
        rest = re.sub(r"\A\(=\((\d+), (\d+), (\d+)\)\)", r"(=\1x\2x\3)", rest)
    return f"--{_FLAGS[field]}{space}{rest}" if field in _FLAGS else message


def main() -> int:
    """Runs the command and returns its exit status: 0 done, 1 output not written, 2 bad usage."""
    warn_of_other_spectrum()
    try:
        return int(app(standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        return print_error("interrupted", 130)
    except TyperException as error:
        return print_error(f"error: {error.format_message()}", 2)
    except OSError as error:
        return print_error(f"error: can't write: {error.strerror}", 1)


if __name__ == "__main__":
    sys.exit(main())
