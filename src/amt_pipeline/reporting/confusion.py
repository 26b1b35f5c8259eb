"""The confusion matrix: what was said (columns) of the frames of each true class (rows).

Rows are drawn as shares of their frames, so that rare classes are seen as well as frequent ones.
Colours rise with the square root of a share: confusions are a few percent, the diagonal is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Groups = Mapping[str, Sequence[int]]
"""Numbers of the classes by name of their group, in the order they are drawn."""

WRITTEN_FROM = 0.05
"""Smallest share of a cell that is written into it, in percent."""

NO_FRAMES = "#eeeeee"
"""Rows of classes that do not occur."""

TICKS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class _Ordered:
    """A matrix in the order it is drawn.

    Attributes:
        counts: [n, n] frames.
        shares: [n, n] of the frames of a row; NaN in rows without frames.
        names: Of the classes.
        groups: First position, end and name of each group; none without groups.
    """

    counts: NDArray[np.int64]
    shares: NDArray[np.float64]
    names: list[str]
    groups: list[tuple[int, int, str]]

    @classmethod
    def of(cls, matrix: ArrayLike, names: Sequence[str], groups: Groups | None) -> _Ordered:
        counts = np.asarray(matrix, np.int64)
        n = len(names)
        order = [number for members in (groups or {}).values() for number in members] or range(n)
        if counts.shape != (n, n) or sorted(order) != list(range(n)) or n == 0:
            problem = f"a matrix of shape {counts.shape} of {n} classes, {len(order)} of them drawn"
            raise UserError("confusion matrix", problem, "Run the test again")
        counts = counts[np.ix_(order, order)]
        frames = counts.sum(axis=1, keepdims=True)
        shares = np.full(counts.shape, np.nan)
        np.divide(counts, frames, out=shares, where=frames > 0)
        ends = np.cumsum([0, *(len(members) for members in (groups or {}).values())]).tolist()
        spans = [(a, b, name) for (a, b), name in zip(pairwise(ends), groups or {}, strict=True)]
        return cls(counts, shares, [str(names[number]) for number in order], spans)


def confusion_image(
    matrix: ArrayLike, names: Sequence[str], *, groups: Groups | None = None, title: str = ""
) -> Figure:
    """Draw a confusion matrix for print, to be saved by `style.save_png`.

    Args:
        matrix: `[n, n]` frames by true class (row) and class said (column).
        names: Of the classes.
        groups: Order and groups of all classes; None is the order of `names`.
        title: Shown above.

    Raises:
        UserError: The matrix is none of these classes, or groups lack some of them.
    """
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    drawn = _Ordered.of(matrix, names, groups)
    n = len(drawn.names)
    side_in = max(4.5, min(0.2 * n, 12.0))
    figure = style.new_figure(side_in + 2.2, side_in + 1.2)
    axes = figure.add_subplot()
    image = axes.imshow(
        drawn.shares,
        cmap=colormaps["Blues"].with_extremes(bad=NO_FRAMES),
        norm=PowerNorm(0.5, 0, 1),
        aspect="auto",
    )
    text_pt = max(3.5, min(0.55 * 72 * side_in / n, style.TEXT_PT - 1))
    _write_shares(axes, drawn.shares, 0.72 * text_pt)
    _draw_groups(axes, drawn, text_pt)
    _name_classes(axes, drawn, text_pt)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.015, aspect=45)
    bar.set_ticks(list(TICKS), labels=[f"{100 * tick:g}" for tick in TICKS])
    bar.set_label("share of the frames of the true class (%)", fontsize=style.TEXT_PT)
    bar.ax.tick_params(labelsize=style.TEXT_PT - 1)
    bar.outline.set_visible(False)
    style.style_title(axes, title, pad_pt=20)
    return figure


def confusion_figure(
    matrix: ArrayLike, names: Sequence[str], *, groups: Groups | None = None, title: str = ""
) -> Any:
    """Draw a confusion matrix as an interactive figure; arguments as for `confusion_image`.

    Returns:
        `plotly.graph_objects.Figure`.

    Raises:
        UserError: The matrix is none of these classes, or groups lack some of them.
    """
    from html import escape

    import plotly.graph_objects as go

    drawn = _Ordered.of(matrix, names, groups)
    n = len(drawn.names)
    places = list(range(n))
    frames = np.broadcast_to(drawn.counts.sum(axis=1, keepdims=True), drawn.counts.shape)
    shown = [escape(name) for name in drawn.names]  # plotly reads HTML in any text
    names_of = np.array(shown, dtype=object)
    about = np.stack(
        [
            np.broadcast_to(names_of[:, None], (n, n)),
            np.broadcast_to(names_of[None], (n, n)),
            drawn.counts,
            frames,
            100 * drawn.shares,
        ],
        axis=-1,
    )
    figure = go.Figure(
        go.Heatmap(
            z=np.sqrt(drawn.shares),
            x=places,
            y=places,
            customdata=about,
            zmin=0,
            zmax=1,
            colorscale="Blues",
            hoverongaps=False,
            hovertemplate="true <b>%{customdata[0]}</b>, said <b>%{customdata[1]}</b><br>"
            "%{customdata[4]:.2f} % (%{customdata[2]:,d} of %{customdata[3]:,d} frames)"
            "<extra></extra>",
            colorbar={
                "title": {"text": "share of the true<br>class (%)"},
                "tickvals": [tick**0.5 for tick in TICKS],
                "ticktext": [f"{100 * tick:g}" for tick in TICKS],
            },
        )
    )
    for first, end, name in drawn.groups:
        edge = {"line": {"color": style.GREY, "width": 1}}
        if first:
            figure.add_hline(first - 0.5, **edge)
            figure.add_vline(first - 0.5, **edge)
        figure.add_annotation(
            x=(first + end - 1) / 2, y=-0.7, text=escape(name), showarrow=False, textangle=-35,
            xanchor="left", yanchor="bottom", font={"size": 12, "color": style.GREY},
        )  # fmt: skip
    ticks = {"tickvals": places, "ticktext": shown, "tickfont": {"size": 11}}
    side = max(520, 20 * n)
    figure.update_layout(
        **style.plotly_layout(title, height=side + 230, width=side + 260, showlegend=False)
    )
    figure.update_xaxes(title="said", showgrid=False, range=[-0.5, n - 0.5], **ticks)
    figure.update_yaxes(title="true", showgrid=False, range=[n - 0.5, -0.5], **ticks)
    return figure


def _write_shares(axes: Axes, shares: NDArray[np.float64], size_pt: float) -> None:
    rows, columns = np.nonzero(np.nan_to_num(shares) >= WRITTEN_FROM)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{100 * share:.0f}",
            ha="center",
            va="center",
            fontsize=size_pt,
            color="white" if share > 0.3 else style.INK,
        )


def _draw_groups(axes: Axes, drawn: _Ordered, text_pt: float) -> None:
    for first, end, name in drawn.groups:
        if first:
            axes.axhline(first - 0.5, color=style.GREY, linewidth=0.6)
            axes.axvline(first - 0.5, color=style.GREY, linewidth=0.6)
        _write_above(axes, (first + end - 1) / 2, name, text_pt)


def _name_classes(axes: Axes, drawn: _Ordered, text_pt: float) -> None:
    places = range(len(drawn.names))
    frames = drawn.counts.sum(axis=1)
    axes.set_xticks(places, drawn.names, rotation=90)
    axes.set_yticks(places, drawn.names)
    # The frames of a row stand at its end, so that a share is seen for what it is worth.
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(places, [f"{count:,}" for count in frames.tolist()])
    _write_above(axes, len(places) + 0.1, "frames", text_pt, "left")
    style.style_axes(axes, x="said", y="true", grid="")
    for one in (axes, beside):
        one.tick_params(labelsize=text_pt, length=0, labelcolor=style.INK)
        for text in (*one.get_xticklabels(), *one.get_yticklabels()):
            text.set_parse_math(False)
    for spine in beside.spines.values():
        spine.set_visible(False)


def _write_above(axes: Axes, x: float, text: str, text_pt: float, align: str = "center") -> None:
    axes.annotate(
        text,
        (x, -0.5),
        xytext=(0, 3),
        textcoords="offset points",
        annotation_clip=False,
        ha=align,
        va="bottom",
        fontsize=min(text_pt, 6.5),
        color=style.GREY,
        parse_math=False,
    )
