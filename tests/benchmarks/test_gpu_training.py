"""The measuring functions run on a CPU too; without a CUDA device nothing is claimed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gpu_training
import pytest
import torch
from corpus import open_task, preset_config, write_corpus

from amt_pipeline.transcription.networks import build_network

CPU = torch.device("cpu")
SMALL: dict[str, dict[str, Any]] = {
    "onset": {"channels": (2, 3), "dense_units": 8, "recurrent_units": 4},
    "pitch": {"channels": (1, 2, 2, 2, 2), "dense_units": 8, "recurrent_units": 4},
}


def test_without_a_device_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_training.main(quick=True) == []
    assert "No CUDA device" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["onset", "pitch"])
def test_steps_and_floors_on_the_cpu(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    training = {"batch_size": 4, "resident": "always", "threads": 1}
    config = preset_config("reference", name, model=SMALL[name], training=training)
    ids = write_corpus(tmp_path, config.features, 2, 60)
    floors = gpu_training.measure_floors(CPU, "float32", size=128, copy_bytes=10**6)
    task = open_task(config, tmp_path, ids)
    steps = gpu_training.measure_steps(task, CPU, "float32", floors, n_steps=2)
    assert steps.windows_per_s == pytest.approx(4 / steps.step_s)
    assert 0 < steps.feed_share < 1
    assert steps.arithmetic > 0
    assert steps.memory > 0


def test_operations_and_bytes_of_the_onset_network_by_hand() -> None:
    config = preset_config("reference", "onset", model=SMALL["onset"])
    network = build_network(config.features, config.model)
    frames = torch.zeros(1, 2, 11, 356)
    first, second = 9 * 342 * 2 * (2 * 3 * 15), 7 * 159 * 3 * (2 * 3 * 13)
    head = 7 * (240 * 8 + 2 * 4 * 4 * (8 + 4) + 8)
    assert gpu_training.operations(network, frames) == 3 * 2 * (first + second + head)
    # Three layers per convolution.
    outputs = 3 * (9 * 342 * 2 + 7 * 159 * 3) + 7 * (8 + 8 + 1)
    weights = sum(parameter.numel() for parameter in network.parameters())
    expected = 4 * (2 * 2 * 11 * 356 + 4 * outputs + 2 * weights) + 32 * weights
    assert gpu_training.moved_bytes(network, frames, 4) == expected
