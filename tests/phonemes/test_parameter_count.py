"""Sizes: the formula against hand-counted and built networks; widths that match."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from torch import nn

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.phonemes.models import ModelConfig
from amt_pipeline.phonemes.networks import build_network
from amt_pipeline.phonemes.parameter_count import (
    count_table,
    matched_config,
    matched_width,
    mlp_total,
    network_total,
    parameter_total,
)

BINS, CLASSES = 39, 41


def mlp(window_frames: int, layers: int, width: int, **settings: Any) -> ModelConfig:
    values = {"window_frames": window_frames, "hidden_layers": layers, "hidden_units": width}
    return ModelConfig.model_validate({"kind": "mlp", **values, **settings})


@pytest.mark.parametrize(
    ("inputs", "outputs", "layers", "width", "total"),
    [
        (4, 3, 1, 5, 43),
        (8, 8, 2, 16, 552),
        (117, 41, 6, 64, 31_017),
        (117, 41, 2, 113, 30_890),
        (429, 41, 6, 1024, 5_730_345),
        (429, 41, 2, 1750, 3_888_541),
        (429, 41, 7, 1024, 6_779_945),
        (429, 41, 3, 1750, 6_952_791),
        (819, 41, 6, 512, 1_754_153),
    ],
)
def test_known_totals(inputs: int, outputs: int, layers: int, width: int, total: int) -> None:
    assert mlp_total(inputs, outputs, layers, width) == total
    sizes = [inputs, *[width] * layers, outputs]
    layered = nn.Sequential(*[nn.Linear(a, b) for a, b in itertools.pairwise(sizes)])
    assert network_total(layered) == total


def test_four_five_three_is_counted_by_layer() -> None:
    layers = [nn.Linear(4, 5), nn.Linear(5, 3)]
    assert [network_total(layer) for layer in layers] == [25, 18]


@pytest.mark.parametrize(
    ("window_frames", "layers", "width", "legacy", "total"),
    [
        (3, 6, 64, False, 31_017),
        (11, 6, 1024, False, 5_730_345),
        (11, 2, 1750, False, 3_888_541),
        (11, 6, 1024, True, 6_779_945),
        (11, 2, 1750, True, 6_952_791),
        (21, 6, 512, False, 1_754_153),
    ],
)
def test_known_networks(
    window_frames: int, layers: int, width: int, legacy: bool, total: int
) -> None:
    config = mlp(window_frames, layers, width, legacy_layers=legacy)
    assert parameter_total(BINS, CLASSES, config) == total
    assert count_table(BINS, CLASSES, config)["count"].sum() == total


def test_table_has_every_tensor() -> None:
    table = count_table(8, 8, mlp(1, 2, 16))
    assert table["tensor"].tolist() == [
        f"{layer}.{part}"
        for layer in ("blocks.0", "blocks.2", "output")
        for part in ("weight", "bias")
    ]
    assert table["shape"].tolist() == ["16 x 8", "16", "16 x 16", "16", "8 x 16", "8"]
    assert table["count"].tolist() == [128, 16, 256, 16, 128, 8]


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "mlp", "window_frames": 5, "hidden_layers": 3, "hidden_units": 7},
        {"kind": "mlp", "batch_norm": True, "dropout": 0.2, "legacy_layers": True},
        {"kind": "lstm_window", "window_frames": 5, "recurrent_layers": 1},
        {"kind": "lstm_window", "batch_norm": True, "recurrent_layers": 3, "recurrent_units": 5},
        {"kind": "lstm_utterance", "recurrent_units": 6, "step_frames": 3},
        {"kind": "lstm_utterance", "recurrent_layers": 4, "front_units": 9, "step_frames": 2},
    ],
)
def test_formula_counts_what_is_built(settings: dict[str, Any]) -> None:
    config = ModelConfig.model_validate(settings)
    built = network_total(build_network(BINS, CLASSES, config))
    assert parameter_total(BINS, CLASSES, config) == built
    assert count_table(BINS, CLASSES, config)["count"].sum() == built


@pytest.mark.parametrize(
    ("inputs", "layers", "width", "target_layers", "matched"),
    [
        (117, 6, 64, 2, 113),
        (819, 6, 512, 2, 962),
        (117, 6, 64, 6, 64),
        (117, 1, 200, 1, 200),
        (117, 6, 64, 1, 195),  # linear: 30,976 / 159 = 194.8
    ],
)
def test_known_widths(
    inputs: int, layers: int, width: int, target_layers: int, matched: int
) -> None:
    assert matched_width(inputs, CLASSES, layers, width, target_layers) == matched


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("target_layers", [1, 2, 3, 9])
def test_no_other_width_is_nearer(target_layers: int, batch_norm: bool) -> None:
    def total(layers: int, width: int) -> int:
        return mlp_total(429, CLASSES, layers, width, batch_norm=batch_norm)

    for layers, width in ((1, 333), (2, 1750), (6, 1024)):
        matched = matched_width(429, CLASSES, layers, width, target_layers, batch_norm=batch_norm)
        error = [abs(total(target_layers, matched + d) - total(layers, width)) for d in (-1, 0, 1)]
        assert error[1] == min(error)


@pytest.mark.parametrize("legacy", [False, True])
def test_matched_network_has_about_as_many_parameters(legacy: bool) -> None:
    deep = mlp(11, 6, 1024, legacy_layers=legacy, batch_norm=True, dropout=0.25)
    wide = matched_config(BINS, CLASSES, deep, 2)
    assert (wide.hidden_layers, wide.legacy_layers, wide.dropout) == (2, legacy, 0.25)
    totals = [parameter_total(BINS, CLASSES, config) for config in (deep, wide)]
    assert totals[1] == pytest.approx(totals[0], rel=1e-3)


@pytest.mark.parametrize("name", ["inputs", "outputs", "layers", "width", "target_layers"])
def test_numbers_below_one_are_refused_by_name(name: str) -> None:
    numbers: dict[str, Any] = {
        "inputs": 4,
        "outputs": 3,
        "layers": 2,
        "width": 5,
        "target_layers": 1,
    }
    assert matched_width(**numbers) > 0
    with pytest.raises(ConfigError, match=f"^{name}: must be 1 at least, got 0"):
        matched_width(**{**numbers, name: 0})


def test_width_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"target_layers: 500 hidden layers .* 1 of 2\. Ask for"):
        matched_width(10, 5, 1, 2, 500)
    with pytest.raises(ConfigError, match=r"model\.kind: lstm_window"):
        matched_config(BINS, CLASSES, ModelConfig(kind="lstm_window"), 2)
