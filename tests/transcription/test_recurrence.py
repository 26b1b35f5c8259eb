"""The recurrent head in steps says what torch's LSTM says, wherever it is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.transcription.models import ModelConfig
from amt_pipeline.transcription.networks import build_network
from amt_pipeline.transcription.recurrence import RecurrentHead
from amt_pipeline.transcription.window_maps import WindowMaps

# Float32, 24 bits: sums of the same products in another order.
ROUNDING = 2e-6


def network_of(kind: str, units: int) -> Any:
    channels = {"onset": (2, 3), "pitch_conv": (1, 2, 2, 3, 2)}[kind]
    config = ModelConfig.model_validate(
        {"kind": kind, "channels": channels, "dense_units": 24, "recurrent_units": units,
         "label_frames": 7}
    )  # fmt: skip
    torch.manual_seed(units)
    network = build_network(FeatureSpec(), config).eval().requires_grad_(False)
    torch.nn.init.normal_(network.output.weight)
    return network


def shared_windows(count: int, length: int, special: list[int]) -> WindowMaps:
    """Windows stepped by one frame, some of whose positions are their own."""
    generator = torch.Generator().manual_seed(count)
    starts = np.arange(count) + 3
    rows = np.arange(starts[0], starts[-1] + length)
    own = {at: torch.rand(count, 24, generator=generator) for at in special}
    common = torch.rand(len(rows), 24, generator=generator)
    return WindowMaps(starts, length, rows, common, own)


@pytest.mark.parametrize("kind", ["onset", "pitch_conv"])
@pytest.mark.parametrize("units", [3, 64, 70])
@pytest.mark.parametrize("special", [[], [0, 6], list(range(7))])
def test_steps_say_what_a_whole_lstm_says(kind: str, units: int, special: list[int]) -> None:
    network, hidden = network_of(kind, units), shared_windows(32, 7, special)
    if len(special) == hidden.length:
        hidden.rows, hidden.common = hidden.rows[:0], hidden.common[:0]
    with torch.inference_mode():
        found = RecurrentHead(network, 7).logits(hidden)
        wanted = network.read(hidden.stacked())
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=0, atol=ROUNDING * 10)
    assert wanted.std() > 1e-3


@settings(max_examples=60, deadline=None)
@given(
    mask=st.lists(
        st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=48
    ),
    special=st.lists(st.integers(0, 6), unique=True, max_size=7),
    dense=st.booleans(),
)  # fmt: skip
def test_wanted_frames_have_the_same_bits_when_others_are_left_out(
    mask: list[list[bool]], special: list[int], dense: bool
) -> None:
    wanted = np.array(mask)
    if dense:
        wanted |= np.roll(wanted, 1, axis=0)
    whole_tiles = np.zeros((48, 7), bool)
    whole_tiles[: len(wanted)] = wanted
    hidden = shared_windows(48, 7, special)
    head = RecurrentHead(network_of("pitch_conv", 20), 7)
    with torch.inference_mode():
        everywhere = head.logits(hidden).numpy()
        some = head.logits(hidden, whole_tiles).numpy()
    np.testing.assert_array_equal(some[whole_tiles], everywhere[whole_tiles])
    assert np.isfinite(some).all()


def test_windows_that_share_nothing() -> None:
    network = network_of("onset", 5)
    values = torch.rand(16, 7, 24, generator=torch.Generator().manual_seed(1))
    hidden = WindowMaps.of_windows(values)
    torch.testing.assert_close(hidden.stacked(), values, rtol=0, atol=0)
    with torch.inference_mode():
        torch.testing.assert_close(
            RecurrentHead(network, 7).logits(hidden),
            network.read(values),
            rtol=0,
            atol=ROUNDING * 10,
        )


@pytest.mark.parametrize("special", [[], list(range(7))])
def test_nothing_wanted(special: list[int]) -> None:
    hidden = shared_windows(16, 7, special)
    if special:
        hidden.rows, hidden.common = hidden.rows[:0], hidden.common[:0]
    with torch.inference_mode():
        logits = RecurrentHead(network_of("pitch_conv", 4), 7).logits(
            hidden, np.zeros((16, 7), bool)
        )
    assert logits.shape == (16, 7, 88)
    assert not logits.any()


def test_long_windows_are_read_whole_in_whole_batches() -> None:
    network = network_of("pitch_conv", 4)
    head = RecurrentHead(network, 101)
    assert not head.in_steps
    assert head.filled(3, 80) == 80
    assert RecurrentHead(network_of("pitch_conv", 4), 7).filled(3, 80) == 64
    values = torch.rand(4, 7, 24)
    with torch.inference_mode():
        found = head.logits(WindowMaps.of_windows(values), np.zeros((4, 7), bool))
        assert torch.equal(found, network.read(values))
