"""The validation curve of a ranking: every checkpoint's score over training steps.

Drawn twice from one table: as a plotly figure, where pointing at a checkpoint shows all that is
known of it, and as an image for papers and records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COMPANIONS = ("precision", "recall")
"""Thinner curves, drawn when the table has them."""

SHOWN_FROM = 0.8
"""The axis begins where the score first reached this share of its best; before, curves run off it.

A checkpoint after the first few hundred steps scores near 0 and would flatten what the figure is
for: the differences among the good ones."""


def ranking_figure(table: pd.DataFrame, *, title: str = "", metric: str = "f1") -> Any:
    """Draw a ranking as an interactive figure.

    Args:
        table: One row per checkpoint: `rank, step, <metric>, <metric>_low, <metric>_high,
            difference_from_leader, difference_low, difference_high, tied, chosen`, and whatever
            else is to be shown when pointing at a checkpoint (`precision`, `recall`, `auc`, ...).
            Scores are fractions, drawn in percent; what is none (a loss) is drawn as it is. Rank 1
            is the leader.
        title: Shown above.
        metric: Column that was ranked by.

    Returns:
        `plotly.graph_objects.Figure`.

    Raises:
        UserError: The table is empty.
    """
    import plotly.graph_objects as go

    table = _checked(table, metric)
    scale, axis = _scale(table, metric)
    steps, score = table["step"], scale * table[metric]
    figure = go.Figure()
    if _has_interval(table, metric):
        edges = {"x": steps, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        figure.add_scatter(y=scale * table[f"{metric}_high"], showlegend=False, **edges)
        fill = {"fill": "tonexty", "fillcolor": "rgba(0, 114, 178, 0.18)"}
        figure.add_scatter(y=scale * table[f"{metric}_low"], name="95 % interval", **edges, **fill)
    for name in COMPANIONS:
        if name in table:
            line = {"color": style.COLOURS[name], "width": 1.2}
            figure.add_scatter(
                x=steps, y=scale * table[name], name=name, mode="lines", line=line, hoverinfo="skip"
            )
    figure.add_scatter(
        x=steps,
        y=score,
        name=style.label(metric),
        legendrank=1,
        mode="lines+markers",
        line={"color": style.COLOURS["f1"], "width": 2.4},
        marker={"size": 5},
        text=[_hover(row, metric, scale) for row in table.to_dict("records")],
        hovertemplate="%{text}<extra></extra>",
    )
    for chosen_rows, name, marker in _marks(table):
        figure.add_scatter(
            x=chosen_rows["step"],
            y=scale * chosen_rows[metric],
            name=name,
            mode="markers",
            marker=marker,
            hoverinfo="skip",
        )
    for row in table[table["chosen"]].to_dict("records"):
        figure.add_vline(x=row["step"], line={"color": style.COLOURS["chosen"], "dash": "dot"})
        figure.add_annotation(
            x=row["step"],
            y=0.04,
            yref="paper",
            text=_chosen_text(row, metric, scale),
            showarrow=False,
            xanchor=_side(table, row["step"], "right", "left"),
            bgcolor="rgba(255,255,255,0.85)",
        )
    figure.update_layout(**style.plotly_layout(title, hovermode="closest"))
    figure.update_xaxes(title="training step", tickformat=",d")
    figure.update_yaxes(title=axis, range=_score_range(table, metric))
    return figure


def as_ranking(curve: pd.DataFrame) -> pd.DataFrame:
    """Return a ranked curve from elsewhere in the form that the figures here take.

    Args:
        curve: Columns rank, step and value (see `ranking.choice.rank_curve`).

    Returns:
        The same with `tied` (nothing is: without scores per unit nobody knows) and `chosen` (the
        best value); to be drawn with `metric="value"`.
    """
    return curve.assign(tied=False, chosen=curve["rank"] == 1)


def ranking_image(table: pd.DataFrame, *, title: str = "", metric: str = "f1") -> Figure:
    """Draw a ranking for print; arguments as for `ranking_figure`, to be saved by `save_png`.

    Raises:
        UserError: The table is empty.
    """
    from matplotlib.ticker import FixedLocator, MaxNLocator

    table = _checked(table, metric)
    figure = style.new_figure(7.2, 4.0)
    axes = figure.add_subplot()
    _draw_curves(axes, table, metric)
    _draw_chosen(axes, table, metric)
    axes.set_ylim(*_score_range(table, metric))
    few = len(table) <= 8
    axes.xaxis.set_major_locator(
        FixedLocator(list(table["step"])) if few else MaxNLocator(nbins=7, integer=True)
    )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    style.style_axes(axes, x="training step", y=_scale(table, metric)[1])
    style.legend_above(axes, title=title)
    return figure


def _draw_curves(axes: Axes, table: pd.DataFrame, metric: str) -> None:
    steps, (scale, _) = table["step"], _scale(table, metric)
    axes.plot(
        steps,
        scale * table[metric],
        color=style.COLOURS["f1"],
        linewidth=1.8,
        marker="o",
        markersize=2.2 if len(table) > 60 else 3.5,
        zorder=2.5,
        label=style.label(metric),
    )
    if _has_interval(table, metric):
        low, high = scale * table[f"{metric}_low"], scale * table[f"{metric}_high"]
        colour = style.COLOURS["f1"]
        axes.fill_between(
            steps, low, high, color=colour, alpha=0.18, linewidth=0.8, label="95 % interval"
        )
    for name in COMPANIONS:
        if name in table:
            axes.plot(
                steps,
                scale * table[name],
                color=style.COLOURS[name],
                linewidth=0.9,
                # A single checkpoint makes no line.
                marker="o" if len(table) == 1 else None,
                label=name,
            )
    shapes = {"circle": "o", "star": "*", "diamond-open": "D"}
    for rows, name, marker in _marks(table):
        is_open = marker["symbol"].endswith("open")
        axes.plot(
            rows["step"],
            scale * rows[metric],
            linestyle="none",
            marker=shapes[marker["symbol"]],
            markersize=0.7 * marker["size"],
            markerfacecolor="none" if is_open else marker["color"],
            markeredgecolor=marker["line"]["color"],
            markeredgewidth=0.7 * marker["line"]["width"],
            zorder=3,
            label=name,
        )


def _draw_chosen(axes: Axes, table: pd.DataFrame, metric: str) -> None:
    scale, _ = _scale(table, metric)
    for row in table[table["chosen"]].to_dict("records"):
        if len(table) > 1:
            axes.axvline(row["step"], color=style.COLOURS["chosen"], linestyle=":", linewidth=1)
        offset_pt = _side(table, row["step"], -6, 6)
        axes.annotate(
            _chosen_text(row, metric, scale),
            xy=(row["step"], 0.05),
            xycoords=axes.get_xaxis_transform(),
            xytext=(offset_pt, 0),
            textcoords="offset points",
            ha="right" if offset_pt < 0 else "left",
            fontsize=style.TEXT_PT,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
        )


def _marks(table: pd.DataFrame) -> list[tuple[pd.DataFrame, str, dict[str, Any]]]:
    """Return rows, name and plotly marker of the checkpoints that stand out."""
    leader, chosen = style.COLOURS["leader"], style.COLOURS["chosen"]
    tied = table[table["tied"]]
    edge = {"color": style.COLOURS["f1"], "width": 2}
    ring = {"symbol": "circle", "size": 9, "color": "white", "line": edge}
    star = {"symbol": "star", "size": 15, "color": leader, "line": {"color": "white", "width": 1}}
    box = {"symbol": "diamond-open", "size": 14, "color": chosen}
    marks = [
        (tied, f"tied with the leader ({len(tied)})", ring),
        (table[table["rank"] == 1], "leader", star),
        (table[table["chosen"]], "chosen", box | {"line": {"color": chosen, "width": 2}}),
    ]
    return [mark for mark in marks if len(mark[0])]


def _checked(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    if table.empty:
        raise UserError("ranking", "no checkpoint to draw", "Train first")
    needed = {"rank", "step", "tied", "chosen", metric}
    if missing := sorted(needed - set(table.columns)):
        raise UserError("ranking", f"the table lacks the columns {', '.join(missing)}")
    table = table.sort_values("step", ignore_index=True)
    return table.astype({"tied": bool, "chosen": bool})


def _has_interval(table: pd.DataFrame, metric: str) -> bool:
    bounds = [f"{metric}_low", f"{metric}_high"]
    return set(bounds) <= set(table.columns) and bool(table[bounds].notna().any(axis=None))


def _side(table: pd.DataFrame, step: int, if_late: Any, if_early: Any) -> Any:
    """Choose by the half of the training that `step` lies in, so that a label stays inside."""
    middle = (table["step"].min() + table["step"].max()) / 2
    return if_late if step > middle else if_early


def _scale(table: pd.DataFrame, metric: str) -> tuple[float, str]:
    """Return what values are multiplied by, and the label of their axis.

    A score lies in 0..1 and is best where it is highest; all else (a loss) keeps its own scale.
    """
    values = table[metric].dropna()
    leader = table.loc[table["rank"] == 1, metric].max()
    if values.empty or (values.between(0, 1).all() and leader == values.max()):
        return 100.0, "validation score (%)"
    return 1.0, style.label(metric)


def _shown(value: float, scale: float) -> str:
    return style.percent(value) if scale != 1 else f"{value:.4g}"


def _chosen_text(row: dict[Any, Any], metric: str, scale: float) -> str:
    unit = " %" if scale != 1 else ""
    score = f"{style.label(metric)} {_shown(row[metric], scale)}{unit}"
    return f"chosen: step {row['step']:,}, {score}"


def _score_range(table: pd.DataFrame, metric: str) -> tuple[float, float]:
    import numpy as np

    score = table[metric]
    if score.notna().sum() == 0:
        return 0.0, 100.0
    scale, _ = _scale(table, metric)
    # Only a score rises towards its best.
    reached = score >= (SHOWN_FROM * score.max() if scale != 1 else score.min())
    first = int(reached.to_numpy().argmax())
    names = (metric, *COMPANIONS, f"{metric}_low", f"{metric}_high")
    shown = table.loc[first:, [name for name in names if name in table]]
    low, high = scale * np.nanmin(shown.to_numpy()), scale * np.nanmax(shown.to_numpy())
    # The label of the chosen checkpoint stands in the lower margin.
    span = max(high - low, 0.01 * scale)
    return float(low - 0.16 * span), float(high + 0.08 * span)


def _hover(row: dict[Any, Any], metric: str, scale: float) -> str:
    """Return all of a row, one line per quantity, intervals beside their value."""
    lines = [f"<b>step {row['step']:,}</b>, rank {row['rank']}"]
    for name in (metric, *COMPANIONS, "auc"):
        if name in row:
            line = f"{style.label(name)} {_shown(row[name], scale)}"
            if f"{name}_low" in row:
                low, high = row[f"{name}_low"], row[f"{name}_high"]
                line += f" [{_shown(low, scale)}, {_shown(high, scale)}]"
            lines.append(line)
    if "difference_from_leader" in row:
        low, high = row.get("difference_low"), row.get("difference_high")
        line = f"to the leader {style.percent(row['difference_from_leader'])}"
        lines.append(f"{line} [{style.percent(low)}, {style.percent(high)}]")
    lines += [name for name in ("tied", "chosen") if row[name]]
    return "<br>".join(lines)
