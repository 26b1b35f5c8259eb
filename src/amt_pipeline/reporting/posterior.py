"""What the networks said, under the true notes: where an error of the transcription comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.keyboard import draw_keyboard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST_PITCH = 21
"""MIDI number of the first key of a piano, A0."""

NOT_ASKED = "#eeeeee"
"""Frames where the pitch network was not evaluated: outside onset runs nothing depends on it."""

EXCERPT_S = 8.0
MARGIN_KEYS = 2


def posterior_image(
    onset_probability: ArrayLike,
    pitch_probability: ArrayLike,
    seconds_per_frame: float,
    *,
    evaluated: ArrayLike | None = None,
    reference_onset_s: ArrayLike | None = None,
    reference_pitch: ArrayLike | None = None,
    title: str = "",
    start_s: float = 0.0,
    length_s: float = EXCERPT_S,
    onset_threshold: float | None = None,
    lowest_pitch: int = LOWEST_PITCH,
) -> Figure:
    """Draw onset and pitch probabilities over time, with the true onsets on top.

    Args:
        onset_probability: Probability of an onset by frame, `[frames]`.
        pitch_probability: Probability of each key by frame, `[frames, keys]`.
        seconds_per_frame: Hop; frame `i` covers `[i, i + 1)` hops.
        evaluated: Whether the pitch network was asked about a frame, `[frames]`; frames where it
            was not are shaded. None is everywhere.
        reference_onset_s: True onsets, seconds, `[n]`; None draws none.
        reference_pitch: Their MIDI numbers, `[n]`.
        title: Shown above.
        start_s: Start of the excerpt; only its frames are read, so memory-mapped arrays are fine.
        length_s: Length of the excerpt.
        onset_threshold: Drawn as a dashed line.
        lowest_pitch: MIDI number of the first key of `pitch_probability`.

    Returns:
        The figure, to be saved by `style.save_png`.

    Raises:
        UserError: The arrays do not belong together, or the excerpt lies outside.
    """
    onset, pitch = np.asanyarray(onset_probability), np.asanyarray(pitch_probability)
    first, last = _frames(onset, pitch, start_s, length_s, seconds_per_frame)
    onset, pitch = onset[first:last].astype(float), pitch[first:last].astype(float)
    asked = np.ones(len(onset), bool)
    if evaluated is not None:
        asked = np.asanyarray(evaluated)[first:last].astype(bool)
    pitch[~asked] = np.nan
    edges_s = seconds_per_frame * np.arange(first, last + 1)
    true_s, true_pitch = _within(reference_onset_s, reference_pitch, edges_s[0], edges_s[-1])
    figure = style.new_figure(9.0, 5.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1, 3.2])
    _draw_onsets(above, onset, edges_s, np.unique(true_s), onset_threshold)
    style.legend_above(above, title=title)
    image = _draw_pitches(below, pitch, edges_s, lowest_pitch, true_s, true_pitch)
    if not asked.all():
        below.fill_between([], [], color=NOT_ASKED, label="pitch network not evaluated")
    style.legend_above(below)
    # Beside both panels, so that they keep one width and one time axis.
    bar = figure.colorbar(image, ax=[above, below], fraction=0.03, pad=0.01, aspect=40)
    bar.set_label("pitch probability", fontsize=style.TEXT_PT, color=style.INK)
    bar.ax.tick_params(labelsize=style.TEXT_PT - 1)
    bar.outline.set_visible(False)
    return figure


def _frames(
    onset: NDArray[Any], pitch: NDArray[Any], start_s: float, length_s: float, hop_s: float
) -> tuple[int, int]:
    if onset.ndim != 1 or pitch.ndim != 2 or len(onset) != len(pitch):
        shapes = f"onset {onset.shape}, pitch {pitch.shape}"
        raise UserError(
            "posterior figure", f"probabilities of shapes {shapes}, not [frames], [frames, keys]"
        )
    first = max(0, int(start_s / hop_s))
    last = min(len(onset), int(np.ceil((start_s + length_s) / hop_s)))
    if first >= last:
        end_s = len(onset) * hop_s
        raise UserError(
            "posterior figure", f"nothing to draw from {start_s:g} s on: {end_s:.2f} s of frames"
        )
    return first, last


def _within(
    onset_s: ArrayLike | None, pitch: ArrayLike | None, start_s: float, end_s: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    onset_s = np.asarray([] if onset_s is None else onset_s, dtype=float)
    pitch = np.asarray([] if pitch is None else pitch, dtype=float)
    if onset_s.shape != pitch.shape:
        raise UserError("posterior figure", "the reference arrays differ in length")
    rows = (onset_s >= start_s) & (onset_s < end_s)
    return onset_s[rows], pitch[rows]


def _draw_onsets(
    axes: Axes,
    onset: NDArray[Any],
    edges_s: NDArray[Any],
    true_s: NDArray[Any],
    threshold: float | None,
) -> None:
    axes.stairs(onset, edges_s, fill=True, color=style.BLUE, alpha=0.3)
    axes.stairs(onset, edges_s, color=style.BLUE, linewidth=0.8, label="onset network")
    if threshold is not None:
        axes.axhline(threshold, color=style.GREY, ls="--", lw=0.9, label=f"threshold {threshold:g}")
    if true_s.size:
        axes.plot(
            true_s,
            np.full(len(true_s), -0.09),
            linestyle="none",
            marker="^",
            markersize=4,
            color=style.VERMILLION,
            label="true onset",
        )
    axes.set_ylim(-0.17, 1.04)
    axes.set_yticks([0, 0.5, 1])
    style.style_axes(axes, y="onset\nprobability")


def _draw_pitches(
    axes: Axes,
    pitch: NDArray[Any],
    edges_s: NDArray[Any],
    lowest_pitch: int,
    true_s: NDArray[Any],
    true_pitch: NDArray[Any],
) -> Any:
    # The colour map goes from white to dark through one hue: light paper, no false contours.
    from matplotlib import colormaps

    image = axes.pcolorfast(
        (edges_s[0], edges_s[-1]),
        (lowest_pitch - 0.5, lowest_pitch + pitch.shape[1] - 0.5),
        pitch.T,
        cmap=colormaps["Blues"].with_extremes(bad=NOT_ASKED),
        vmin=0,
        vmax=1,
    )
    if true_s.size:
        axes.plot(
            true_s,
            true_pitch,
            linestyle="none",
            marker="o",
            markersize=5.5,
            markerfacecolor="none",
            markeredgecolor=style.VERMILLION,
            markeredgewidth=1.1,
            label="true note",
        )
    low, high = _keys_shown(pitch, lowest_pitch, true_pitch)
    draw_keyboard(axes, low, high, stripes=False)
    axes.set_xlim(edges_s[0], edges_s[-1])
    style.style_axes(axes, x="time (s)", grid="")
    return image


def _keys_shown(
    pitch: NDArray[Any], lowest_pitch: int, true_pitch: NDArray[Any]
) -> tuple[int, int]:
    """Return the range of keys in which anything is said or true."""
    active = lowest_pitch + np.flatnonzero(np.nan_to_num(pitch).max(axis=0) > 0.2)
    keys = np.concatenate([active, true_pitch])
    if keys.size == 0:
        return lowest_pitch, lowest_pitch + pitch.shape[1] - 1
    low = max(lowest_pitch, int(keys.min()) - MARGIN_KEYS)
    return low, min(lowest_pitch + pitch.shape[1] - 1, int(keys.max()) + MARGIN_KEYS)
