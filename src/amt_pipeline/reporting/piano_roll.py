"""A transcription against the truth: which notes were hit, missed or made up.

What is scored is the onset, so the onset is drawn strong and the body of the note light. Hits,
misses and false alarms differ in shape as well as in colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.keyboard import draw_keyboard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORTEST_DRAWN_S = 0.04
"""Width given to notes that are shorter, so that they can be seen."""

EXCERPT_S = 15.0
MARGIN_KEYS = 3


@dataclass(frozen=True)
class MatchedNotes:
    """Truth and transcription of one piece, with what became of each note.

    Attributes:
        reference_onset_s: Onsets of the true notes, seconds, `[n]`.
        reference_offset_s: Their ends, seconds, `[n]`.
        reference_pitch: Their MIDI numbers, `[n]`.
        reference_hit: Whether a transcribed note was matched to it, `[n]`.
        estimate_onset_s: Onsets of the transcribed notes, seconds, `[m]`.
        estimate_pitch: Their MIDI numbers, `[m]`.
        estimate_false: Whether it was matched to no true note, `[m]`.
    """

    reference_onset_s: NDArray[Any]
    reference_offset_s: NDArray[Any]
    reference_pitch: NDArray[Any]
    reference_hit: NDArray[Any]
    estimate_onset_s: NDArray[Any]
    estimate_pitch: NDArray[Any]
    estimate_false: NDArray[Any]

    def __post_init__(self) -> None:
        for side in ("reference", "estimate"):
            names = [name for name in self.__dataclass_fields__ if name.startswith(side)]
            for name in names:
                kind = bool if name.endswith(("hit", "false")) else float
                object.__setattr__(self, name, np.asarray(getattr(self, name)).astype(kind))
            if len({getattr(self, name).shape for name in names}) > 1:
                raise UserError("piano roll", f"the {side} arrays differ in length")

    @cached_property
    def hits(self) -> int:
        """Number of true notes that were found."""
        return int(self.reference_hit.sum())

    @cached_property
    def misses(self) -> int:
        """Number of true notes that were not."""
        return len(self.reference_hit) - self.hits

    @cached_property
    def false_alarms(self) -> int:
        """Number of transcribed notes that are not true."""
        return int(self.estimate_false.sum())

    @property
    def f1(self) -> float:
        """F1 of the notes: hits over the mean of both counts; 0 without any note."""
        return self.hits / max(self.hits + 0.5 * (self.misses + self.false_alarms), 1e-9)

    @property
    def end_s(self) -> float:
        """When the last note ends, seconds."""
        ends = np.concatenate([self.reference_offset_s, self.estimate_onset_s, [0.0]])
        return float(ends.max())

    def between(self, start_s: float, end_s: float) -> MatchedNotes:
        """Return the notes whose onset lies in `[start_s, end_s)`."""
        true = (self.reference_onset_s >= start_s) & (self.reference_onset_s < end_s)
        guess = (self.estimate_onset_s >= start_s) & (self.estimate_onset_s < end_s)
        return MatchedNotes(
            **{
                name: getattr(self, name)[true if name.startswith("reference") else guess]
                for name in self.__dataclass_fields__
            }
        )


def typical_excerpt_s(notes: MatchedNotes, length_s: float = EXCERPT_S) -> float:
    """Return the start of the excerpt that shows best how the piece went, in seconds.

    Among the excerpts (one per second) with at least the median number of notes, the one whose F1
    is nearest to that of the whole piece: neither the proudest place nor the worst.
    """
    last_s = max(notes.end_s - length_s, 0.0)
    starts = np.append(np.arange(0.0, last_s, 1.0), last_s)

    def count(onset_s: NDArray[Any]) -> NDArray[Any]:
        onset_s = np.sort(onset_s)
        return np.searchsorted(onset_s, starts + length_s) - np.searchsorted(onset_s, starts)

    hits = count(notes.reference_onset_s[notes.reference_hit])
    misses = count(notes.reference_onset_s[~notes.reference_hit])
    false_alarms = count(notes.estimate_onset_s[notes.estimate_false])
    f1 = hits / np.maximum(hits + 0.5 * (misses + false_alarms), 1e-9)
    dense = hits + misses >= max(np.median(hits + misses), 1)
    return float(starts[np.argmin(np.where(dense, np.abs(f1 - notes.f1), np.inf))])


def piano_roll_image(
    notes: MatchedNotes,
    *,
    title: str = "",
    start_s: float | None = None,
    length_s: float = EXCERPT_S,
    onset_tolerance_s: float | None = None,
) -> Figure:
    """Draw an excerpt of a transcription against the truth.

    Args:
        notes: The whole piece.
        title: Shown above, with the scores of the whole piece beside it.
        start_s: Start of the excerpt; None chooses a typical one.
        length_s: Length of the excerpt.
        onset_tolerance_s: What counted as a hit, for the caption.

    Returns:
        The figure, to be saved by `style.save_png`.
    """
    start_s = typical_excerpt_s(notes, length_s) if start_s is None else start_s
    end_s = min(start_s + length_s, max(notes.end_s, start_s + 1.0))
    shown = notes.between(start_s, end_s)
    low, high = pitch_range(shown)
    figure = style.new_figure(9.0, min(5.4, max(2.6, 1.3 + 0.065 * (high - low))))
    axes = figure.add_subplot()
    draw_keyboard(axes, low, high)
    # Notes that began before the excerpt and sound into it: context, scored outside.
    early = (notes.reference_onset_s < start_s) & (notes.reference_offset_s > start_s)
    _draw_bodies(axes, notes, early, style.GREY, 0.18)
    _draw_notes(axes, shown)
    axes.set_xlim(start_s, end_s)
    style.style_axes(axes, x="time (s)", grid="")
    style.legend_above(axes, title=title)
    axes.annotate(
        caption(notes, onset_tolerance_s),
        xy=(1, 1),
        xycoords="axes fraction",
        xytext=(0, 5),
        textcoords="offset points",
        ha="right",
        fontsize=style.TEXT_PT - 1,
        color=style.GREY,
    )
    return figure


def _draw_notes(axes: Axes, notes: MatchedNotes) -> None:
    hit, false = notes.reference_hit, notes.estimate_false
    _draw_bodies(axes, notes, hit, style.COLOURS["hit"], 0.38)
    _draw_bodies(axes, notes, ~hit, style.COLOURS["miss"], 0.0)
    counts = {"hit": notes.hits, "miss": notes.misses}
    for name, rows in (("hit", hit), ("miss", ~hit)):
        onset_s, pitch = notes.reference_onset_s[rows], notes.reference_pitch[rows]
        axes.vlines(
            onset_s,
            pitch - 0.5,
            pitch + 0.5,
            color=style.COLOURS[name],
            linewidth=2.2,
            label=f"{'found' if name == 'hit' else 'missed'} ({counts[name]})",
            zorder=3,
        )
    axes.plot(
        notes.estimate_onset_s[false],
        notes.estimate_pitch[false],
        linestyle="none",
        marker="x",
        markersize=5,
        markeredgewidth=1.4,
        color=style.COLOURS["false_alarm"],
        label=f"false alarm ({notes.false_alarms})",
        zorder=4,
    )


def _draw_bodies(
    axes: Axes, notes: MatchedNotes, rows: NDArray[Any], colour: str, alpha: float
) -> None:
    """Draw notes as bars of one key's height, filled lightly or outlined only (`alpha` 0)."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba

    left, right, pitch = bars(notes, rows)
    bottom, top = pitch - 0.42, pitch + 0.42
    corners = [(left, bottom), (left, top), (right, top), (right, bottom)]
    boxes = np.stack([np.stack(corner, axis=-1) for corner in corners], axis=1)
    edge = to_rgba(colour, 0.9 if alpha == 0 else 0.0)
    boxes_drawn = PolyCollection(
        list(boxes), facecolors=to_rgba(colour, alpha), edgecolors=edge, linewidths=0.9, zorder=2
    )
    axes.add_collection(boxes_drawn)


