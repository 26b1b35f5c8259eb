"""Whole recordings: how often each frame is voted on, and what a plain loop says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.transcription.model_folder import ModelFolder
from amt_pipeline.transcription.predict import default_stride, predict_frames, window_starts

CPU = torch.device("cpu")


def votes(n_frames: int, length: int, stride: int) -> list[int]:
    count = np.zeros(n_frames, int)
    for start in window_starts(n_frames, length, stride):
        count[max(start, 0) : max(start + length, 0)] += 1
    return count.tolist()


def test_every_frame_gets_the_published_votes() -> None:
    assert votes(20, 7, 1) == [4, 5, 6, *[7] * 14, 6, 5, 4]
    assert votes(30, 9, 1) == [5, 6, 7, 8, *[9] * 22, 8, 7, 6, 5]


@pytest.mark.parametrize("n_frames", [1, 2, 3, 6, 7, 8])
def test_short_recordings_are_padded_like_long_ones(n_frames: int) -> None:
    # Five frames of padding on either side, windows of 11 frames with 7 labels in the middle.
    padded = [[f for f in range(s + 2 - 5, s + 9 - 5) if 0 <= f < n_frames]
              for s in range(n_frames + 10 - 11 + 1)]  # fmt: skip
    wanted = [sum(frame in window for window in padded) for frame in range(n_frames)]
    assert votes(n_frames, 7, 1) == wanted
    assert min(wanted) > 0


@pytest.mark.parametrize(("length", "stride"), [(201, 101), (7, 7), (7, 2), (7, 5), (1, 1)])
@pytest.mark.parametrize("n_frames", [1, 100, 101, 102, 201, 202, 500])
def test_every_frame_gets_a_vote_at_any_stride(length: int, stride: int, n_frames: int) -> None:
    counts = votes(n_frames, length, stride)
    assert min(counts) >= max(1, length // stride // 2)
    assert max(counts) <= -(-length // stride)


def test_default_stride_is_the_published_one_for_short_windows() -> None:
    assert [default_stride(n) for n in (5, 15, 17, 201)] == [1, 1, 9, 101]


def plain(network: Any, frames: np.ndarray, config: Any, stride: int) -> np.ndarray:
    """One window at a time, in double precision."""
    n, length, around = len(frames), config.model.label_frames, network.context_frames
    padded = np.pad(frames, ((1000, 1000), (0, 0), (0, 0)))
    peak = torch.from_numpy(frames.max(axis=(0, 1)).astype(np.float32))[None]
    total: list[list[np.ndarray]] = [[] for _ in range(n)]
    for start in window_starts(n, length, stride):
        window = padded[1000 + start - around : 1000 + start + length + around]
        scaled = config.input.apply(torch.from_numpy(window)[None], peak, "cqt")
        with torch.inference_mode():
            said = torch.sigmoid(network(scaled))[0].double().numpy()
        for position in range(length):
            if 0 <= start + position < n:
                total[start + position].append(said[position])
    return np.array([np.mean(said, axis=0) for said in total])


@pytest.mark.parametrize("name", ["onset", "pitch"])
@pytest.mark.parametrize("stride", [None, 7, 31])
@pytest.mark.parametrize("n_frames", [1, 20, 200])
def test_prediction_is_that_of_a_plain_loop(
    name: str, stride: int | None, n_frames: int, trained_models: Path, frame_corpus: Any
) -> None:
    models = ModelFolder.open(trained_models)
    config = models.onset if name == "onset" else models.pitch
    network = models.load(name, CPU)
    frames = frame_corpus.frames["piece-2"][60 : 60 + n_frames]
    found = predict_frames(network, frames, config, device=CPU, vote_stride_frames=stride)
    assert found.shape == ((n_frames,) if name == "onset" else (n_frames, 88))
    wanted = plain(network, frames, config, stride or 16)
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_window_normalisation_and_single_frame_steps(
    frame_corpus: Any, make_config: Callable[..., Any], make_task: Callable[..., Any]
) -> None:
    config = make_config("onset", model={"label_frames": 7}, input={"normalisation": "window"})
    network = make_task(config, frame_corpus).build_network().eval()
    frames = frame_corpus.frames["piece-3"][:40]
    found = predict_frames(network, frames, config, device=CPU)
    np.testing.assert_allclose(found, plain(network, frames, config, 1), atol=2e-6)


@pytest.mark.parametrize("name", ["onset", "pitch"])
def test_recording_without_frames_gives_nothing(name: str, trained_models: Path) -> None:
    models = ModelFolder.open(trained_models)
    config = models.onset if name == "onset" else models.pitch
    network = models.load(name, CPU)
    found = predict_frames(network, np.zeros((0, 88, 2), np.float16), config, device=CPU)
    assert found.shape == ((0,) if name == "onset" else (0, 88))


def test_silence_is_not_a_number_nowhere(trained_models: Path) -> None:
    models = ModelFolder.open(trained_models)
    silence = np.zeros((50, 88, 2), np.float16)
    found = predict_frames(models.load("pitch", CPU), silence, models.pitch, device=CPU)
    assert np.isfinite(found).all()
    assert found.max() < 0.5


def test_half_precision_says_nearly_the_same(trained_models: Path, frame_corpus: Any) -> None:
    models = ModelFolder.open(trained_models)
    network, frames = models.load("pitch", CPU), frame_corpus.frames["piece-2"][:100]
    full, half = (
        predict_frames(network, frames, models.pitch, device=CPU, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    assert half.dtype == np.float32
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(full, half, atol=0.15)


def test_stride_beyond_the_window_is_refused(trained_models: Path, frame_corpus: Any) -> None:
    models = ModelFolder.open(trained_models)
    with pytest.raises(ConfigError, match="vote_stride_frames=32: is more than the 31 labelled"):
        predict_frames(
            models.load("onset", CPU),
            frame_corpus.frames["piece-2"],
            models.onset,
            device=CPU,
            vote_stride_frames=32,
        )
