from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.keyboard import black_keys, draw_keyboard, named_keys, note_name
from amt_pipeline.reporting.piano_roll import (
    MatchedNotes,
    bars,
    caption,
    piano_roll_image,
    typical_excerpt_s,
)
from amt_pipeline.reporting.piano_roll_interactive import piano_roll_figure

Count = Callable[[Figure, str], int]


def scale(n: int = 120, *, missed: tuple[int, ...] = (), false_s: tuple[float, ...] = ()):
    """Two notes per second up and down an octave; some missed, some made up on C7."""
    onset_s = 0.5 * np.arange(n)
    pitch = 60 + np.abs(np.arange(n) % 24 - 12)
    hit = ~np.isin(np.arange(n), missed)
    return MatchedNotes(
        reference_onset_s=onset_s,
        reference_offset_s=onset_s + 0.4,
        reference_pitch=pitch,
        reference_hit=hit,
        estimate_onset_s=np.concatenate([onset_s[hit] + 0.01, false_s]),
        estimate_pitch=np.concatenate([pitch[hit], np.full(len(false_s), 96)]),
        estimate_false=np.arange(int(hit.sum()) + len(false_s)) >= hit.sum(),
    )


def test_note_names_and_keys() -> None:
    assert [note_name(pitch) for pitch in (21, 60, 61, 108)] == ["A0", "C4", "C♯4", "C8"]
    assert black_keys(60, 72) == [61, 63, 66, 68, 70]
    assert named_keys(57, 72) == [57, 60, 69, 72]


def test_keyboard_axis_is_named_and_striped(pixels: Count) -> None:
    figure = style.new_figure(3, 3)
    axes = figure.add_subplot()
    draw_keyboard(axes, 57, 72)
    assert [text.get_text() for text in axes.get_yticklabels()] == ["A3", "C4", "A4", "C5"]
    assert axes.get_ylim() == (56.5, 72.5)
    plain = style.new_figure(3, 3)
    draw_keyboard(plain.add_subplot(), 57, 72, stripes=False)
    assert pixels(figure, "#F3F4F6") > 50 * pixels(plain, "#F3F4F6")


def test_counts_and_scores() -> None:
    notes = scale(100, missed=(3, 4, 5, 6), false_s=(1.0, 2.0))
    assert (notes.hits, notes.misses, notes.false_alarms) == (96, 4, 2)
    assert notes.f1 == pytest.approx(96 / 99)
    assert caption(notes, 0.05) == "whole piece: P 98.0, R 96.0, F1 97.0 % (±50 ms)"
    assert caption(notes, None).endswith("F1 97.0 %")
    assert notes.end_s == pytest.approx(49.9)


def test_between_takes_notes_by_onset() -> None:
    part = scale(100, missed=(21,), false_s=(10.2, 30.0)).between(10.0, 12.0)
    assert part.reference_onset_s.tolist() == [10.0, 10.5, 11.0, 11.5]
    assert (part.hits, part.misses, part.false_alarms) == (3, 1, 1)


def test_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(UserError, match="reference arrays differ"):
        MatchedNotes(*(np.zeros(n) for n in (3, 3, 3, 2, 1, 1, 1)))
    with pytest.raises(UserError, match="estimate arrays differ"):
        MatchedNotes(*(np.zeros(n) for n in (3, 3, 3, 3, 1, 1, 2)))


def test_typical_excerpt_is_neither_the_worst_nor_an_empty_place() -> None:
    # Sound from 0 to 60 s; the first twenty seconds all wrong, 10 % missed in the rest.
    notes = scale(120, missed=(*range(40), *range(41, 120, 10)))
    start_s = typical_excerpt_s(notes, 10.0)
    part = notes.between(start_s, start_s + 10.0)
    assert abs(part.f1 - notes.f1) < 0.06
    late = MatchedNotes(
        *([np.array([50.0, 50.5])] * 2), [60, 60], [True] * 2, [50.0], [60], [False]
    )
    start_s = typical_excerpt_s(late, 10.0)
    assert start_s <= 50.0 < start_s + 10.0


def test_typical_excerpt_of_short_and_empty_pieces_begins_at_zero() -> None:
    assert typical_excerpt_s(scale(4)) == 0.0
    assert typical_excerpt_s(MatchedNotes(*([[]] * 7))) == 0.0


def test_image_shows_each_kind_in_its_colour(pixels: Count) -> None:
    vermillion, green = style.COLOURS["miss"], style.COLOURS["hit"]
    clean = piano_roll_image(scale(40), start_s=0)
    faulty = piano_roll_image(scale(40, missed=(3, 9), false_s=(2.2,)), start_s=0)
    assert pixels(clean, green) > 200
    # What is left of vermillion and of the cross in a clean picture is their key in the legend.
    assert pixels(faulty, vermillion) > pixels(clean, vermillion) + 50
    labels = [text.get_text() for text in faulty.axes[0].get_legend().get_texts()]
    assert labels == ["found (28)", "missed (2)", "false alarm (1)"]
    assert faulty.axes[0].lines[-1].get_xydata().tolist() == [[2.2, 96.0]]


def test_image_of_an_excerpt(pixels: Count) -> None:
    figure = piano_roll_image(scale(120), title="$x$", start_s=10.2, length_s=5)
    axes = figure.axes[0]
    assert axes.get_xlim() == pytest.approx((10.2, 15.2))
    assert axes.get_title(loc="left") == "$x$"
    assert axes.get_legend().get_texts()[0].get_text() == "found (10)"
    whole = piano_roll_image(scale(12), length_s=15)
    assert whole.axes[0].get_xlim() == pytest.approx((0, 5.9))


def test_image_without_any_note() -> None:
    figure = piano_roll_image(MatchedNotes(*([[]] * 7)), title="silence")
    figure.canvas.draw()
    assert figure.axes[0].get_ylim() == (47.5, 72.5)


def test_notes_of_no_length_can_be_seen() -> None:
    notes = MatchedNotes([1.0], [1.0], [60], [True], [1.0], [60], [False])
    left, right, pitch = bars(notes, notes.reference_hit)
    assert (left[0], pitch[0]) == (1.0, 60) and right[0] > 1.03


def test_interactive_roll_is_a_broken_line_per_kind() -> None:
    notes = scale(120, missed=(3, 9), false_s=(2.2,))
    figure = piano_roll_figure(notes, title="<i>", onset_tolerance_s=0.05)
    shown = {trace.name: trace for trace in figure.data if trace.name}
    assert set(shown) == {"found (118)", "missed (2)", "false alarm (1)"}
    missed = shown["missed (2)"]
    assert np.allclose(missed.x, [1.5, 1.5, np.nan, 4.5, 4.5, np.nan], equal_nan=True)
    assert missed.text[0] == "A4"
    bodies = figure.data[2]
    assert np.allclose(bodies.x[:2], [1.5, 1.9])
    assert list(shown["false alarm (1)"].text) == ["C7"]
    assert len(figure.data) == 5
    assert len(figure.layout.shapes) == len(black_keys(57, 99))
    assert figure.layout.title.text == "&lt;i&gt;"
    assert "F1" in figure.layout.xaxis.title.text


def test_interactive_roll_of_thousands_of_notes_stays_small() -> None:
    assert len(piano_roll_figure(scale(5000)).to_json()) < 600_000
