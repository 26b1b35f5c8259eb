"""Recall of every class, sorted: which are found, and what the others are taken for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from amt_pipeline.reporting import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Groups = Mapping[str, Sequence[int]]
BAR = "#A9C9E8"
"""Colour of bars where classes have no groups."""

NOTHING = "no frame has a label"
ROW_IN = 0.165


def recall_image(
    per_class: pd.DataFrame, *, groups: Groups | None = None, title: str = ""
) -> Figure:
    """Draw the recall of every class for print, to be saved by `style.save_png`.

    Args:
        per_class: One row per class: class (its number), name, frames, recall, precision (fractions
            or NaN), mistaken_for, mistaken_share. Classes without frames are left out; where all
            are (a test without labels), the figure says so.
        groups: Numbers of the classes by group, which colours the bars; None is one colour.
        title: Shown above.
    """
    table, colours = _sorted(per_class, groups)
    figure = style.new_figure(7.2, 1.3 + ROW_IN * max(len(table), 4))
    axes = figure.add_subplot()
    for name, colour in colours.items():
        own = table[table["group"] == name]
        axes.barh(own.index, 100 * own["recall"], 0.78, color=colour, label=name or "recall")
    axes.plot(
        100 * table["precision"],
        table.index,
        "D",
        markersize=3.2,
        markerfacecolor="white",
        markeredgecolor=style.INK,
        markeredgewidth=0.8,
        label="precision",
    )
    small: dict[str, Any] = {"va": "center", "fontsize": style.TEXT_PT - 2.5, "color": style.INK}
    for row in table.to_dict("records"):
        axes.text(103, row["place"], _mistaken(row), **small, parse_math=False)
        axes.text(133, row["place"], f"{row['frames']:,}", ha="right", **small)
    head: dict[str, Any] = {"va": "bottom", "fontsize": style.TEXT_PT - 2.5, "color": style.GREY}
    axes.text(103, len(table) - 0.45, "else said", **head)
    axes.text(133, len(table) - 0.45, "frames", ha="right", **head)
    if table.empty:
        axes.text(50, 0, NOTHING, ha="center", va="center", color=style.GREY)
    axes.set_xlim(0, 134)
    axes.set_ylim(-0.7, max(len(table), 1) - 0.3)
    axes.set_xticks(range(0, 101, 20))
    axes.set_yticks(table.index, [style.shorten(name, 16) for name in table["name"]])
    style.style_axes(axes, x="recall (%)", grid="x")
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
        text.set_fontsize(style.TEXT_PT - 2)
    style.legend_above(axes, title=title, columns=5)
    return figure


def recall_figure(per_class: pd.DataFrame, *, groups: Groups | None = None, title: str = "") -> Any:
    """Draw the recall of every class as an interactive figure; arguments as for `recall_image`.

    Returns:
        `plotly.graph_objects.Figure`.
    """
    from html import escape

    import plotly.graph_objects as go

    table, colours = _sorted(per_class, groups)
    figure = go.Figure()
    for name, colour in colours.items():
        own = table[table["group"] == name]
        figure.add_bar(
            x=100 * own["recall"],
            y=own.index,
            orientation="h",
            name=name or "recall",
            marker={"color": colour},
            text=[_hover(row) for row in own.to_dict("records")],
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
        )
    figure.add_scatter(
        x=100 * table["precision"],
        y=table.index,
        name="precision",
        mode="markers",
        marker={"symbol": "diamond-open", "size": 7, "color": style.INK},
        hoverinfo="skip",
    )
    if table.empty:
        figure.add_annotation(x=50, y=0, text=NOTHING, showarrow=False)
    height = 200 + 19 * max(len(table), 4)
    figure.update_layout(**style.plotly_layout(title, height=height, hovermode="closest"))
    figure.update_xaxes(title="recall (%)", range=[0, 100])
    ticks = {"tickvals": list(table.index), "ticktext": [escape(name) for name in table["name"]]}
    figure.update_yaxes(showgrid=False, range=[-0.7, max(len(table), 1) - 0.3], **ticks)
    return figure


def _sorted(per_class: pd.DataFrame, groups: Groups | None) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the classes with frames, lowest recall first, and the colour of each group."""
    table = per_class[per_class["frames"] > 0]
    of = {number: name for name, members in (groups or {}).items() for number in members}
    table = table.assign(
        group=[of.get(number, "") for number in table["class"]],
        name=table["name"].astype(str),
        mistaken_for=table["mistaken_for"].fillna("").astype(str),
    )
    table = table.sort_values(["recall", "frames"], ignore_index=True)
    names = [name for name in (*(groups or {}), "") if (table["group"] == name).any()]
    palette = (*style.CYCLE[:6], style.GREY, style.BLACK, style.LIGHT_GREY)
    colours = {name: palette[place % len(palette)] for place, name in enumerate(names)}
    return table.assign(place=table.index), colours if groups else {"": BAR}


def _mistaken(row: Mapping[Any, Any]) -> str:
    if not row["mistaken_for"]:
        return ""
    return f"{style.shorten(row['mistaken_for'], 9)} {style.percent(row['mistaken_share'], 0)} %"


def _hover(row: Mapping[Any, Any]) -> str:
    from html import escape

    else_said = f"<br>else said {escape(_mistaken(row))}" if row["mistaken_for"] else ""
    return (
        f"<b>{escape(row['name'])}</b> ({row['frames']:,} frames)"
        f"<br>recall {style.percent(row['recall'])} %"
        f"<br>precision {style.percent(row['precision'])} %{else_said}"
    )
