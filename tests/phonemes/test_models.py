"""Settings of the networks: what is refused, what has no effect."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from amt_pipeline.phonemes.models import ModelConfig

GIVEN: dict[str, Any] = {"window_frames": 5, "hidden_units": 7, "recurrent_units": 6}


def config(**settings: Any) -> ModelConfig:
    return ModelConfig.model_validate({**GIVEN, **settings})


@pytest.mark.parametrize("name", ["window_frames", "front_frames"])
@pytest.mark.parametrize("kind", ["mlp", "lstm_window", "lstm_utterance"])
def test_even_windows_are_refused_by_name(kind: str, name: str) -> None:
    assert config(kind=kind, **{name: 5}).kind == kind
    with pytest.raises(ValidationError, match=f"{name} must be odd, .*input_value=4"):
        config(kind=kind, **{name: 4})


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_frames": -1},
        {"hidden_layers": 0},
        {"hidden_units": 0},
        {"dropout": 1.0},
        {"recurrent_dropout": -0.1},
        {"recurrent_units": 0},
        {"bidirectional": True},
        {"kind": "gru"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ModelConfig.model_validate({"kind": "mlp", **wrong})


@pytest.mark.parametrize(
    ("kind", "unused", "used"),
    [
        ("mlp", {"recurrent_units": 9, "recurrent_layers": 3}, {"hidden_layers": 3}),
        ("mlp", {"front_units": 9, "step_frames": 2}, {"legacy_layers": True}),
        ("mlp", {"readout": "centre"}, {"dropout": 0.1}),
        ("lstm_window", {"legacy_layers": True, "front_units": 9}, {"readout": "centre"}),
        ("lstm_window", {"recurrent_layers": 1, "recurrent_dropout": 0.3}, {}),
        ("lstm_utterance", {"window_frames": 7, "readout": "centre"}, {"front_units": 9}),
        (
            "lstm_utterance",
            {"hidden_layers": 3, "batch_norm": True, "legacy_layers": True},
            {"dropout": 0.1},
        ),
        ("lstm_utterance", {"front_frames": 9}, {"front_frames": 9, "front_units": 8}),
    ],
)
def test_setting_that_a_network_has_nothing_for_makes_no_other_run(
    kind: str, unused: dict[str, Any], used: dict[str, Any]
) -> None:
    if "recurrent_layers" in unused and kind != "mlp":
        plain = config(kind=kind, recurrent_layers=1)
    else:
        plain = config(kind=kind)
    assert config(kind=kind, **unused) == plain
    assert not used or config(kind=kind, **used) != plain


def test_utterances_are_no_windows() -> None:
    assert config(kind="lstm_utterance").window_frames == 1
    assert config(kind="lstm_utterance").whole_utterances
    assert config(kind="lstm_window").window_frames == 5
    assert not config(kind="lstm_window").whole_utterances


def test_legacy_count_builds_one_block_more() -> None:
    assert config(kind="mlp", hidden_layers=6).block_layers == 6
    assert config(kind="mlp", hidden_layers=6, legacy_layers=True).block_layers == 7
