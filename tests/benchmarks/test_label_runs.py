"""Runs of labelled frames and windows give the same outputs, as far as the benchmark says."""

from __future__ import annotations

from typing import Any

import label_runs
import pytest
import torch
from corpus import preset_config

from amt_pipeline.transcription.networks import build_network

RUN = 21


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run_and_windows(network: Any, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a run of frames, and the window of `length` labels around each of its inner labels."""
    frames = torch.rand(1, 2, RUN + 2 * network.context_frames, 356)
    windows = frames[0].unfold(1, length + 2 * network.context_frames, 1)
    return frames, windows.permute(1, 0, 3, 2).contiguous()


def test_harmonic_network_says_the_same_of_a_run_and_of_single_windows() -> None:
    config = preset_config("cpu", "pitch")
    network = build_network(config.features, config.model).eval()
    frames, windows = run_and_windows(network, 1)
    with torch.inference_mode():
        run, single = network(frames)[0], network(windows)[:, 0]
    assert run.shape == single.shape == (RUN, 88)
    torch.testing.assert_close(run, single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("preset", "name"), [("cpu", "onset"), ("reference", "onset"), ("reference", "pitch")]
)
def test_convolutions_of_a_run_are_those_of_each_windows_middle(preset: str, name: str) -> None:
    config = preset_config(preset, name)
    network: Any = build_network(config.features, config.model).eval()
    length = label_runs.PUBLISHED[config.model.kind]
    frames, windows = run_and_windows(network, length)
    with torch.inference_mode():
        run = network.trunk(frames)[0, length // 2 : RUN - length // 2]
        middle = network.trunk(windows)[:, length // 2]
    assert len(run) == len(middle) == RUN - length + 1
    torch.testing.assert_close(run, middle, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("train", [False, True])
def test_the_measured_work_counts_labelled_frames(train: bool) -> None:
    run = label_runs.network_work("cpu", "onset", 9, 1, labels_per_window=9, train=train)
    windows = label_runs.network_work("cpu", "onset", 7, 2, labels_per_window=1, train=train)
    assert (run(), windows()) == (9, 2)


def test_runs_take_fewer_operations() -> None:
    one, many = (label_runs.multiply_adds("cpu", "pitch", length) for length in (1, 37))
    # 37 labels: 73 frames in place of 37 x 37.
    assert 10 < 37 * one / many < 37 * 37 / 73 * 1.5
