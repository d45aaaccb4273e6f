"""All formats show the same numbers, exactly or rounded with a unit."""

from __future__ import annotations

import html.parser
import io
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from spectrum.report.costs import group_costs
from spectrum.report.formats import as_csv, as_html, as_markdown, make_cost_table, print_table


def rows(*segments: str, scale: int = 1, **changes: Any) -> pd.DataFrame:
    made = [
        {
            "network": "made|up",
            "order": "own",
            "segments": point,
            "width": 0.25,
            "miss": None,
            "classes": 1000,
            "input": "3x299x299",
            "flow": flow,
            "layer": layer,
            "kind": "SegmentedConv",
            "output_shape": "16x8x8",
            "segment_count": 4,
            "params": 1234567 * scale,
            "macs": 71419884448 * scale,
            "flops": 142839768896 * scale,
            "activations": 35825968,
            "weight_bytes": 4938268,
            "spatial_params": 1000000,
            "pointwise_params": 234567,
            "spatial_macs": 9,
            "pointwise_macs": 8,
            "segmented_macs": 1,
            "regular_macs": 3 if flow == "entry" else 0,
            "separable_macs": 2,
            **changes,
        }
        for point in segments
        for flow, layer in (("entry", "entry.0"), ("exit", "exit.0"))
    ]
    return pd.DataFrame(made).astype({"segment_count": "Int64", "miss": float})


def table(costs: pd.DataFrame, by: Any, width: int) -> list[str]:
    file = io.StringIO()
    print_table(make_cost_table(costs, by), Console(file=file, width=width))
    return file.getvalue().splitlines()


def test_csv_holds_every_column_exactly() -> None:
    costs = group_costs(rows("1", "C/8", miss=0.125), "flow")
    read = pd.read_csv(io.StringIO(as_csv(costs)))
    pd.testing.assert_frame_equal(read, costs, check_dtype=False)
    assert "71419884448" in as_csv(costs)
    assert as_csv(costs).splitlines()[2].endswith(",0,2,,")  # no regular convolution, no ratio


def test_values_that_all_rows_share_are_in_the_caption() -> None:
    cost_table = make_cost_table(group_costs(rows("1", "C"), "flow"), "flow")
    assert cost_table.caption == "made|up, own order, width 0.25, 1,000 classes, input 3x299x299"
    assert list(cost_table.headings)[:3] == ["segments", "flow", "params"]
    different = pd.concat([rows("1"), rows("1", width=1.5, miss=-0.02)], ignore_index=True)
    cost_table = make_cost_table(group_costs(different, "network"), "network")
    assert list(cost_table.headings)[:4] == ["segments", "width", "miss", "params"]
    assert "width" not in cost_table.caption
    layers = make_cost_table(group_costs(rows("1"), "layer"), "layer")
    assert "segments 1," in layers.caption
    assert list(layers.headings)[:4] == ["layer", "kind", "output_shape", "segment_count"]
    assert (
        "classes"
        not in make_cost_table(group_costs(rows("1", classes=None), "flow"), "flow").caption
    )


def test_markdown_has_exact_integers_in_columns() -> None:
    text = as_markdown(make_cost_table(group_costs(rows("1", network="a|b"), "flow"), "flow"))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert text.startswith("a|b, own order, segments 1, ")
    assert len(lines) == 4
    assert {line.count(" | ") for line in lines} == {9}
    assert lines[1] == "| :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
    assert "| entry | 1,234,567 | 71,419,884,448 | 142,839,768,896 | 35,825,968 | " in lines[2]
    assert lines[2].endswith("| 0.3333 | 0.6667 |")
    assert lines[3].endswith("| - | - |")


def test_markdown_escapes_the_end_of_a_cell() -> None:
    both = pd.concat([rows("1"), rows("1", network="other")], ignore_index=True)
    text = as_markdown(make_cost_table(group_costs(both, "network"), "network"))
    assert r"| made\|up | 1 |" in text


class Reader(html.parser.HTMLParser):
    """The text of every cell, and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells and self.tags[-1] in ("td", "th"):
            self.cells[-1] += data.strip("\n")


def test_html_is_one_page_with_escaped_names() -> None:
    wicked = "<script>&"
    both = pd.concat([rows("1", network=wicked), rows("C")], ignore_index=True)
    text = as_html(make_cost_table(group_costs(both, "network"), "network"))
    reader = Reader()
    reader.feed(text)
    assert not {"script", "link", "img"} & set(reader.tags)
    assert "http" not in text
    assert reader.tags.count("tr") == 3
    assert wicked in reader.cells
    assert reader.cells.count("142,839,768,896") == reader.cells.count("285,679,537,792") == 2
    alone = as_html(make_cost_table(group_costs(rows("1", network=wicked), "network"), "network"))
    assert alone.count("&lt;script&gt;&amp;, own order") == 2  # the caption and the title


def test_the_table_shortens_only_counts_that_do_not_fit() -> None:
    costs = group_costs(rows("1", "C"), "network")
    shown = {width: "\n".join(table(costs, "network", width)) for width in (150, 105, 80, 40)}
    exact = ["2,469,134", "142,839,768,896", "285,679,537,792", "71,651,936", "9,876,536"]
    exact += ["2,000,000", "469,134"]
    assert all(number in shown[150] for number in exact)
    assert "286G" in shown[105]
    assert "142,839,768,896" in shown[105]
    assert "2,469,134" in shown[105]
    for width in (80, 40):  # too narrow for any of them to be exact
        assert not any(number in shown[width] for number in exact)
        assert all(n in shown[width] for n in ("2.47M", "143G", "286G", "71.7M", "9.88M", "469k"))
        assert "0.6667" in shown[width]
        assert "…" not in shown[width]
    assert all(len(line) <= 80 for line in shown[80].splitlines())


def test_the_table_explains_its_numbers() -> None:
    lines = table(group_costs(rows("1"), "network"), "network", 200)
    assert lines[0].startswith("made|up, own order, ")
    assert "FLOPs are 2 x MACs" in " ".join(lines)


def test_names_are_not_read_as_markup() -> None:
    both = pd.concat([rows("[red]1[/red]"), rows("C")], ignore_index=True)
    assert any("[red]1[/red]" in line for line in table(group_costs(both, "flow"), "flow", 200))


@pytest.mark.parametrize("by", ["layer", "flow", "network"])
def test_every_heading_has_a_cell_in_each_row(by: Any) -> None:
    cost_table = make_cost_table(group_costs(rows("1", "C"), by), by)
    reader = Reader()
    reader.feed(as_html(cost_table))
    lines = {"layer": 4, "flow": 4, "network": 2}[by]
    assert len(reader.cells) == (lines + 1) * len(cost_table.headings)
