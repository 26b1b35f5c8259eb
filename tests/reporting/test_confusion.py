"""The confusion matrix and the recall of classes, as pictures."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from amt_pipeline.core.errors import UserError
from amt_pipeline.phonemes.classes import ARPABET, by_manner
from amt_pipeline.phonemes.confusion import class_table
from amt_pipeline.reporting import style
from amt_pipeline.reporting.confusion import NO_FRAMES, confusion_figure, confusion_image
from amt_pipeline.reporting.recalls import recall_figure, recall_image

MATRIX = np.array([[90, 10, 0, 0], [30, 50, 0, 20], [0, 0, 0, 0], [0, 1, 0, 999]])
NAMES = ("a", "b$", "<c>", "d")
GROUPS = {"front": (3, 1), "back": (0, 2)}


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_rows_are_shares_in_the_order_of_the_groups():
    figure = confusion_image(MATRIX, NAMES, groups=GROUPS, title="T")
    axes = figure.axes[0]
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares[1].filled(-1), [0.2, 0.5, 0.3, 0])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["d", "b$", "a", "<c>"]
    assert {"front", "back", "frames", "100", "20", "50", "30", "90", "10"} <= set(texts(axes))
    assert len(axes.lines) == 2  # one edge between the groups, either way


def test_a_class_without_frames_is_a_grey_row(pixels):
    with_gap = pixels(confusion_image(MATRIX, NAMES), NO_FRAMES)
    filled = MATRIX + np.diag([0, 0, 7, 0])
    assert with_gap > 10_000 and pixels(confusion_image(filled, NAMES), NO_FRAMES) < with_gap / 10
    assert confusion_image(np.zeros((2, 2)), ("a", "b")).axes


def test_pointing_at_a_cell_tells_its_frames():
    figure = confusion_figure(MATRIX, NAMES, groups=GROUPS, title="T")
    heat = figure.data[0]
    assert list(heat.customdata[1][2]) == ["b$", "a", 30, 100, 30.0]
    assert heat.z[1][2] == pytest.approx(0.3**0.5) and np.isnan(heat.z[3][0])
    assert list(figure.layout.xaxis.ticktext) == ["d", "b$", "a", "&lt;c&gt;"]
    assert [note.text for note in figure.layout.annotations] == ["front", "back"]
    assert len(figure.layout.shapes) == 2


@pytest.mark.parametrize(
    ("matrix", "names", "groups"),
    [
        (MATRIX[:3], NAMES, None),
        (MATRIX, NAMES[:3], None),
        (np.zeros((0, 0)), (), None),
        (MATRIX, NAMES, {"some": (0, 1)}),
        (MATRIX, NAMES, {"twice": (0, 1, 2, 3, 3)}),
    ],
)
@pytest.mark.parametrize("draw", [confusion_image, confusion_figure])
def test_what_does_not_fit_is_refused(draw, matrix, names, groups):
    with pytest.raises(UserError, match="confusion matrix"):
        draw(matrix, names, groups=groups)


def test_forty_one_classes_keep_their_names_apart(tmp_path):
    rng = np.random.default_rng(0)
    matrix = rng.integers(0, 30, (41, 41)) + np.diag(rng.integers(50, 2000, 41))
    figure = confusion_image(matrix, ARPABET.names, groups=by_manner(ARPABET.names), title="T")
    style.save_png(figure, tmp_path / "confusion.png")
    for labels in (figure.axes[0].get_xticklabels(), figure.axes[0].get_yticklabels()):
        boxes = [text.get_window_extent() for text in labels]
        assert len(boxes) == 41
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    headings = [t for t in figure.axes[0].texts if t.get_text() in by_manner(ARPABET.names)]
    spans = sorted((t.get_window_extent().x0, t.get_window_extent().x1) for t in headings)
    assert len(spans) == 8
    assert all(end < first for (_, end), (first, _) in pairwise(spans))


def test_recalls_are_sorted_and_absent_classes_left_out(pixels):
    table = class_table(MATRIX, NAMES)
    axes = recall_image(table, groups=GROUPS, title="T").axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["b$", "a", "d"]
    widths = sorted(bar.get_width() for bar in axes.patches)
    assert widths == pytest.approx([50, 90, 99.9])
    assert "a 30 %" in texts(axes) and "1,000" in texts(axes)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert set(legend) == {"front", "back", "precision"}
    figure = recall_figure(table, groups=GROUPS, title="T")
    assert [trace.name for trace in figure.data] == ["front", "back", "precision"]
    assert list(figure.layout.yaxis.ticktext) == ["b$", "a", "d"]
    assert figure.data[1].text[0].endswith("else said b$ 10 %")


def test_tables_from_a_csv_are_drawn_alike(tmp_path):
    table = class_table(MATRIX, NAMES)
    table.to_csv(tmp_path / "classes.csv", index=False)
    read = pd.read_csv(tmp_path / "classes.csv")
    own, other = (texts(recall_image(one).axes[0]) for one in (table, read))
    assert own == other
    assert [trace.name for trace in recall_figure(read).data] == ["recall", "precision"]


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_a_test_without_labels_is_drawn_as_such(tmp_path, groups):
    table = class_table(np.zeros((4, 4), np.int64), NAMES)
    image = recall_image(table, groups=groups, title="T")
    style.save_png(image, tmp_path / "recall.png")
    assert "no frame has a label" in texts(image.axes[0])
    figure = recall_figure(table, groups=groups)
    assert figure.layout.annotations[0].text == "no frame has a label"
