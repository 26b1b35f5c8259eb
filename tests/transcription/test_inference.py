"""Networks made ready to predict say what they said before, however they are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from amt_pipeline.store.windows import copy_frames
from amt_pipeline.transcription.inference import (
    SharedEvaluator,
    WindowEvaluator,
    fold_batch_norms,
    prepare,
)
from amt_pipeline.transcription.models import FrameNetwork
from amt_pipeline.transcription.networks import build_network

CPU = torch.device("cpu")
SMALL: dict[str, dict[str, Any]] = {
    "onset": {"channels": (3, 4), "dense_units": 8, "recurrent_units": 5},
    "pitch_conv": {"channels": (2, 3, 4, 4, 3), "dense_units": 8, "recurrent_units": 5},
    "harmonic": {"channels": (3, 4)},
}
# Float32, 24 bits: sums of the same products in another order.
ROUNDING = 5e-6


@pytest.fixture
def make(make_config: Callable[..., Any]) -> Callable[..., tuple[FrameNetwork, Any]]:
    """Returns a network with batch norms of its own, and its configuration."""

    def build(
        kind: str, normalisation: str, label_frames: int, **more: Any
    ) -> tuple[FrameNetwork, Any]:
        name = "onset" if kind == "onset" else "pitch"
        model = {"kind": kind, "label_frames": label_frames, "prior": None, **SMALL[kind], **more}
        config = make_config(name, model=model, input={"normalisation": normalisation})
        torch.manual_seed(5)
        network = build_network(config.features, config.model).eval()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.running_mean, -0.2, 0.2)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.uniform_(layer.bias, -0.2, 0.2)
        return network, config

    return build


def frames_of(n_frames: int) -> np.ndarray:
    return np.random.default_rng(n_frames).random((n_frames, 88, 2)).astype(np.float16)


def window_by_window(
    network: FrameNetwork, config: Any, frames: np.ndarray, starts: list[int], length: int
) -> np.ndarray:
    """What the network as it was trained says of each window alone."""
    peak = torch.from_numpy(frames.max(axis=(0, 1)).astype(np.float32))[None]
    said = []
    for start in starts:
        window = np.zeros((length + 2 * network.context_frames, 88, 2), frames.dtype)
        copy_frames(frames, start - network.context_frames, window)
        scaled = config.input.apply(torch.from_numpy(window)[None], peak, "cqt")
        with torch.inference_mode():
            said.append(torch.sigmoid(network(scaled))[0].numpy())
    return np.array(said)


def evaluate(evaluator: Any, frames: np.ndarray, starts: list[int]) -> np.ndarray:
    peak = torch.from_numpy(frames.max(axis=(0, 1)).astype(np.float32))
    with torch.inference_mode():
        return evaluator.probabilities(frames, np.array(starts), peak)


@pytest.mark.parametrize("kind", SMALL)
def test_folded_batch_norms_change_nothing(kind: str, make: Any) -> None:
    network, _ = make(kind, "recording", 9)
    folded = fold_batch_norms(network)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    frames = torch.rand(2, 2, 9 + 2 * network.context_frames, 88)
    with torch.inference_mode():
        torch.testing.assert_close(folded(frames), network(frames), rtol=1e-5, atol=1e-5)


# Windows that overlap, that leave gaps, that reach over either end, and one that is alone.
PLACES = {
    "one after the other": list(range(10, 40)),
    "with gaps": [3, 4, 5, 21, 22, 40, 47],
    "over the ends": [-4, -3, -2, 50, 55, 58],
    "alone": [20],
    "half windows": list(range(0, 50, 6)),
}


@pytest.mark.parametrize("kind", ["onset", "pitch_conv"])
@pytest.mark.parametrize("label_frames", [1, 3, 5, 7, 9, 15, 33])
@pytest.mark.parametrize("place", PLACES)
def test_shared_maps_say_what_single_windows_say(
    kind: str, label_frames: int, place: str, make: Any
) -> None:
    network, config = make(kind, "recording", label_frames)
    evaluator = prepare(network, config, CPU, "float32")
    assert isinstance(evaluator, SharedEvaluator)
    frames, starts = frames_of(60), PLACES[place]
    found = np.concatenate(
        [
            evaluate(evaluator, frames, starts[first : first + evaluator.batch])
            for first in range(0, len(starts), evaluator.batch)
        ]
    )
    wanted = window_by_window(network, config, frames, starts, label_frames)
    np.testing.assert_allclose(found, wanted, atol=ROUNDING, rtol=0)
    assert len(starts) == 1 or wanted.std() > 1e-3


@pytest.mark.parametrize("stride", [2, 3])
def test_shared_maps_of_a_strided_network(stride: int, make: Any) -> None:
    network, config = make("onset", "recording", 7, frequency_stride=stride)
    frames, starts = frames_of(40), list(range(20))
    found = evaluate(prepare(network, config, CPU, "float32"), frames, starts)
    wanted = window_by_window(network, config, frames, starts, 7)
    np.testing.assert_allclose(found, wanted, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("kind", SMALL)
def test_windows_of_their_own_scale_are_evaluated_alone(kind: str, make: Any) -> None:
    network, config = make(kind, "window", 9)
    evaluator = prepare(network, config, CPU, "float32")
    assert isinstance(evaluator, WindowEvaluator)
    assert (evaluator.length, evaluator.free_stride) == (9, True)
    starts = list(range(20, 20 + min(evaluator.batch, 12)))
    found = evaluate(evaluator, frames_of(60), starts)
    wanted = window_by_window(network, config, frames_of(60), starts, 9)
    np.testing.assert_allclose(found, wanted, atol=ROUNDING, rtol=0)


def test_network_without_recurrence_is_evaluated_once_per_frame(make: Any) -> None:
    network, config = make("harmonic", "recording", 9)
    evaluator = prepare(network, config, CPU, "float32")
    assert evaluator.stride == evaluator.length > 100
    assert not evaluator.free_stride
    frames = frames_of(300)
    (found,) = evaluate(evaluator, frames, [10])
    starts = list(range(10, 10 + evaluator.length - 9))
    windows = window_by_window(network, config, frames, starts, 9)
    for row, window in enumerate(windows):
        np.testing.assert_allclose(found[row : row + 9], window, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("normalisation", ["recording", "window"])
def test_neighbours_in_a_batch_change_no_bit(kind: str, normalisation: str, make: Any) -> None:
    network, config = make(kind, normalisation, 7)
    evaluator = prepare(network, config, CPU, "float32")
    count = min(evaluator.batch, 150)
    frames, starts = frames_of(count + 20), list(range(5, 5 + count))
    together = evaluate(evaluator, frames, starts)
    for position in range(0, count, 7):
        alone = evaluate(evaluator, frames, [starts[position]])
        np.testing.assert_array_equal(alone[0], together[position])
    some = evaluate(evaluator, frames, starts[2:])
    np.testing.assert_array_equal(some, together[2:])


@pytest.mark.parametrize("label_frames", [9, 1601])
def test_there_is_always_a_batch(label_frames: int, make: Any) -> None:
    network, config = make("onset", "recording", label_frames)
    evaluator = prepare(network, config, CPU, "float32")
    assert evaluator.batch >= 1
    assert evaluate(evaluator, frames_of(label_frames), [0]).std() > 0


@pytest.mark.parametrize("kind", SMALL)
def test_half_precision_says_nearly_the_same(kind: str, make: Any) -> None:
    network, config = make(kind, "recording", 9)
    full, half = (
        evaluate(prepare(network, config, CPU, precision), frames_of(40), [3, 4])
        for precision in ("float32", "bfloat16")
    )
    assert half.dtype == np.float32
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(full, half, atol=0.05)
