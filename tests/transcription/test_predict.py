"""Whole recordings: how often each frame is voted on, and what a plain loop says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.transcription.decode import PickingConfig, pick_notes
from amt_pipeline.transcription.inference import default_stride, prepare
from amt_pipeline.transcription.model_folder import ModelFolder
from amt_pipeline.transcription.models import ModelConfig
from amt_pipeline.transcription.networks import build_network
from amt_pipeline.transcription.predict import (
    frame_peak,
    frames_in_runs,
    predict_frames,
    touching,
    window_starts,
)

CPU = torch.device("cpu")


def predict(
    network: Any, frames: Any, config: Any, *, precision: str = "float32", **how: Any
) -> Any:
    evaluator = prepare(network, config, CPU, precision)
    return predict_frames(evaluator, frames, device=CPU, name=config.name, **how)


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
    found = predict(network, frames, config, vote_stride_frames=stride)
    assert found.shape == ((n_frames,) if name == "onset" else (n_frames, 88))
    wanted = plain(network, frames, config, stride or 16)
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_window_normalisation_and_single_frame_steps(
    frame_corpus: Any, make_config: Callable[..., Any], make_task: Callable[..., Any]
) -> None:
    config = make_config("onset", model={"label_frames": 7}, input={"normalisation": "window"})
    network = make_task(config, frame_corpus).build_network().eval()
    frames = frame_corpus.frames["piece-3"][:40]
    found = predict(network, frames, config)
    np.testing.assert_allclose(found, plain(network, frames, config, 1), atol=2e-6)


@pytest.mark.parametrize("name", ["onset", "pitch"])
def test_recording_without_frames_gives_nothing(name: str, trained_models: Path) -> None:
    models = ModelFolder.open(trained_models)
    config = models.onset if name == "onset" else models.pitch
    network = models.load(name, CPU)
    found = predict(network, np.zeros((0, 88, 2), np.float16), config)
    assert found.shape == ((0,) if name == "onset" else (0, 88))


def test_silence_is_not_a_number_nowhere(trained_models: Path) -> None:
    models = ModelFolder.open(trained_models)
    silence = np.zeros((50, 88, 2), np.float16)
    found = predict(models.load("pitch", CPU), silence, models.pitch)
    assert np.isfinite(found).all()
    assert found.max() < 0.5


def test_half_precision_says_nearly_the_same(trained_models: Path, frame_corpus: Any) -> None:
    models = ModelFolder.open(trained_models)
    network, frames = models.load("pitch", CPU), frame_corpus.frames["piece-2"][:100]
    full, half = (
        predict(network, frames, models.pitch, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    assert half.dtype == np.float32
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(full, half, atol=0.15)


def test_stride_beyond_the_window_is_refused(trained_models: Path, frame_corpus: Any) -> None:
    models = ModelFolder.open(trained_models)
    with pytest.raises(ConfigError, match="vote_stride_frames=32: is more than the 31 labelled"):
        predict(
            models.load("onset", CPU),
            frame_corpus.frames["piece-2"],
            models.onset,
            vote_stride_frames=32,
        )


def test_windows_that_touch_are_found() -> None:
    only = np.zeros(12, bool)
    only[[0, 7]] = True
    starts = np.arange(-4, 13)
    wanted = [bool(only[max(s, 0) : max(s + 3, 0)].any()) for s in starts.tolist()]
    assert touching(starts, 3, only).tolist() == wanted
    assert sum(wanted) == 6
    assert not touching(starts, 3, np.zeros(12, bool)).any()


def test_peak_is_that_of_all_blocks() -> None:
    frames = np.zeros((9000, 3, 2), np.float16)
    frames[[100, 8999], [0, 2], [0, 1]] = (2.5, 7.0)
    assert frame_peak(frames).tolist() == [2.5, 7.0]
    assert frame_peak(frames[:0]).tolist() == [0.0, 0.0]


GATED = {
    "onset": {"kind": "onset", "channels": (2, 3), "dense_units": 4, "recurrent_units": 3},
    "pitch_conv": {"kind": "pitch_conv", "channels": (1, 2, 2, 3, 2), "dense_units": 4,
                   "recurrent_units": 3, "prior": 0.4},
    "harmonic": {"kind": "harmonic", "channels": (2, 3), "prior": 0.4},
}  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(["pitch_conv", "harmonic"]),
    normalisation=st.sampled_from(["recording", "window"]),
    label_frames=st.sampled_from([1, 5, 9, 31]),
    stride=st.sampled_from([None, 1, 3]),
    runs=st.lists(st.tuples(st.integers(0, 90), st.integers(1, 12)), max_size=6),
    n_frames=st.integers(0, 90),
    everything=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_gated_network_gives_the_notes_of_the_whole_one(
    make_config: Callable[..., Any], kind: str, normalisation: str, label_frames: int,
    stride: int | None, runs: list[tuple[int, int]], n_frames: int, everything: bool, seed: int,
) -> None:  # fmt: skip
    config = make_config(
        "pitch",
        model={**GATED[kind], "label_frames": label_frames},
        input={"normalisation": normalisation},
    )
    torch.manual_seed(seed)
    network = build_network(config.features, config.model).eval()
    rng = np.random.default_rng(seed)
    frames = rng.random((n_frames, 88, 2), np.float32).astype(np.float16)
    onset = 0.5 * rng.random(n_frames).astype(np.float32)
    for first, length in [(0, 90)] if everything else runs:
        onset[first : first + length] += 0.5
    only = frames_in_runs(onset, 0.5)
    stride = min(stride, label_frames) if stride else None
    whole = predict(network, frames, config, vote_stride_frames=stride)
    gated = predict(network, frames, config, vote_stride_frames=stride, only=only)
    np.testing.assert_array_equal(gated[only], whole[only])
    assert not gated[~only].any()
    picking = PickingConfig(pitch_threshold=0.41, adjacent_s=0.0)
    notes = [pick_notes(onset, pitch, 0.016, picking) for pitch in (whole, gated)]
    assert notes[0].onset_s.tolist() == notes[1].onset_s.tolist()
    assert notes[0].pitch.tolist() == notes[1].pitch.tolist()


@pytest.mark.parametrize("normalisation", ["recording", "window"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gating_changes_nothing_of_the_reference_network(
    normalisation: str, precision: str, make_config: Callable[..., Any]
) -> None:
    reference = ModelConfig(
        kind="pitch_conv", label_frames=9, channels=(8, 16, 32, 64, 128), dense_units=1024,
        recurrent_units=512,
    )  # fmt: skip
    config = make_config(
        "pitch",
        features=FeatureSpec().model_dump(),
        model=reference.model_dump(),
        input={"normalisation": normalisation},
    )
    torch.manual_seed(3)
    network = build_network(config.features, config.model).eval()
    frames = np.random.default_rng(3).random((70, 356, 2), np.float32).astype(np.float16) ** 4
    only = np.zeros(70, bool)
    only[[0, 1, 2, 3, 20, 21, 22, 33, 66, 67, 68]] = True
    evaluator = prepare(network, config, CPU, precision)
    whole, gated = (
        predict_frames(evaluator, frames, device=CPU, only=wanted) for wanted in (None, only)
    )
    # Matrix units of 16-bit numbers (AMX) take other kernels for other numbers of rows.
    rounding = 0.0 if precision == "float32" else 2e-3
    np.testing.assert_allclose(gated[only], whole[only], rtol=0, atol=rounding)
    assert len(np.unique(whole)) > 1000


@pytest.mark.slow
def test_gating_changes_nothing_on_other_processors() -> None:
    """As MKL computes where there are no 512-bit vectors; it reads its setting once."""
    tests = f"{__file__}::{test_gating_changes_nothing_of_the_reference_network.__name__}"
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", "float32", tests],
        env={**os.environ, "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout
    assert "2 passed" in found.stdout


@pytest.mark.parametrize("name", ["onset", "pitch"])
def test_number_of_threads_does_not_matter(
    name: str, frame_corpus: Any, make_config: Callable[..., Any], make_task: Callable[..., Any]
) -> None:
    model = {"label_frames": 7} if name == "onset" else {**GATED["pitch_conv"], "label_frames": 7}
    config = make_config(name, model=model)
    network = make_task(config, frame_corpus).build_network().eval()
    frames = frame_corpus.frames["piece-3"]
    one, three = (predict(network, frames, config, threads=threads) for threads in (1, 3))
    np.testing.assert_array_equal(one, three)
    assert one.std() > 0
