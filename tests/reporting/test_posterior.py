from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.posterior import NOT_ASKED, posterior_image

Count = Callable[[Figure, str], int]
HOP_S = 0.01


def outputs() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """1,000 frames with one sure onset of C4 at 2.00 s and one of G4 at 7.50 s."""
    onset, pitch = np.zeros(1000, np.float16), np.zeros((1000, 88), np.float16)
    for frame, key in ((200, 39), (750, 46)):
        onset[frame - 1 : frame + 2] = 1
        pitch[frame - 2 : frame + 3, key] = 1
    return onset, pitch


def test_excerpt_shows_outputs_under_true_notes() -> None:
    figure = posterior_image(
        *outputs(), HOP_S, reference_onset_s=[2.0, 7.5], reference_pitch=[60, 67],
        title="piece", start_s=1.0, length_s=4.0, onset_threshold=0.5,
    )  # fmt: skip
    above, below = figure.axes[:2]
    assert below.get_xlim() == pytest.approx((1.0, 5.0))
    image = below.images[0]
    assert image.get_extent() == pytest.approx((1.0, 5.0, 20.5, 108.5))
    drawn = np.asarray(image.get_array())
    assert drawn.shape == (88, 400)
    assert np.argwhere(drawn.max(axis=1) > 0.5).ravel().tolist() == [39]
    assert below.lines[-1].get_xydata().tolist() == [[2.0, 60.0]]
    labels = [text.get_text() for text in above.get_legend().get_texts()]
    assert labels == ["onset network", "threshold 0.5", "true onset"]
    # A ring sits on the frame that holds its onset, on the row of its key.
    column = int((2.0 - 1.0) / HOP_S)
    assert drawn[60 - 21, column] == 1


def test_keys_shown_are_those_in_use() -> None:
    figure = posterior_image(*outputs(), HOP_S, start_s=0, length_s=10)
    assert figure.axes[1].get_ylim() == (57.5, 69.5)
    silent = posterior_image(np.zeros(10), np.zeros((10, 88)), HOP_S)
    assert silent.axes[1].get_ylim() == (20.5, 108.5)
    lowest = posterior_image(*outputs(), HOP_S, lowest_pitch=0)
    assert lowest.axes[1].get_ylim() == (36.5, 48.5)


def test_colours_say_probability(pixels: Count) -> None:
    loud = posterior_image(*outputs(), HOP_S, reference_onset_s=[2.0], reference_pitch=[60])
    assert pixels(loud, style.VERMILLION) > 20
    plain = posterior_image(*outputs(), HOP_S)
    assert pixels(plain, style.VERMILLION) == 0


def test_frames_that_were_not_evaluated_are_shaded(pixels: Count) -> None:
    onset, pitch = outputs()
    asked = onset > 0.5
    figure = posterior_image(onset, pitch, HOP_S, evaluated=asked, start_s=1.0, length_s=4.0)
    drawn = np.ma.masked_invalid(figure.axes[1].images[0].get_array())
    assert drawn.mask.all(axis=0).tolist() == (~asked[100:500]).tolist()
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert labels == ["pitch network not evaluated"]
    everywhere = posterior_image(onset, pitch, HOP_S, evaluated=np.ones(1000, bool))
    assert pixels(figure, NOT_ASKED) > 100 * pixels(everywhere, NOT_ASKED)
    assert not everywhere.axes[1].get_legend().get_texts()
    assert onset[200] == pitch[200, 39] == 1  # what was given is not changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"onset_probability": np.zeros(7)}, "shapes onset"),
        ({"pitch_probability": np.zeros(1000)}, "shapes onset"),
        ({"start_s": 99.0}, "nothing to draw from 99 s on: 10.00 s of frames"),
        ({"reference_onset_s": [1.0]}, "differ in length"),
    ],
)
def test_input_that_does_not_fit_is_an_error(change: dict[str, Any], message: str) -> None:
    onset, pitch = outputs()
    given = {"onset_probability": onset, "pitch_probability": pitch, "seconds_per_frame": HOP_S}
    with pytest.raises(UserError, match=message):
        posterior_image(**(given | change))
