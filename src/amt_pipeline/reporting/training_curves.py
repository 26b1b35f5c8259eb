"""What a training run looked like: loss, running scores and learning rate over steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCORES = frozenset({"precision", "recall", "f1", "auc", "accuracy"})
"""Fractions that share one panel; any other column but loss and learning rate has its own."""

DASHES = (("solid", "-"), ("dash", "--"), ("dot", ":"))
"""Line styles (plotly, matplotlib) that tell `train/f1` from `validation/f1`."""


@dataclass(frozen=True)
class Panel:
    """Curves that share a vertical axis."""

    label: str
    columns: tuple[str, ...]
    factor: float = 1.0
    is_log: bool = False


def training_figure(history: pd.DataFrame, *, title: str = "") -> Any:
    """Draw a training run as an interactive figure, one panel per kind of quantity.

    Args:
        history: One row per logged step: `step`, then a column per metric, named `loss`, `f1`,
            `learning_rate`, ... or with a path before it, such as `train/loss`. Where a metric was
            not logged it is NaN. Scores are fractions.
        title: Shown above.

    Returns:
        `plotly.graph_objects.Figure`.

    Raises:
        UserError: No step, or no metric, was logged.
    """
    from plotly.subplots import make_subplots

    panels = _panels(history)
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.04)
    for row, panel in enumerate(panels, start=1):
        for curve in _curves(history, panel):
            figure.add_scatter(
                x=curve.steps,
                y=curve.values,
                name=curve.name,
                mode="lines",
                line={"color": curve.colour, "dash": DASHES[curve.dash][0], "width": 1.8},
                hovertemplate=f"%{{y:.4~g}} {curve.name}, step %{{x:,d}}<extra></extra>",
                row=row,
                col=1,
            )
        scale = {"type": "log", "dtick": 1} if panel.is_log else {}
        figure.update_yaxes(title=panel.label, row=row, col=1, **scale)
    figure.update_layout(**style.plotly_layout(title, height=170 + 210 * len(panels)))
    figure.update_xaxes(title="training step", tickformat=",d", row=len(panels), col=1)
    return figure


def training_image(history: pd.DataFrame, *, title: str = "") -> Figure:
    """Draw a training run for print; arguments as for `training_figure`.

    Raises:
        UserError: No step, or no metric, was logged.
    """
    panels = _panels(history)
    figure = style.new_figure(7.2, 0.8 + 1.7 * len(panels))
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(rows, panels, strict=True):
        for curve in _curves(history, panel):
            axes.plot(
                curve.steps,
                curve.values,
                color=curve.colour,
                linestyle=DASHES[curve.dash][1],
                linewidth=1.3,
                marker="o" if len(curve.steps) == 1 else None,
                label=curve.name,
            )
        if panel.is_log:
            log_axis(axes)
        style.style_axes(axes, y=panel.label)
        if len(panel.columns) > 1:
            style.legend_above(axes, title=title if axes is rows[0] else "")
        elif axes is rows[0]:
            style.style_title(axes, title)
    rows[-1].xaxis.set_major_formatter("{x:,.0f}")
    style.style_axes(rows[-1], x="training step")
    figure.align_ylabels()
    return figure


def log_axis(axes: Axes) -> None:
    """Label a logarithmic axis in plain numbers; over few decades also at 2 and 5."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    subs = (1.0, 2.0, 5.0) if high < 300 * low else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", left=False)


@dataclass(frozen=True)
class Curve:
    """One metric where it was logged: steps, values, and how to draw it."""

    name: str
    steps: np.ndarray[Any, Any]
    values: np.ndarray[Any, Any]
    colour: str
    dash: int


def _curves(history: pd.DataFrame, panel: Panel) -> Iterator[Curve]:
    leaves = list(dict.fromkeys(_leaf(column) for column in panel.columns))
    groups = list(dict.fromkeys(_group(column) for column in panel.columns))
    for column in panel.columns:
        values = history[column].to_numpy(dtype=float)
        logged = ~np.isnan(values)
        leaf = _leaf(column)
        yield Curve(
            name=f"{_group(column)} {style.label(leaf)}".strip(),
            steps=history["step"].to_numpy()[logged],
            values=panel.factor * values[logged],
            colour=style.COLOURS.get(leaf, style.CYCLE[leaves.index(leaf) % len(style.CYCLE)]),
            dash=groups.index(_group(column)) % len(DASHES),
        )


def _panels(history: pd.DataFrame) -> list[Panel]:
    """Sort the columns into panels: losses, scores, learning rates, then each other alone."""
    columns = [name for name in history.columns if name != "step" and history[name].notna().any()]
    if not columns:
        raise UserError("training history", "nothing was logged", "Train first")
    losses = tuple(name for name in columns if _leaf(name).endswith("loss"))
    scores = tuple(name for name in columns if _leaf(name) in SCORES)
    rates = tuple(name for name in columns if _leaf(name) in {"learning_rate", "lr"})
    others = [name for name in columns if name not in {*losses, *scores, *rates}]
    panels = [
        Panel("loss", losses, is_log=_spans_decades(history, losses)),
        Panel("score (%)", scores, factor=100),
        Panel("learning rate", rates, is_log=_spans_decades(history, rates)),
        *(Panel(style.label(_leaf(name)), (name,)) for name in others),
    ]
    return [panel for panel in panels if panel.columns]


def _spans_decades(history: pd.DataFrame, columns: tuple[str, ...]) -> bool:
    """Tell whether a logarithmic axis serves: positive values over more than a factor of ten."""
    values = history[list(columns)].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    return values.size > 0 and bool(values.min() > 0 and values.max() > 10 * values.min())


def _leaf(column: str) -> str:
    return column.rpartition("/")[2]


def _group(column: str) -> str:
    return column.rpartition("/")[0]
