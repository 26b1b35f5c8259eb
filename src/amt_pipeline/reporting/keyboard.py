"""A piano keyboard as the vertical axis of a figure: note names, and stripes for the black keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amt_pipeline.reporting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")
BLACK_KEYS = frozenset({1, 3, 6, 8, 10})
STRIPE = "#F3F4F6"
OCTAVE_LINE = "#CBD0D8"


def note_name(pitch: int) -> str:
    """Return the name of a MIDI number in scientific notation: 60 -> `C4`, 21 -> `A0`."""
    octave, key = divmod(int(pitch), 12)
    return f"{NAMES[key]}{octave - 1}"


def black_keys(low: int, high: int) -> list[int]:
    """Return the MIDI numbers of the black keys from `low` to `high`, both included."""
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in BLACK_KEYS]


def named_keys(low: int, high: int) -> list[int]:
    """Return the MIDI numbers that an axis names: every C and every A, both ends included."""
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in (0, 9)]


def draw_keyboard(axes: Axes, low: int, high: int, *, stripes: bool = True) -> None:
    """Make the vertical axis a keyboard.

    Args:
        axes: Axes whose vertical unit is the MIDI number.
        low: Lowest MIDI number shown.
        high: Highest MIDI number shown.
        stripes: Shade the rows of the black keys, and rule a line below every C.
    """
    if stripes:
        for pitch in black_keys(low, high):
            axes.axhspan(pitch - 0.5, pitch + 0.5, color=STRIPE, linewidth=0, zorder=0)
        for pitch in range(low, high + 1):
            if pitch % 12 == 0:
                axes.axhline(pitch - 0.5, color=OCTAVE_LINE, linewidth=0.6, zorder=0.5)
    ticks = named_keys(low, high)
    axes.set_yticks(ticks, [note_name(pitch) for pitch in ticks])
    axes.set_ylim(low - 0.5, high + 0.5)
    style.style_axes(axes, grid="")
    for tick, text in zip(ticks, axes.get_yticklabels(), strict=True):
        text.set_fontsize(style.TEXT_PT - (1 if tick % 12 == 0 else 2))
        text.set_color(style.INK if tick % 12 == 0 else style.GREY)
