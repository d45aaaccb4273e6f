"""Tables of costs show the same numbers, exactly or rounded with a unit."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
from rich.console import Console

from spectrum.report.cost_table import make_cost_table, print_cost_table
from spectrum.report.costs import group_costs
from spectrum.report.tables import Table, as_markdown


def rows(*segments: str, scale: int = 1, **changes: Any) -> pd.DataFrame:
    made = [
        {
            "network": "made|up",
            "order": "own",
            "pointwise_segments": "1",
            "shuffle": False,
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


def headings(table: Table) -> list[str]:
    return [column.heading for column in table.columns]


def table(costs: pd.DataFrame, by: Any, width: int) -> list[str]:
    file = io.StringIO()
    print_cost_table(costs, by, Console(file=file, width=width))
    return file.getvalue().splitlines()


def test_other_multiply_adds_are_shown_where_there_are_some() -> None:
    without = group_costs(rows("1", "C"), "network")
    costs = group_costs(rows("1", "C", other_macs=12_345_678), "network")
    assert costs["other_macs"].tolist() == [2 * 12_345_678] * 2
    assert costs.drop(columns="other_macs").equals(without)
    shown = headings(make_cost_table(costs, "network"))
    assert shown.index("other MACs") == shown.index("MACs") + 1
    assert [name for name in shown if name != "other MACs"] == headings(
        make_cost_table(without, "network")
    )
    for width in (80, 200):
        assert "attention's, aren't part" in " ".join(table(costs, "network", width))
        assert "attention" not in " ".join(table(without, "network", width))


def test_values_that_all_rows_share_are_in_the_caption() -> None:
    cost_table = make_cost_table(group_costs(rows("1", "C"), "flow"), "flow")
    assert cost_table.caption == "made|up, own order, width 0.25, 1,000 classes, input 3x299x299"
    assert headings(cost_table)[:3] == ["segments", "flow", "params"]
    different = pd.concat([rows("1"), rows("1", width=1.5, miss=-0.02)], ignore_index=True)
    cost_table = make_cost_table(group_costs(different, "network"), "network")
    assert headings(cost_table)[:4] == ["segments", "width", "miss", "params"]
    assert "width" not in cost_table.caption
    layers = make_cost_table(group_costs(rows("1"), "layer"), "layer")
    assert "segments 1," in layers.caption
    assert headings(layers)[:4] == ["layer", "kind", "output", "its segments"]
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


def test_names_are_not_read_as_markup() -> None:
    both = pd.concat([rows("[red]1[/red]"), rows("C")], ignore_index=True)
    assert any("[red]1[/red]" in line for line in table(group_costs(both, "flow"), "flow", 200))
