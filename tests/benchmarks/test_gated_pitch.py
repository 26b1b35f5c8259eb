"""What the benchmark of the gated network compares gives the same probabilities."""

from __future__ import annotations

from pathlib import Path

import gated_pitch
import numpy as np
import pytest
import torch
from transcribers import piano_notes, runs_of, threshold_for, untrained, windows_seen, write_piece

from amt_pipeline.transcription.inference import prepare
from amt_pipeline.transcription.predict import predict_frames

SECONDS = 0.6


@pytest.mark.parametrize("normalisation", ["recording", "window"])
@pytest.mark.parametrize("name", ["onset", "pitch"])
def test_the_plain_way_and_ours_agree(name: str, normalisation: str, tmp_path: Path) -> None:
    write_piece(tmp_path / "piece.flac", SECONDS)
    config = gated_pitch.task_config("reference", name, normalisation)
    frames = gated_pitch.frames_of(tmp_path / "piece.flac", config)
    plain = gated_pitch.plain_probabilities(config, frames)
    evaluator = prepare(untrained(config), config, torch.device("cpu"), "float32")
    only = runs_of(piano_notes(SECONDS)[0], len(frames), config.features)
    assert 5 < only.sum() < len(frames)
    ours = predict_frames(evaluator, frames, device=torch.device("cpu"), only=only)
    np.testing.assert_allclose(ours[only], plain[only], atol=5e-6)
    assert plain.std() > 1e-4


def test_works_count_seconds_of_audio(tmp_path: Path) -> None:
    write_piece(tmp_path / "piece.flac", SECONDS)
    for work in (
        gated_pitch.shared_work(tmp_path / "piece.flac", SECONDS, "onset", "recording", True),
        gated_pitch.window_work(tmp_path / "piece.flac", SECONDS, "cpu", "pitch"),
        gated_pitch.plain_work(tmp_path / "piece.flac", "onset", "window"),
    ):
        assert work() == pytest.approx(SECONDS, abs=0.02)


def test_threshold_is_that_of_the_wanted_share() -> None:
    onset = np.random.default_rng(0).random(5000).astype(np.float32)
    threshold = threshold_for(onset, 9, 0.6)
    assert windows_seen(onset > threshold, 9) == pytest.approx(0.6, abs=0.01)
