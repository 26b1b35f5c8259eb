"""Curves of a study: how its variants learned, and at which rates.

Each figure is drawn twice from one table: as a plotly figure and as an image for papers and pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.study_lines import (
    NAME_CHARS,
    Line,
    legend_columns,
    lines_of,
    rate_range,
    score_range,
)
from amt_pipeline.reporting.training_curves import DASHES, log_axis

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {"validation": "validation", "train": "training"}
BAND_OPACITY = 0.15


def learning_curve_figure(curves: pd.DataFrame, *, metric: str, title: str = "") -> Any:
    """Draw the score over epochs, validation above training, one line per variant.

    Args:
        curves: One row per point: `variant, seed, quantity, step, epoch, value` with the quantities
            `train` and `validation`; fractions. Several seeds make a mean and a band.
        metric: The score.
        title: Shown above.

    Returns:
        `plotly.graph_objects.Figure`.

    Raises:
        UserError: There is no curve.
    """
    from plotly.subplots import make_subplots

    panels = lines_of(curves, *_panels(curves))
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, (quantity, lines) in enumerate(panels.items(), start=1):
        for line in lines:
            _add_line(figure, line, row=row, factor=100, legend=row == 1)
        label = f"{PANELS[quantity]} {style.label(metric)} (%)"
        figure.update_yaxes(title=label, range=score_range(lines), row=row, col=1)
    n_variants = curves["variant"].nunique()
    figure.update_layout(**_layout(title, n_variants, 130 + 270 * len(panels)))
    figure.update_xaxes(title="epoch", row=len(panels), col=1)
    return figure


def learning_curve_image(curves: pd.DataFrame, *, metric: str, title: str = "") -> Figure:
    """Draw the score over epochs for print; arguments as for `learning_curve_figure`.

    Raises:
        UserError: There is no curve.
    """
    panels = lines_of(curves, *_panels(curves))
    most = max(panels.values(), key=len)
    columns = legend_columns(most)
    legend_in = 0.2 * -(-len(most) // columns)
    figure = style.new_figure(7.2, 0.7 + legend_in + 2.3 * len(panels))
    all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (quantity, lines) in zip(all_axes, panels.items(), strict=True):
        for line in lines:
            _plot_line(axes, line, factor=100)
        axes.set_ylim(*score_range(lines))
        style.style_axes(axes, y=f"{PANELS[quantity]} {style.label(metric)} (%)")
    style.style_axes(all_axes[-1], x="epoch")
    style.legend_above(all_axes[0], title=title, columns=columns)
    figure.align_ylabels()
    return figure


def learning_rate_figure(curves: pd.DataFrame, *, title: str = "") -> Any:
    """Draw the learning rates over epochs; arguments as for `learning_curve_figure`.

    Raises:
        UserError: There is no curve.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for line in lines_of(curves, "learning_rate")["learning_rate"]:
        _add_line(figure, line, factor=1, legend=True)
    figure.update_layout(**_layout(title, curves["variant"].nunique(), 420))
    figure.update_xaxes(title="epoch")
    scale = {"type": "log", "dtick": 1} if _spans_decades(curves) else {"rangemode": "tozero"}
    figure.update_yaxes(title="learning rate", exponentformat="e", **scale)
    return figure


def learning_rate_image(curves: pd.DataFrame, *, title: str = "") -> Figure:
    """Draw the learning rates over epochs for print; arguments as for `learning_curve_figure`.

    Raises:
        UserError: There is no curve.
    """
    lines = lines_of(curves, "learning_rate")["learning_rate"]
    columns = legend_columns(lines)
    figure = style.new_figure(7.2, 3.0 + 0.2 * -(-len(lines) // columns))
    axes = figure.add_subplot()
    for line in lines:
        _plot_line(axes, line, factor=1)
    is_log = _spans_decades(curves)
    axes.set_ylim(*rate_range(lines, is_log=is_log))
    if is_log:
        log_axis(axes)
    else:
        axes.yaxis.set_major_formatter("{x:g}")
    style.style_axes(axes, x="epoch", y="learning rate")
    style.legend_above(axes, title=title, columns=columns)
    return figure


def _panels(curves: pd.DataFrame) -> list[str]:
    found = [name for name in PANELS if (curves["quantity"] == name).any()]
    if not found:
        raise UserError("study", "has no curve to draw", "Train its variants first")
    return found


def _add_line(figure: Any, line: Line, *, factor: float, legend: bool, row: int = 0) -> None:
    from html import escape

    place = {"row": row, "col": 1} if row else {}
    epochs, values = line.rows["epoch"], factor * line.rows["mean"]
    if line.has_band:
        edge = {"x": epochs, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        edge |= {"legendgroup": line.name, "showlegend": False, **place}
        fill = {"fill": "tonexty", "fillcolor": _transparent(line.colour)}
        figure.add_scatter(y=factor * line.rows["max"], **edge)
        figure.add_scatter(y=factor * line.rows["min"], **edge, **fill)
    figure.add_scatter(
        x=epochs,
        y=values,
        name=escape(style.shorten(line.name, NAME_CHARS)),
        legendgroup=line.name,
        showlegend=legend,
        mode="lines+markers" if line.has_markers else "lines",
        marker={"size": 5},
        line={"color": line.colour, "dash": DASHES[line.dash][0], "width": 2},
        hovertemplate=f"%{{y:.4~g}} {escape(line.name)}, epoch %{{x:.3~g}}<extra></extra>",
        **place,
    )


def _plot_line(axes: Axes, line: Line, *, factor: float) -> None:
    rows = line.rows
    if line.has_band:
        low, high = factor * rows["min"], factor * rows["max"]
        axes.fill_between(
            rows["epoch"], low, high, color=line.colour, alpha=BAND_OPACITY, linewidth=0
        )
    axes.plot(
        rows["epoch"],
        factor * rows["mean"],
        color=line.colour,
        linestyle=DASHES[line.dash][1],
        linewidth=1.4,
        marker="o" if line.has_markers else None,
        markersize=3,
        label=style.shorten(line.name, NAME_CHARS),
    )


def _layout(title: str, n_variants: int, height: int) -> dict[str, Any]:
    # Beside the axes: many names above them would cover the title.
    legend = {"orientation": "v", "yanchor": "top", "y": 1, "x": 1.02}
    margin = {"l": 70, "r": 30, "t": 70, "b": 60}
    more = {"hovermode": "closest", "height": max(height, 150 + 22 * n_variants)}
    return style.plotly_layout(title, legend=legend, margin=margin, **more)


def _spans_decades(curves: pd.DataFrame) -> bool:
    """Tell whether the variants' highest rates are decades apart; falling ones are shown as is."""
    rates = curves[curves["quantity"] == "learning_rate"]
    highest = rates.groupby("variant")["value"].max()
    return bool(rates["value"].min() > 0 and highest.max() >= 10 * highest.min())


def _transparent(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {BAND_OPACITY})"
