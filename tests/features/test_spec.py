from __future__ import annotations

import pytest
from pydantic import ValidationError

from amt_pipeline.features.spec import FeatureSpec


def test_reference_cqt() -> None:
    spec = FeatureSpec()
    assert (spec.kind, spec.bins, spec.bins_per_octave, spec.channels) == ("cqt", 356, 48, 2)
    assert spec.top_hz == pytest.approx(27.5 * 2 ** (355 / 48))
    assert spec.grid.describe() == "44100 Hz, hop 512, frame per bin"


def test_mel_has_bands_of_its_own_unless_told() -> None:
    mel = FeatureSpec(kind="log_mel")
    assert (mel.bins, mel.fmin_hz, mel.top_hz) == (229, 30.0, 16000.0)
    assert mel.grid.frame_samples == mel.n_fft
    told = FeatureSpec(kind="log_mel", bins=64, fmin_hz=50)
    assert (told.bins, told.fmin_hz) == (64, 50)


@pytest.mark.parametrize(
    "settings",
    [{"bins": 500}, {"sample_rate": 8000}, {"kind": "log_mel", "sample_rate": 16000}],
)
def test_bins_above_half_the_sample_rate_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="above half the sample rate"):
        FeatureSpec(**settings)


def test_the_top_bin_may_reach_half_the_sample_rate() -> None:
    assert FeatureSpec(kind="log_mel", sample_rate=32000).top_hz == 16000


@pytest.mark.parametrize(
    "settings", [{"binz": 3}, {"kind": "stft"}, {"channels": 3}, {"dtype": "int16"}, {"bins": 0}]
)
def test_misspelt_or_ill_typed_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        FeatureSpec(**settings)


def test_something_else_than_settings_is_refused() -> None:
    with pytest.raises(ValidationError):
        FeatureSpec.model_validate("cqt")


def test_hash_changes_with_every_setting() -> None:
    changes = [
        {},
        {"kind": "log_mel"},
        {"sample_rate": 48000},
        {"hop_samples": 256},
        {"channels": 1},
        {"fmin_hz": 28.0},
        {"fmax_hz": 15000.0},
        {"bins": 300},
        {"bins_per_octave": 60},
        {"n_fft": 2048},
        {"dtype": "float32"},
    ]
    hashes = [FeatureSpec(**change).sha256 for change in changes]
    assert len(set(hashes)) == len(changes)
    assert FeatureSpec().sha256 == hashes[0]
    assert FeatureSpec.model_validate(FeatureSpec().model_dump(mode="json")).sha256 == hashes[0]
