"""The command ``python -m spectrum.report``: parse, count, print."""

from __future__ import annotations

import os
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer.exceptions import TyperException

from spectrum.command import make_console, say
from spectrum.segments import parse_points

if TYPE_CHECKING:
    import pandas as pd

    from spectrum.costs import CostGrid, Matching
    from spectrum.networks import NetworkConfig
    from spectrum.report.costs import Grouping
    from spectrum.report.formats import Format

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

PLOTS = ("pdf", "png", "svg")
# The flags that values come from, by the name that an error begins with.
_FLAGS = {
    **{name: name for name in ("segments", "network", "match", "input", "order", "classes")},
    **{name: name for name in ("by", "format", "plot")},
    **{"name": "network", "num_classes": "classes", "input_shape": "input"},
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
            help="paper, small, tiny, vgg16, resnet50, inception_v3 and others, or a model of "
            "yours as package.module:callable.",
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
            help="What all points cost alike, by their widths: params, macs or none.",
        ),
    ] = "none",
    input_: Annotated[
        str, typer.Option("--input", metavar="CxHxW", help="Channels, height and width.")
    ] = "3x299x299",
    classes: Annotated[str, typer.Option(metavar="N", help="Outputs of the network.")] = "1000",
    by: Annotated[
        str, typer.Option(metavar="WHAT", help="A line a network, flow or layer.")
    ] = "network",
    format_: Annotated[
        str, typer.Option("--format", metavar="NAME", help="table, csv, markdown or html.")
    ] = "table",
    plot: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Draw the costs along the dial: .png, .pdf or .svg."),
    ] = None,
) -> int:
    """Count what networks cost along the dial: parameters, MACs, activations.

    Names separated by commas make a grid. A model of yours comes first as it is, then on the dial.
    """
    try:
        shape = _shape(input_)
        points = parse_points(segments)
        if match == "latency":
            raise ValueError(
                "match (='latency') must be one of params, macs, none, which are counted; "
                "spectrum.study and spectrum.search measure latencies"
            )
        matching = cast("Matching", _choice("match", match, ("params", "macs", "none")))
        grouping = cast("Grouping", _choice("by", by, ("layer", "flow", "network")))
        written = cast("Format", _choice("format", format_, ("table", "csv", "markdown", "html")))
        if plot is not None:
            _check_plot(plot)
        names = [name.strip() for name in network.split(",")]
        orders = [name.strip() for name in order.split(",")] if order is not None else [None]
        with redirect_stdout(sys.stderr):  # for what a user's model prints
            grid = _count(names, orders, points, classes, shape, matching)
        if plot is not None:
            _draw(grid.rows, plot)
    except ValueError as error:
        return say(f"error: {_as_flag(str(error))}", 2)
    for note in grid.notes:
        say(f"note: {note}", 0)
    return _print(grid.rows, grouping, written)


def _shape(text: str) -> tuple[int, int, int]:
    if not re.fullmatch(r"[1-9]\d{0,5}x[1-9]\d{0,5}x[1-9]\d{0,5}", text, re.ASCII):
        raise ValueError(f"input (={text!r}) must be CHANNELSxHEIGHTxWIDTH, as in 3x299x299")
    channels, height, width = map(int, text.split("x"))
    return channels, height, width


def _choice(flag: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{flag} (={value!r}) must be one of {', '.join(allowed)}")
    return value


def _check_plot(plot: str) -> None:
    """Refuse a plot that can't be written before anything is counted for it."""
    path = Path(plot)
    if path.suffix.lstrip(".") not in PLOTS:
        raise ValueError(f"plot (={plot!r}) must end in {', '.join(f'.{p}' for p in PLOTS)}")
    try:
        new = not path.exists()
        path.open("ab").close()
        if new:
            path.unlink()
    except OSError as error:
        raise _unwritable(plot, error) from error


def _unwritable(plot: str, error: OSError) -> ValueError:
    return ValueError(f"plot (={plot!r}) can't be written: {error.strerror}")


def _count(
    names: list[str],
    orders: list[str] | list[None],
    points: list[str],
    classes: str,
    shape: tuple[int, int, int],
    match: Matching,
) -> CostGrid:
    """Count every point, telling on a terminal how far it is."""
    from rich.console import Console

    with Console(stderr=True).status("counting") as status:
        from spectrum.costs import cost_grid

        # A point given twice is counted once.
        configs = list(
            dict.fromkeys(
                _configure(name, order, point, classes, shape[0])
                for name in names
                for order in orders
                for point in points
            )
        )

        def tell(done: int) -> None:
            status.update(f"counted {done} of {len(configs)} points")

        return cost_grid(configs, shape, match=match, on_point=tell)


def _configure(
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
            raise ValueError(message) from None  # it names the field itself
        message = message.replace("Input should be", "must be", 1)
        raise ValueError(f"{first['loc'][0]} (={first['input']!r}) {message}") from None


def _draw(rows: pd.DataFrame, plot: str) -> None:
    from spectrum.report.dial import figure_of_costs

    try:
        figure_of_costs(rows).savefig(plot)
    except OSError as error:
        raise _unwritable(plot, error) from error
    say(f"figure: {plot}", 0)


def _print(rows: pd.DataFrame, by: Grouping, written: Format) -> int:
    from spectrum.report.costs import group_costs
    from spectrum.report.formats import as_csv, as_html, as_markdown, make_sheet, print_table

    costs = group_costs(rows, by)
    if written == "csv":
        return _write(as_csv(costs))
    sheet = make_sheet(costs, by)
    if written == "markdown":
        return _write(as_markdown(sheet))
    if written == "html":
        return _write(as_html(sheet))
    console = make_console()
    with console.capture() as capture:
        print_table(sheet, console)
    return _write(capture.get())


def _write(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, head for one, has what it wanted; Python would flush the rest at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _as_flag(message: str) -> str:
    """The message of an error with the flag that its value came from."""
    field, space, rest = message.partition(" ")
    if field == "input_shape":  # as it was typed
        rest = re.sub(r"\A\(=\((\d+), (\d+), (\d+)\)\)", r"(=\1x\2x\3)", rest)
    return f"--{_FLAGS[field]}{space}{rest}" if field in _FLAGS else message


def main() -> int:
    """Run the command; the exit status: 0 done, 1 no room for the output, 2 bad usage."""
    try:
        return int(app(standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        return say("interrupted", 130)
    except TyperException as error:
        return say(f"error: {error.format_message()}", 2)
    except OSError as error:
        return say(f"error: can't write: {error.strerror}", 1)


if __name__ == "__main__":
    sys.exit(main())
