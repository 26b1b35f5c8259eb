"""The look of every figure: one palette, one size of text, one way to a file.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which people with any common
colour vision tell apart; where a colour carries meaning, a shape carries it too. Figures are drawn
through matplotlib's objects on the Agg canvas, without pyplot and without touching `rcParams`, so
threads and notebooks keep their own settings.
"""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.files import atomic_path, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#6B7280"
LIGHT_GREY = "#E5E7EB"
INK = "#1F2937"

CYCLE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY_BLUE, BLACK)
"""Colours of curves without a meaning of their own, in this order."""

COLOURS = {
    "f1": BLUE,
    "precision": ORANGE,
    "recall": GREEN,
    "auc": PURPLE,
    "leader": VERMILLION,
    "chosen": BLACK,
    "hit": GREEN,
    "miss": VERMILLION,
    "false_alarm": BLACK,
}
"""What a colour means, in all figures."""

UNKNOWN = "\N{EN DASH}"
"""Shown where there is no value."""

DPI = 150
TEXT_PT = 9.0
TITLE_PT = 11.0
CHARACTERS_PER_INCH = 10.5
"""Of a title; measured on wide letters."""

LABELS = {"precision": "precision", "recall": "recall", "f1": "F1", "auc": "AUC"}


def label(metric: str) -> str:
    """Return a metric's name for people: `f1` -> `F1`, `frame_accuracy` -> `frame accuracy`."""
    return LABELS.get(metric, metric.replace("_", " "))


def percent(value: float | None, digits: int = 2) -> str:
    """Return a fraction as a percentage without the sign, `–` when it is unknown."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{100 * value:.{digits}f}"


def shorten(text: str, limit: int) -> str:
    """Return `text` with its middle left out if it is longer than `limit` characters.

    Names of recordings differ in their beginning (composer) or their end (number), seldom between.
    """
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def new_figure(width_in: float = 7.2, height_in: float = 4.0) -> Figure:
    """Return an empty matplotlib figure with its own Agg canvas.

    Args:
        width_in: Width in inches; 7.2 fills the two columns of a paper.
        height_in: Height in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes, *, x: str = "", y: str = "", grid: str = "y") -> None:
    """Give axes the common look.

    Args:
        axes: Axes to style, after everything is drawn.
        x: Label of the horizontal axis.
        y: Label of the vertical axis.
        grid: `x`, `y`, `both` or empty.
    """
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(labelsize=TEXT_PT - 1, color=GREY, labelcolor=INK)
    if x:
        axes.set_xlabel(x, fontsize=TEXT_PT, color=INK, parse_math=False)
    if y:
        axes.set_ylabel(y, fontsize=TEXT_PT, color=INK, parse_math=False)
    if grid:
        axes.grid(visible=True, axis=grid, color=LIGHT_GREY, linewidth=0.7)  # type: ignore[arg-type]
        axes.set_axisbelow(True)


def legend_above(axes: Axes, *, title: str = "", columns: int = 7) -> None:
    """Put the legend between the axes and their title, where it hides no data.

    Args:
        axes: Axes with labelled artists; drawn in the order they were added.
        title: Title of the axes, taken literally.
        columns: Entries per row.
    """
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        borderaxespad=0.2,
        borderpad=0.1,
        ncols=min(columns, max(1, len(labels))),
        fontsize=TEXT_PT - 1,
        frameon=False,
        handlelength=1.5,
        handletextpad=0.5,
        columnspacing=1.3,
    )
    rows = math.ceil(len(labels) / columns)
    style_title(axes, title, pad_pt=6 + 13 * rows)


def style_title(axes: Axes, title: str, pad_pt: float = 6) -> None:
    """Set a title at the left, shortened to the width; a `$` in it starts no formula."""
    width_in, _ = axes.figure.get_size_inches()  # type: ignore[union-attr]
    shown = shorten(title, int(CHARACTERS_PER_INCH * width_in))
    axes.set_title(shown, fontsize=TITLE_PT, loc="left", color=INK, pad=pad_pt, parse_math=False)


def plotly_layout(title: str = "", **more: Any) -> dict[str, Any]:
    """Return the common layout of plotly figures; `more` overrides it.

    Args:
        title: Shown above, escaped (plotly reads HTML in titles).
        **more: Further properties of `plotly.graph_objects.Layout`.
    """
    from html import escape

    axis = {
        "gridcolor": LIGHT_GREY,
        "linecolor": GREY,
        "ticks": "outside",
        "tickcolor": GREY,
        "zeroline": False,
        "automargin": True,
    }
    layout: dict[str, Any] = {
        "template": {"layout": {"xaxis": axis, "yaxis": axis, "colorway": list(CYCLE)}},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": {"family": "system-ui, sans-serif", "size": 14, "color": INK},
        "title": {"text": escape(title), "x": 0, "xref": "paper", "font": {"size": 18}},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0},
        "margin": {"l": 70, "r": 30, "t": 110, "b": 60},
        "hoverlabel": {"align": "left"},
    }
    return layout | more


def note_image(text: str) -> Figure:
    """Return a matplotlib figure that says why there is nothing to draw."""
    figure = new_figure(7.2, 1.2)
    figure.text(0.02, 0.5, text, fontsize=TITLE_PT, color=INK, va="center", parse_math=False)
    return figure


def note_figure(text: str) -> Any:
    """Return a plotly figure that says why there is nothing to draw."""
    import plotly.graph_objects as go

    hidden = {"visible": False}
    figure = go.Figure()
    figure.update_layout(**plotly_layout(text, height=160), xaxis=hidden, yaxis=hidden)
    return figure


def save_png(figure: Figure, path: str | PathLike[str]) -> Path:
    """Write a matplotlib figure as PNG, atomically; the same figure gives the same bytes."""
    with atomic_path(path) as temporary:
        # Without the version of matplotlib in the file, bytes only change when the picture does.
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    return Path(path)


def save_html(
    figure: Any,
    path: str | PathLike[str],
    *,
    title: str = "",
    embed: bool = False,
    scroll_zoom: bool = False,
) -> Path:
    """Write a plotly figure as a page that works without network, atomically.

    The library (4.8 MB) is written once per folder, beside the pages, under a name with its
    version, so that a folder of reports stays small and old pages keep the library they were made
    with. The same figure gives the same bytes.

    Args:
        figure: `plotly.graph_objects.Figure`.
        path: HTML file.
        title: Title of the browser's tab; the figure's own title when empty.
        embed: Put the library into the page, for a page that travels alone (mail, an artefact).
        scroll_zoom: The mouse wheel zooms.
    """
    from html import escape

    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    library = Path(path).parent / f"plotly-{get_plotlyjs_version()}.min.js"
    if not embed and not library.exists():
        write_text(library, get_plotlyjs())
    page = figure.to_html(
        include_plotlyjs=True if embed else library.name,
        full_html=True,
        # A fixed id: plotly would draw a random one, and no two runs would give the same file.
        div_id="figure",
        config={"displaylogo": False, "responsive": True, "scrollZoom": scroll_zoom},
    )
    # The figure's own title is escaped already.
    head = f"<title>{escape(title) or figure.layout.title.text or 'figure'}</title>"
    page = page.replace("<head>", f"<head>{head}", 1)
    if not embed:
        missing = f"Keep {library.name} beside this page: it draws the figure."
        script = f'if (!window.Plotly) document.body.insertAdjacentText("afterbegin", "{missing}");'
        page = page.replace("</body>", f"<script>{script}</script></body>")
    write_text(path, page)
    return Path(path)
