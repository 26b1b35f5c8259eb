"""Scores of every piece of a test: which pieces carry the mean, and which pull it down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED_PIECES = 40
"""Up to this number every piece has its name on the axis; beyond, the lowest are listed."""

LISTED_LOWEST = 5
MARKERS = {"precision": (">", "triangle-right"), "recall": ("<", "triangle-left")}


def scores_figure(
    per_piece: pd.DataFrame, *, interval: tuple[float, float] | None = None, title: str = ""
) -> Any:
    """Draw the scores of every piece, sorted by F1, as an interactive figure.

    Args:
        per_piece: One row per piece: `recording_id, precision, recall, f1`, fractions.
        interval: Ends of the 95 % interval of mean F1, fractions; None draws none.
        title: Shown above.

    Returns:
        `plotly.graph_objects.Figure`.

    Raises:
        UserError: The table is empty.
    """
    import plotly.graph_objects as go

    table = _sorted(per_piece)
    names = table["recording_id"]
    figure = go.Figure()
    for metric, (_, symbol) in MARKERS.items():
        marker = {"symbol": symbol, "size": 6, "color": style.COLOURS[metric], "opacity": 0.7}
        figure.add_scatter(
            x=100 * table[metric],
            y=table.index,
            name=metric,
            mode="markers",
            marker=marker,
            hoverinfo="skip",
        )
    scores = table[["precision", "recall", "f1"]].to_numpy(dtype=float)
    figure.add_scatter(
        x=100 * table["f1"],
        y=table.index,
        name="F1",
        mode="markers",
        marker={"size": 8, "color": style.COLOURS["f1"]},
        text=names,
        customdata=100 * scores,
        hovertemplate="<b>%{text}</b><br>precision %{customdata[0]:.2f}<br>"
        "recall %{customdata[1]:.2f}<br>F1 %{customdata[2]:.2f}<extra></extra>",
    )
    mean = float(table["f1"].mean())
    if interval is not None:
        low, high = (100 * end for end in interval)
        figure.add_vrect(low, high, fillcolor=style.COLOURS["f1"], opacity=0.15, line_width=0)
    figure.add_scatter(
        x=[100 * mean] * 2,
        y=[-0.8, len(table) - 0.2],
        name=_mean_text(mean, interval),
        mode="lines",
        line={"color": style.COLOURS["f1"], "dash": "dash", "width": 1.5},
        hoverinfo="skip",
    )
    height = 190 + (18 if len(table) <= NAMED_PIECES else 6) * len(table)
    figure.update_layout(**style.plotly_layout(title, height=height, hovermode="closest"))
    figure.update_xaxes(title="score (%)")
    ticks = {"tickvals": list(table.index), "ticktext": [style.shorten(n, 40) for n in names]}
    named = ticks if len(table) <= NAMED_PIECES else {"showticklabels": False}
    figure.update_yaxes(showgrid=False, range=[-0.8, len(table) - 0.2], **named)
    return figure


def scores_image(
    per_piece: pd.DataFrame, *, interval: tuple[float, float] | None = None, title: str = ""
) -> Figure:
    """Draw the scores of every piece for print; arguments as for `scores_figure`.

    Raises:
        UserError: The table is empty.
    """
    table = _sorted(per_piece)
    is_named = len(table) <= NAMED_PIECES
    height_in = 1.3 + (0.17 if is_named else 0.04) * len(table)
    figure = style.new_figure(7.2, min(max(height_in, 2.4), 9.0))
    axes = figure.add_subplot()
    mean = float(table["f1"].mean())
    if interval is not None:
        low, high = (100 * end for end in interval)
        axes.axvspan(low, high, color=style.COLOURS["f1"], alpha=0.15, linewidth=0)
    _draw_scores(axes, table)
    axes.axvline(
        100 * mean, color=style.COLOURS["f1"], ls="--", lw=1, label=_mean_text(mean, interval)
    )
    axes.set_ylim(-0.8, len(table) - 0.2)
    style.style_axes(axes, x="score (%)", y="" if is_named else "pieces, sorted by F1", grid="x")
    if is_named:
        axes.set_yticks(table.index, [style.shorten(name, 40) for name in table["recording_id"]])
        for text in axes.get_yticklabels():
            text.set_parse_math(False)
    else:
        axes.set_yticks([])
        _list_lowest(axes, table)
    style.legend_above(axes, title=title)
    return figure


def _draw_scores(axes: Axes, table: pd.DataFrame) -> None:
    size = 5.0 if len(table) <= NAMED_PIECES else 3.0
    axes.plot(
        100 * table["f1"],
        table.index,
        "o",
        ms=size,
        color=style.COLOURS["f1"],
        zorder=3,
        label="F1",
    )
    axes.hlines(
        table.index,
        100 * table["precision"],
        100 * table["recall"],
        color="#C4C9D1",
        linewidth=0.25 * size,
        zorder=1,
    )
    for metric, (marker, _) in MARKERS.items():
        axes.plot(
            100 * table[metric],
            table.index,
            marker,
            markersize=0.8 * size,
            color=style.COLOURS[metric],
            alpha=0.7,
            markeredgewidth=0,
            label=metric,
        )


def _list_lowest(axes: Axes, table: pd.DataFrame) -> None:
    # Pieces rise from the lower left to the upper right: the upper left is empty.
    lines = [
        f"{style.percent(row['f1'], 1)}  {style.shorten(str(row['recording_id']), 44)}"
        for row in table.head(LISTED_LOWEST).to_dict("records")
    ]
    axes.text(
        0.02,
        0.97,
        "\n".join(["lowest F1 (%)", *lines]),
        transform=axes.transAxes,
        va="top",
        fontsize=style.TEXT_PT - 2,
        color=style.INK,
        linespacing=1.5,
        parse_math=False,
        bbox={"facecolor": "white", "edgecolor": style.LIGHT_GREY, "boxstyle": "round,pad=0.5"},
    )


def _sorted(per_piece: pd.DataFrame) -> pd.DataFrame:
    if per_piece.empty:
        raise UserError("scores", "no piece to draw", "Run the test first")
    by = per_piece.assign(recording_id=per_piece["recording_id"].astype(str))
    return by.sort_values(["f1", "recording_id"], ignore_index=True)


def _mean_text(mean: float, interval: tuple[float, float] | None) -> str:
    text = f"mean F1 {style.percent(mean)} %"
    if interval is None or not np.all(np.isfinite(interval)):
        return text
    return f"{text} [{style.percent(interval[0])}, {style.percent(interval[1])}]"
