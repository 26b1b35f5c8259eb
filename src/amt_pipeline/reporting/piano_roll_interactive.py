"""A whole piece against the truth, to scroll through in a browser."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from amt_pipeline.reporting import style
from amt_pipeline.reporting.keyboard import STRIPE, black_keys, named_keys, note_name
from amt_pipeline.reporting.piano_roll import (
    MatchedNotes,
    bars,
    caption,
    pitch_range,
    typical_excerpt_s,
)

SHOWN_S = 20.0
"""Time in view when the page opens."""

KEY_PX = 7
"""Height of one key's row."""


def piano_roll_figure(
    notes: MatchedNotes, *, title: str = "", onset_tolerance_s: float | None = None
) -> Any:
    """Draw a whole piece; thousands of notes stay light, for each kind is one broken line.

    Args:
        notes: The piece.
        title: Shown above.
        onset_tolerance_s: What counted as a hit, for the caption.

    Returns:
        `plotly.graph_objects.Figure`, opened on the typical excerpt; dragging moves in time. Save
        it with `style.save_html(..., scroll_zoom=True)`.
    """
    import plotly.graph_objects as go

    low, high = pitch_range(notes)
    figure = go.Figure()
    hit, false = notes.reference_hit, notes.estimate_false
    _add_notes(figure, notes, hit, "hit", f"found ({notes.hits})")
    _add_notes(figure, notes, ~hit, "miss", f"missed ({notes.misses})")
    figure.add_scatter(
        x=notes.estimate_onset_s[false],
        y=notes.estimate_pitch[false],
        text=[note_name(pitch) for pitch in notes.estimate_pitch[false]],
        mode="markers",
        name=f"false alarm ({notes.false_alarms})",
        marker={"symbol": "x", "size": 7, "color": style.COLOURS["false_alarm"]},
        hovertemplate="%{text}, false alarm at %{x:.3f} s<extra></extra>",
    )
    _lay_out(figure, low, high, title)
    start_s = typical_excerpt_s(notes, SHOWN_S)
    figure.update_xaxes(
        title=f"time (s) | {caption(notes, onset_tolerance_s)}",
        range=[start_s, start_s + SHOWN_S],
        minallowed=-1.0,
        maxallowed=max(notes.end_s, SHOWN_S) + 1.0,
        showgrid=False,
    )
    return figure


def _lay_out(figure: Any, low: int, high: int, title: str) -> None:
    stripe = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "layer": "below"}
    look = {"fillcolor": STRIPE, "line": {"width": 0}}
    stripes = [
        {**stripe, **look, "y0": pitch - 0.5, "y1": pitch + 0.5} for pitch in black_keys(low, high)
    ]
    height_px = 170 + KEY_PX * (high - low + 1)
    layout = style.plotly_layout(title, shapes=stripes, dragmode="pan", height=height_px)
    figure.update_layout(**layout, hovermode="closest")
    ticks = named_keys(low, high)
    figure.update_yaxes(
        tickvals=ticks,
        ticktext=[note_name(pitch) for pitch in ticks],
        tickfont={"size": 11},
        range=[low - 0.5, high + 0.5],
        fixedrange=True,
        showgrid=False,
    )


def _add_notes(figure: Any, notes: MatchedNotes, rows: NDArray[Any], kind: str, name: str) -> None:
    """Add bodies (light) and onsets (strong) of some true notes as two broken lines."""
    colour = style.COLOURS[kind]
    left, right, pitch = bars(notes, rows)
    # A missed note is a thin line, a found one a broad one: shape says it as well as colour.
    width, verb = (KEY_PX - 1, "found") if kind == "hit" else (2, "missed")
    figure.add_scatter(
        x=_broken(left, right),
        y=_broken(pitch, pitch),
        mode="lines",
        line={"color": colour, "width": width},
        opacity=0.35 if kind == "hit" else 0.8,
        legendgroup=kind,
        showlegend=False,
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=_broken(left, left),
        y=_broken(pitch - 0.45, pitch + 0.45),
        text=[text for key in pitch for text in (note_name(key), note_name(key), "")],
        mode="lines",
        line={"color": colour, "width": 3},
        legendgroup=kind,
        name=name,
        hovertemplate=f"%{{text}}, {verb} at %{{x:.3f}} s<extra></extra>",
    )


def _broken(start: NDArray[Any], end: NDArray[Any]) -> NDArray[np.float32]:
    """Return `start, end, gap, start, end, gap, ...`: one line that is lifted between notes."""
    gap = np.full(len(start), np.nan)
    # Single precision (a quarter of a millisecond after an hour) halves the page.
    return np.stack([start, end, gap], axis=1).ravel().astype(np.float32)
