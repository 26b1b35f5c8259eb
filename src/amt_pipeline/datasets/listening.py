"""Pieces of previews: something to hear, something to see, as HTML that Kedro-Viz lets through.

Its sanitiser drops scripts but keeps `<audio>` and `<img>` with the data in their address; so a
preview needs no file beside it and works in the static site too.
"""

from __future__ import annotations

import base64
import html
import io
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from amt_pipeline.transcription.notes import Notes

CLIP_S = 8.0
# Half the CD rate: all that a preview has to prove, at half the size.
CLIP_RATE_HZ = 22_050
LEAD_IN_S = 0.25
DOTS_PER_INCH = 110
ROLL_SIZE_IN = (9.0, 3.2)
# Keys shown above and below the notes.
ROLL_MARGIN = 3


def clip_start_s(notes: Notes | None) -> float:
    """Return where a clip begins: just before the first note, or at 0 without one."""
    if notes is None or not len(notes):
        return 0.0
    return max(0.0, float(notes.onset_s[0]) - LEAD_IN_S)


def read_clip(path: str | PathLike[str], start_s: float, length_s: float) -> NDArray[np.float32]:
    """Read some seconds of a sound file as mono at `CLIP_RATE_HZ`.

    Args:
        path: Anything that libsndfile reads.
        start_s: First second; past the end gives an empty clip.
        length_s: Seconds to read, fewer where the file ends.

    Returns:
        float32 `[samples]`.
    """
    import soundfile
    import soxr

    with soundfile.SoundFile(path) as sound:
        sound.seek(min(round(start_s * sound.samplerate), sound.frames))
        frames = sound.read(round(length_s * sound.samplerate), dtype="float32", always_2d=True)
        mono = frames.mean(axis=1)
        return np.asarray(soxr.resample(mono, sound.samplerate, CLIP_RATE_HZ), np.float32)


def audio_element(samples: NDArray[np.float32]) -> str:
    """Return an HTML player with the sound in it.

    Args:
        samples: float32 `[samples]` at `CLIP_RATE_HZ`; what exceeds full scale is scaled down.
    """
    import soundfile

    samples = samples / np.float32(max(1.0, float(np.abs(samples).max(initial=0.0))))
    memory = io.BytesIO()
    soundfile.write(memory, samples, CLIP_RATE_HZ, format="FLAC", subtype="PCM_16")
    return f'<audio controls src="data:audio/flac;base64,{_base64(memory.getvalue())}"></audio>'


def roll_element(notes: Notes, start_s: float, end_s: float) -> str:
    """Return an HTML image of the piano roll from `start_s` to `end_s`.

    Colour says how hard a key was struck; every note is drawn as wide as it sounds.
    """
    from amt_pipeline.reporting.keyboard import draw_keyboard
    from amt_pipeline.reporting.style import new_figure

    figure = new_figure(*ROLL_SIZE_IN)
    axes = figure.subplots()
    shown = notes.within(start_s, end_s)
    keys = shown.pitch if len(shown) else np.array([60])
    draw_keyboard(axes, int(keys.min()) - ROLL_MARGIN, int(keys.max()) + ROLL_MARGIN)
    length_s = np.minimum(shown.offset_s, end_s) - shown.onset_s
    shade = figure_colours(shown.velocity)
    axes.barh(
        shown.pitch,
        length_s,
        left=shown.onset_s,
        height=0.8,
        color=shade,
        edgecolor="white",
        linewidth=0.4,
    )
    axes.set_xlim(start_s, end_s)
    axes.set_xlabel("seconds")
    return f'<img alt="piano roll" src="data:image/png;base64,{_base64(_png(figure))}">'


def figure_colours(velocity: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return a colour for each velocity, RGBA `[notes, 4]`, darker for louder."""
    from matplotlib import colormaps

    return np.asarray(colormaps["viridis_r"](0.15 + 0.85 * velocity.astype(np.float64) / 127))


def text_png(text: str) -> bytes:
    """Return a PNG that says `text`, for places that can only show an image."""
    from amt_pipeline.reporting.style import new_figure

    figure = new_figure(6.0, 1.0)
    figure.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
    return _png(figure)


def table_element(rows: list[tuple[str, str]]) -> str:
    """Return a two-column HTML table."""
    cells = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table>{cells}</table>"


def _png(figure: Figure) -> bytes:
    memory = io.BytesIO()
    figure.savefig(
        memory, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight", metadata={"Software": None}
    )
    return memory.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
