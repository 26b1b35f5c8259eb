"""Labels against a restatement frame by frame, and which windows make an epoch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from amt_pipeline.features.grid import FrameGrid
from amt_pipeline.store.windows import Windows
from amt_pipeline.transcription.labels import FrameLabels, LabelConfig
from amt_pipeline.transcription.notes import LOWEST_PITCH, Notes

# Ten frames per second: frame 7 is 0.7 to 0.8 s.
GRID = FrameGrid(sample_rate=1000, hop_samples=100)


def notes_at(*strikes: tuple[float, int]) -> Notes:
    """Notes at (frame, key); fractions of a frame are allowed."""
    onset_s = np.array([frame for frame, _ in strikes], float) / 10
    return Notes.from_arrays(onset_s, onset_s + 1, [key + LOWEST_PITCH for _, key in strikes])


def labels_of(tables: list[Notes], n_frames: list[int], **config: object) -> FrameLabels:
    return FrameLabels(tables, np.array(n_frames), GRID, LabelConfig.model_validate(config))


def windows(*pairs: tuple[int, int]) -> Windows:
    recording, start = np.array(pairs, np.int64).reshape(-1, 2).T
    return Windows(recording, start)


def covered(found: Windows, recording: int, length: int, count: int) -> np.ndarray:
    """How often each frame of a recording lies in a window."""
    times = np.zeros(count, int)
    for start in found.start[found.recording == recording]:
        times[max(start, 0) : max(start + length, 0)] += 1
    return times


Strikes = st.lists(st.tuples(st.integers(0, 45), st.integers(0, 87)), max_size=12)


@given(
    strikes=Strikes,
    late=st.floats(0.05, 0.95),
    n_frames=st.integers(1, 40),
    starts=st.lists(st.integers(-20, 50), min_size=1, max_size=4),
    length=st.integers(1, 15),
)
def test_grades_are_those_of_every_frame_looked_at_alone(
    strikes: list[tuple[int, int]], late: float, n_frames: int, starts: list[int], length: int
) -> None:
    labels = labels_of([notes_at(*((f + late, k) for f, k in strikes))], [n_frames])
    some = windows(*((0, start) for start in starts))
    onset, pitch = labels.onset_grades(some, length), labels.pitch_grades(some, length)
    assert onset.shape == (len(starts), length)
    assert pitch.shape == (len(starts), length, 88)
    inside = [(frame, key) for frame, key in strikes if frame < n_frames]
    for row, start in enumerate(starts):
        for position in range(length):
            frame = start + position
            wanted = np.zeros(88, int)
            for struck, key in inside:
                wanted[key] = max(wanted[key], 3 - abs(frame - struck))
            assert pitch[row, position].tolist() == wanted.tolist()
            assert onset[row, position] == wanted.max()


def test_frame_of_an_onset_is_the_floor_of_its_time() -> None:
    labels = labels_of([notes_at((2.0, 0), (2.99, 1), (3.0, 2))], [10])
    grades = labels.pitch_grades(windows((0, 0)), 6)[0]
    assert grades[:, 0].tolist() == [1, 2, 3, 2, 1, 0]
    assert grades[:, 1].tolist() == grades[:, 0].tolist()
    assert grades[:, 2].tolist() == [0, 1, 2, 3, 2, 1]


def test_neighbouring_onsets_keep_the_higher_grade() -> None:
    labels = labels_of([notes_at((4, 0), (5, 0), (7, 3))], [20])
    assert labels.onset_grades(windows((0, 0)), 11)[0].tolist() == [0, 0, 1, 2, 3, 3, 2, 3, 2, 1, 0]
    assert labels.pitch_grades(windows((0, 3)), 5)[0, :, 0].tolist() == [2, 3, 3, 2, 1]


@pytest.mark.parametrize(("widening", "frames"), [(0, [5]), (1, [4, 5, 6]), (2, [3, 4, 5, 6, 7])])
def test_widening_says_which_grades_are_positive(widening: int, frames: list[int]) -> None:
    labels = labels_of([notes_at((5, 0))], [20], widening=widening)
    positive = labels.positive(labels.onset_grades(windows((0, 0)), 11))
    assert np.flatnonzero(positive[0]).tolist() == frames


@pytest.mark.parametrize(("end", "n_frames"), [("last_onset", [13, 0, 8]), ("recording", [20] * 3)])
def test_labels_end_with_the_last_onset_or_the_recording(end: str, n_frames: list[int]) -> None:
    tables = [notes_at((3, 0), (12, 1)), Notes.empty(), notes_at((7, 0), (33, 1))]
    labels = labels_of(tables, [20, 20, 20], end=end)
    assert labels.n_frames.tolist() == n_frames
    assert labels.onset_frames[2].tolist() == [7]  # what is struck after the end is left out


def test_onset_windows_are_centred_on_every_frame_with_an_onset() -> None:
    tables = [notes_at((0, 5), (9, 1), (9, 60)), Notes.empty(), notes_at((4, 7))]
    labels = labels_of(tables, [12, 12, 12], sampling="onset_windows")
    found = labels.training_windows(7, seed=1, epoch=0)
    assert list(zip(found.recording, found.start, strict=True)) == [(0, -3), (0, 6), (2, 1)]
    same = labels.onset_centred_windows(7)
    assert same.start.tolist() == found.start.tolist()
    assert same.recording.tolist() == found.recording.tolist()


def test_onset_plus_keeps_all_onsets_and_a_tenth_of_the_rest() -> None:
    count = 20000
    positive = set(range(50, count, 100))
    tables = [notes_at(*((f, 3) for f in positive))]
    labels = labels_of(tables, [count], sampling="onset_plus", end="recording")
    found = labels.training_windows(7, seed=1, epoch=0).start + 3
    assert positive <= set(found.tolist())
    assert len(set(found.tolist())) == len(found)
    share = (len(found) - len(positive)) / (count - len(positive))
    assert share == pytest.approx(0.1, abs=0.01)
    later = labels.training_windows(7, seed=1, epoch=5).start + 3
    assert later.tolist() == found.tolist()
    other = labels.training_windows(7, seed=2, epoch=0).start + 3
    assert other.tolist() != found.tolist()


@pytest.mark.parametrize(("fraction", "centres"), [(0.0, [1, 4]), (1.0, [0, 1, 2, 3, 4])])
def test_share_of_frames_without_onset(fraction: float, centres: list[int]) -> None:
    labels = labels_of([notes_at((1, 0), (4, 0))], [50], negative_fraction=fraction)
    assert (labels.training_windows(5, seed=1, epoch=0).start + 2).tolist() == centres


@given(
    count=st.integers(0, 300),
    half=st.integers(0, 40),
    seed=st.integers(0, 3),
    epoch=st.integers(0, 50),
)
def test_runs_cover_every_frame_in_every_epoch(
    count: int, half: int, seed: int, epoch: int
) -> None:
    length = 2 * half + 1
    labels = labels_of([Notes.empty()], [count], sampling="runs", end="recording")
    found = labels.training_windows(length, seed=seed, epoch=epoch)
    assert len(found) == -(-count // length)
    assert (covered(found, 0, length, count) > 0).all()
    # No run is wasted on what lies outside, unless the whole recording is shorter than a run.
    assert ((found.start >= 0) & (found.start <= max(count - length, 0))).all()


def test_runs_shift_from_epoch_to_epoch_and_with_the_recording() -> None:
    labels = labels_of([Notes.empty()] * 2, [110, 110], sampling="runs", end="recording")
    epochs = [labels.training_windows(21, seed=1, epoch=epoch) for epoch in range(20)]
    phases = {tuple(found.start[found.recording == 0]) for found in epochs}
    # Runs of 21 frames end to end, clipped at the ends: 126 - 110 = 16 frames of room.
    assert phases <= {tuple(np.clip(np.arange(6) * 21 - p, 0, 89)) for p in range(17)}
    assert len(phases) > 8
    assert any((e.start[e.recording == 0] != e.start[e.recording == 1]).any() for e in epochs)
    again = labels.training_windows(21, seed=1, epoch=3)
    assert again.start.tolist() == epochs[3].start.tolist()


@pytest.mark.parametrize(("stride", "times"), [(5, {1}), (1, set(range(1, 6)))])
def test_tiled_windows_cover_the_labelled_frames(stride: int, times: set[int]) -> None:
    labels = labels_of([notes_at((16, 0)), Notes.empty()], [30, 30], end="last_onset")
    found = labels.tiled_windows(5, stride)
    assert set(found.recording) == {0}
    assert set(covered(found, 0, 5, 17)) == times


def test_no_recordings_give_no_windows() -> None:
    labels = labels_of([], [])
    for found in (
        labels.training_windows(7, seed=1, epoch=0),
        labels.onset_centred_windows(7),
        labels.tiled_windows(7, 7),
    ):
        assert len(found) == 0


@pytest.mark.parametrize(
    "wrong", [{"widening": 3}, {"sampling": "all"}, {"negative_fraction": 1.5}, {"width": 1}]
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        LabelConfig.model_validate(wrong)


def test_fixed_phase_is_that_of_the_first_epoch() -> None:
    starts = {}
    for phase in ("moving", "fixed"):
        labels = labels_of(
            [notes_at((5, 3))] * 9, [50] * 9, sampling="runs", end="recording", phase=phase
        )
        drawn = [labels.training_windows(7, seed=1, epoch=epoch) for epoch in range(3)]
        starts[phase] = [epoch.start.tolist() for epoch in drawn]
    assert starts["fixed"] == [starts["moving"][0]] * 3
    assert starts["moving"][0] != starts["moving"][1] != starts["moving"][2]
