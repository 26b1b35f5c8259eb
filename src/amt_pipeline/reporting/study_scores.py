"""What the variants of a study scored: a dot per variant with its interval, small ones per seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

NAME_CHARS = 40
INTERVAL = "interval over units"


def study_scores_figure(
    table: pd.DataFrame,
    seeds: pd.DataFrame,
    *,
    metric: str,
    reference: str,
    title: str = "",
) -> Any:
    """Draw the validation score of every variant as an interactive figure.

    Args:
        table: One row per variant: `variant, place, rank, validation_<metric>`, its `_low` and
            `_high`, and what is known of the difference to the reference (`difference,
            difference_low, difference_high, p_corrected`). Fractions.
        seeds: One row per training: `variant, seed, score`.
        metric: The score.
        reference: The variant that the others are tested against; a line goes through its score.
        title: Shown above.

    Returns:
        `plotly.graph_objects.Figure`, in the study's order from above.

    Raises:
        UserError: No variant has a score.
    """
    import plotly.graph_objects as go

    rows = _drawn(table, metric)
    score, low, high = (100 * rows[f"validation_{metric}{end}"] for end in ("", "_low", "_high"))
    figure = go.Figure()
    small = seeds.merge(rows[["variant", "y"]], on="variant")
    figure.add_scatter(
        x=100 * small["score"],
        y=small["y"],
        name="one seed",
        mode="markers",
        marker={"size": 6, "color": style.GREY, "opacity": 0.6, "symbol": "line-ns-open"},
        text=[f"seed {seed}" for seed in small["seed"]],
        hovertemplate="%{text}: %{x:.2f}<extra></extra>",
    )
    figure.add_scatter(
        x=score,
        y=rows["y"],
        name=f"mean, {INTERVAL}",
        mode="markers",
        marker={"size": 10, "color": _colours(rows)},
        error_x={
            "array": high - score,
            "arrayminus": score - low,
            "thickness": 1.6,
            "width": 4,
            "color": style.BLUE,
        },
        text=[_hover(row, metric) for row in rows.to_dict("records")],
        hovertemplate="%{text}<extra></extra>",
    )
    for value in score[rows["variant"] == reference]:
        figure.add_vline(x=value, line={"color": style.GREY, "dash": "dash", "width": 1})
    layout = style.plotly_layout(title, hovermode="closest", height=170 + 34 * len(rows))
    figure.update_layout(**layout)
    figure.update_xaxes(title=f"validation {style.label(metric)} (%)")
    ticks = [_tick(name, reference) for name in rows["variant"]]
    limits = [-0.6, len(rows) - 0.4]
    figure.update_yaxes(tickvals=list(rows["y"]), ticktext=ticks, range=limits, showgrid=False)
    return figure


def study_scores_image(
    table: pd.DataFrame,
    seeds: pd.DataFrame,
    *,
    metric: str,
    reference: str,
    title: str = "",
) -> Figure:
    """Draw the validation scores for print; arguments as for `study_scores_figure`.

    Raises:
        UserError: No variant has a score.
    """
    rows = _drawn(table, metric)
    score, low, high = (100 * rows[f"validation_{metric}{end}"] for end in ("", "_low", "_high"))
    figure = style.new_figure(7.2, 1.3 + 0.27 * len(rows))
    axes = figure.add_subplot()
    for value in score[rows["variant"] == reference]:
        axes.axvline(value, color=style.GREY, linestyle="--", linewidth=0.9, zorder=1)
    axes.hlines(rows["y"], low, high, color=style.BLUE, linewidth=1.6, label=INTERVAL, zorder=2)
    small = seeds.merge(rows[["variant", "y"]], on="variant")
    axes.plot(
        100 * small["score"],
        small["y"],
        linestyle="none",
        marker="|",
        markersize=9,
        markeredgewidth=1.2,
        color=style.INK,
        alpha=0.65,
        label="one seed",
        zorder=3,
    )
    axes.scatter(score, rows["y"], s=34, c=_colours(rows), zorder=4)
    for colour, text in ((style.BLUE, "mean over seeds"), (style.VERMILLION, "highest")):
        axes.plot([], [], "o", color=colour, markersize=5.5, label=text)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_yticks(rows["y"], [_tick(name, reference) for name in rows["variant"]])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    style.style_axes(axes, x=f"validation {style.label(metric)} (%)", grid="x")
    style.legend_above(axes, title=title)
    return figure


def _drawn(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the variants that have a score, with their height: the study's first is uppermost."""
    rows = table[table[f"validation_{metric}"].notna()].sort_values("place", ascending=False)
    if rows.empty:
        raise UserError("study", "has no score to draw", "Train its variants first")
    return rows.assign(y=np.arange(len(rows))).reset_index(drop=True)


def _colours(rows: pd.DataFrame) -> list[str]:
    return [style.VERMILLION if rank == 1 else style.BLUE for rank in rows["rank"]]


def _tick(name: str, reference: str) -> str:
    shown = style.shorten(name, NAME_CHARS)
    return f"{shown} (reference)" if name == reference else shown


def _hover(row: dict[Any, Any], metric: str) -> str:
    from html import escape

    name = f"validation_{metric}"
    low, high = style.percent(row[f"{name}_low"]), style.percent(row[f"{name}_high"])
    lines = [
        f"<b>{escape(str(row['variant']))}</b>, rank {row['rank']}",
        f"{style.label(metric)} {style.percent(row[name])} [{low}, {high}]",
    ]
    if np.isfinite(row["difference"]):
        low, high = style.percent(row["difference_low"]), style.percent(row["difference_high"])
        lines.append(f"to the reference {style.percent(row['difference'])} [{low}, {high}]")
        lines.append(f"p = {row['p_corrected']:.2g}, corrected")
    return "<br>".join(lines)