def bars(notes: MatchedNotes, rows: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return left and right end (seconds) and MIDI number of the true notes in `rows`."""
    left = notes.reference_onset_s[rows]
    right = np.maximum(notes.reference_offset_s[rows], left + SHORTEST_DRAWN_S)
    return left, right, notes.reference_pitch[rows]


def pitch_range(notes: MatchedNotes) -> tuple[int, int]:
    """Return the lowest and highest MIDI number to show, some keys of margin included."""
    pitches = np.concatenate([notes.reference_pitch, notes.estimate_pitch])
    if pitches.size == 0:
        return 48, 72
    return int(pitches.min()) - MARGIN_KEYS, int(pitches.max()) + MARGIN_KEYS


def caption(notes: MatchedNotes, onset_tolerance_s: float | None) -> str:
    """Return the scores of the whole piece in a line."""
    precision = notes.hits / max(notes.hits + notes.false_alarms, 1)
    recall = notes.hits / max(notes.hits + notes.misses, 1)
    scores = ", ".join(
        f"{name} {style.percent(value, 1)}"
        for name, value in (("P", precision), ("R", recall), ("F1", notes.f1))
    )
    tolerance = f" (±{1000 * onset_tolerance_s:.0f} ms)" if onset_tolerance_s else ""
    return f"whole piece: {scores} %{tolerance}"
