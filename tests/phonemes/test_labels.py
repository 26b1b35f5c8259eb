from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.alignments import Alignment
from amt_pipeline.phonemes.labels import frame_classes, require_as_many

GRID = MfccSpec().grid


def alignment(segments: Sequence[tuple[float, float, int]]) -> Alignment:
    start_s, end_s, classes = zip(*segments, strict=True)
    return Alignment(np.array(start_s), np.array(end_s), np.array(classes, np.uint8), ())


def test_frame_has_the_phone_at_its_start() -> None:
    found = frame_classes(alignment([(0, 0.02, 5), (0.02, 0.045, 6), (0.045, 0.07, 7)]), 7, GRID, 0)
    assert found.dtype == np.uint8
    assert found.tolist() == [5, 5, 6, 6, 6, 7, 7]


def test_decimal_times_meet_frames_as_they_are_written() -> None:
    # 0.29 x 100 is 28.999999999999996; a segment from 0.29 s on begins with frame 29.
    edges = [round(0.01 * number, 2) for number in range(200)]
    segments = [(one, two, number % 41) for number, (one, two) in
                enumerate(pairwise(edges))]  # fmt: skip
    found = frame_classes(alignment(segments), 199, GRID, 0)
    assert found.tolist() == [number % 41 for number in range(199)]


def test_what_no_segment_covers_is_silence() -> None:
    found = frame_classes(alignment([(0.01, 0.02, 5), (0.04, 0.05, 6)]), 8, GRID, 3)
    assert found.tolist() == [3, 5, 3, 3, 6, 3, 3, 3]


def test_segments_of_no_length_have_no_frame() -> None:
    found = frame_classes(alignment([(0, 0.01, 5), (0.01, 0.01, 6), (0.01, 0.03, 7)]), 3, GRID, 0)
    assert found.tolist() == [5, 7, 7]


def test_last_frames_follow_the_rule_of_the_grid() -> None:
    n_frames = GRID.frame_count(16000)
    assert n_frames == 1 + (16000 - 400) // 160
    found = frame_classes(alignment([(0, 0.97, 1), (0.97, 1.0, 2)]), n_frames, GRID, 0)
    assert found.tolist() == [1] * 97 + [2]
    assert len(frame_classes(alignment([(0, 1.0, 1)]), 0, GRID, 0)) == 0


def test_as_many_labels_as_frames() -> None:
    require_as_many("a.pt", 60, 60)
    with pytest.raises(CorpusError, match=r"a\.pt: has 59 labels for 60 frames"):
        require_as_many("a.pt", 59, 60)
