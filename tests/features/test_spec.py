from __future__ import annotations

import librosa
import numpy as np
import pytest
from pydantic import ValidationError

from amt_pipeline.features import spec as spec_module
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.features.spec import FeatureSpec, parse_spec


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


@pytest.mark.parametrize(
    "settings",
    [{}, {"bins": 88, "bins_per_octave": 12}, {"bins": 30, "fmin_hz": 100, "bins_per_octave": 60}],
)
def test_cutoff_is_that_of_librosas_filters(settings: dict[str, float]) -> None:
    spec = FeatureSpec(**settings)
    centres = librosa.cqt_frequencies(
        spec.bins, fmin=spec.fmin_hz, bins_per_octave=spec.bins_per_octave
    )
    _, cutoff_hz = librosa.filters.wavelet_lengths(freqs=centres, sr=spec.sample_rate, gamma=0)
    assert spec.cutoff_hz == pytest.approx(cutoff_hz, rel=1e-9)


def test_cqt_has_as_many_bins_as_librosa_takes() -> None:
    # The centre of bin 464 lies at 22.04 kHz, its filter reaches beyond 22.05 kHz.
    def cqt(bins: int) -> None:
        librosa.cqt(np.zeros(4 * 44100), sr=44100, fmin=27.5, n_bins=bins, bins_per_octave=48)

    most = 463
    FeatureSpec(bins=most)
    cqt(most)
    assert FeatureSpec.model_construct(bins=most + 1).top_hz < 22050
    with pytest.raises(librosa.ParameterError):
        cqt(most + 1)
    with pytest.raises(ValidationError, match="use fewer bins"):
        FeatureSpec(bins=most + 1)


@pytest.mark.parametrize("fmax_hz", [30.0, 20.0])
def test_mel_bands_lie_between_two_frequencies(fmax_hz: float) -> None:
    with pytest.raises(ValidationError, match=r"fmin_hz \(30\) must be below fmax_hz"):
        FeatureSpec(kind="log_mel", fmax_hz=fmax_hz)
    assert FeatureSpec(fmax_hz=fmax_hz).fmin_hz == 27.5  # which the CQT does not use


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
        {"kind": "log_mel", "fmax_hz": 15000.0},
        {"bins": 300},
        {"bins_per_octave": 60},
        {"kind": "log_mel", "n_fft": 2048},
        {"dtype": "float32"},
    ]
    hashes = [FeatureSpec(**change).sha256 for change in changes]
    assert len(set(hashes)) == len(changes)
    assert FeatureSpec().sha256 == hashes[0]
    assert FeatureSpec.model_validate(FeatureSpec().model_dump(mode="json")).sha256 == hashes[0]


@pytest.mark.parametrize("kind", ["cqt", "log_mel"])
def test_hash_changes_with_the_transform(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = FeatureSpec.model_validate({"kind": kind})
    before = spec.sha256
    monkeypatch.setitem(spec_module._TRANSFORM_VERSION, kind, 99)
    assert spec.sha256 != before


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("cqt", {"fmax_hz": 15000.0}), ("cqt", {"n_fft": 2048}), ("log_mel", {"bins_per_octave": 60})],
)
def test_settings_that_a_kind_has_nothing_for_make_no_other_frames(
    kind: str, settings: dict[str, object]
) -> None:
    plain, same = (FeatureSpec.model_validate({"kind": kind, **s}) for s in ({}, settings))
    assert same == plain
    assert same.sha256 == plain.sha256
    with pytest.raises(ValidationError, match=next(iter(settings))):
        FeatureSpec.model_validate({"kind": kind, next(iter(settings)): "much"})


@pytest.mark.parametrize(
    "spec",
    [FeatureSpec(), FeatureSpec(kind="log_mel", channels=1), MfccSpec(), MfccSpec(lifter=0)],
)
def test_plain_values_are_read_as_the_kind_they_are_of(spec: FeatureSpec | MfccSpec) -> None:
    found = parse_spec(spec.model_dump(mode="json"))
    assert found == spec
    assert type(found) is type(spec)
    frame = np.zeros((spec.bins, spec.channels), spec.dtype)
    assert spec.frame_bytes == frame.nbytes


@pytest.mark.parametrize(
    "values", [{}, [], None, {"kind": "stft"}, {"kind": "mfcc", "n_fft": 512}, {"bins": 39}]
)
def test_plain_values_of_no_kind_are_refused(values: object) -> None:
    with pytest.raises(ValidationError):
        parse_spec(values)
