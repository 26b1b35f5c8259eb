"""Joint F1 over all runs: is the work getting anywhere?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.history import history_table
from amt_pipeline.reporting.record import ExperimentRecord

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def history_figure(records: Sequence[ExperimentRecord]) -> Any:
    """Draw joint F1 over the runs as an interactive figure.

    Args:
        records: The runs, oldest first; those without a joint score are left out. Runs on the same
            data share a colour and a line: only they compare.

    Returns:
        `plotly.graph_objects.Figure`; pointing at a run shows what was changed for it.

    Raises:
        UserError: No run has a joint score.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for name, colour, rows in _series(records):
        f1 = 100 * rows["joint_f1"]
        figure.add_scatter(
            x=rows["number"],
            y=f1,
            error_y={
                "array": 100 * rows["high"] - f1,
                "arrayminus": f1 - 100 * rows["low"],
                "width": 3,
                "thickness": 1,
            },
            mode="lines+markers",
            name=name,
            line={"color": colour, "width": 1.5},
            marker={"size": 8},
            text=[_hover(row) for row in rows.to_dict("records")],
            hovertemplate="%{text}<extra></extra>",
        )
        best = rows[rows["best"]]
        figure.add_scatter(
            x=best["number"],
            y=100 * best["joint_f1"],
            mode="markers+text",
            text=[f"best {style.percent(value)}" for value in best["joint_f1"]],
            textposition="bottom center",
            marker={"symbol": "star", "size": 16, "color": colour},
            showlegend=False,
            hoverinfo="skip",
        )
    figure.update_layout(**style.plotly_layout("Runs", hovermode="closest"))
    figure.update_xaxes(title="run", dtick=max(1, len(records) // 15))
    figure.update_yaxes(title="joint note F1 (%)")
    return figure


def history_image(records: Sequence[ExperimentRecord]) -> Figure:
    """Draw joint F1 over the runs for print; arguments as for `history_figure`.

    Raises:
        UserError: No run has a joint score.
    """
    from matplotlib.ticker import MaxNLocator

    figure = style.new_figure(7.2, 3.4)
    axes = figure.add_subplot()
    for name, colour, rows in _series(records):
        number, f1 = rows["number"], 100 * rows["joint_f1"]
        axes.vlines(number, 100 * rows["low"], 100 * rows["high"], color=colour, lw=1, alpha=0.6)
        axes.plot(number, f1, "o-", color=colour, linewidth=1.2, markersize=4, label=name)
        for row in rows[rows["best"]].to_dict("records"):
            point = (row["number"], 100 * row["joint_f1"])
            axes.plot(*point, "*", color=colour, markersize=12, markeredgecolor="white", zorder=3)
            axes.annotate(
                f"best {style.percent(row['joint_f1'])}",
                point,
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                fontsize=style.TEXT_PT,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
            )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.06, y=0.15)
    style.style_axes(axes, x="run", y="joint note F1 (%)")
    style.legend_above(axes, columns=3)
    return figure


def _series(records: Sequence[ExperimentRecord]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield name, colour and rows of the scored runs on the same data, in order of appearance."""
    table = history_table(records)
    table = table.assign(number=range(1, len(table) + 1))
    table["fingerprint"] = [record.data_fingerprint for record in records]
    table = table[table["joint_f1"].notna()]
    if table.empty:
        raise UserError("history", "no run with a joint score yet", "Run the whole pipeline once")
    scores = ["joint_precision", "joint_recall", "joint_f1", "low", "high"]
    table = table.astype(dict.fromkeys(scores, float))
    for position, (_, rows) in enumerate(table.groupby("fingerprint", sort=False)):
        presets = ", ".join(dict.fromkeys(rows["preset"]))
        name = f"{presets} (data {rows['data'].iloc[0]})" if rows["data"].iloc[0] else presets
        yield name or "runs", style.CYCLE[position % len(style.CYCLE)], rows


def _hover(row: dict[Any, Any]) -> str:
    from html import escape

    low, high = style.percent(row["low"]), style.percent(row["high"])
    lines = [
        f"<b>{escape(row['run'])}</b>, {row['time']}",
        f"F1 {style.percent(row['joint_f1'])} [{low}, {high}]",
        f"precision {style.percent(row['joint_precision'])}, "
        f"recall {style.percent(row['joint_recall'])}, {row['n_pieces']:.0f} pieces",
        *(escape(change) for change in row["changed"].split("; ")[:12]),
    ]
    return "<br>".join(lines)
