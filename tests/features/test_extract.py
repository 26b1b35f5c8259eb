from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from amt_pipeline.core.errors import AudioError
from amt_pipeline.features.extract import extract_frames
from amt_pipeline.features.spec import FeatureSpec

CQT = FeatureSpec(
    sample_rate=16000, hop_samples=128, bins=96, bins_per_octave=24, fmin_hz=110, dtype="float32"
)
MEL = FeatureSpec(
    kind="log_mel", sample_rate=16000, hop_samples=128, n_fft=1024, bins=64, fmax_hz=8000
)


def tone(hz: float, seconds: float, rate: int = 16000) -> npt.NDArray[np.float32]:
    """[n, 2]: a sine left, half as loud right."""
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return np.stack([wave, wave / 2], axis=1).astype(np.float32)


@pytest.mark.parametrize("bin_", [5, 48, 90])
def test_cqt_of_a_tone_peaks_at_its_bin(bin_: int) -> None:
    frames = extract_frames(tone(110 * 2 ** (bin_ / 24), 1.5), CQT)
    middle = frames[60:-60]
    assert (middle.argmax(axis=1) == bin_).all()
    np.testing.assert_allclose(middle[:, bin_, 1], middle[:, bin_, 0] / 2, rtol=1e-4)


def test_reference_cqt_peaks_at_the_key() -> None:
    # A4 is 4 octaves above A0: bin 192 of 48 per octave.
    frames = extract_frames(tone(440, 1, 44100), FeatureSpec())
    assert frames.shape == (87, 356, 2)
    assert frames.dtype == np.float16
    assert (frames[30:-30, :, 0].argmax(axis=1) == 192).all()


def test_mel_of_a_tone_peaks_at_its_band() -> None:
    frames = extract_frames(tone(1000, 1), MEL)
    assert frames.shape == (126, 64, 2)
    # HTK's mel scale: 66 edges between 30 and 8000 Hz, the centre of band b is edge b + 1.
    mels = 2595 * np.log10(1 + np.array([30, 8000, 1000]) / 700)
    expected = (mels[2] - mels[0]) / (mels[1] - mels[0]) * 65 - 1
    assert abs(frames[20:-20, :, 0].mean(axis=0).argmax() - expected) < 1


def test_values_are_magnitudes_not_powers() -> None:
    for spec in (CQT, MEL):
        loud, soft = (extract_frames(scale * tone(440, 1), spec) for scale in (1.0, 0.25))
        assert loud.max() / soft.max() == pytest.approx(4, rel=1e-2)


@pytest.mark.parametrize("spec", [CQT, MEL], ids=["cqt", "mel"])
@pytest.mark.parametrize("n_samples", [1, 127, 128, 129, 5000, 15999, 16001, 20037, 24064])
def test_frame_count_is_the_grids(spec: FeatureSpec, n_samples: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (n_samples, 2)).astype(np.float32)
    frames = extract_frames(noise, spec)
    assert frames.shape == (spec.grid.frame_count(n_samples), spec.bins, 2)
    assert frames.shape[0] == 1 + n_samples // 128
    assert np.isfinite(frames).all()


def test_frames_of_short_audio_are_those_of_the_same_audio_with_silence_behind() -> None:
    short = tone(440, 0.4)
    long = np.concatenate([short, np.zeros((16000 - len(short), 2), np.float32)])
    np.testing.assert_allclose(
        extract_frames(short, CQT), extract_frames(long, CQT)[:51], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("spec", [CQT, MEL], ids=["cqt", "mel"])
def test_silence_is_zero_and_nothing_is_nothing(spec: FeatureSpec) -> None:
    assert not extract_frames(np.zeros((8000, 2), np.float32), spec).any()
    nothing = extract_frames(np.zeros((0, 2), np.float32), spec)
    assert nothing.shape == (0, spec.bins, 2)
    assert nothing.dtype == spec.dtype


def test_what_half_precision_cannot_hold_is_cut() -> None:
    frames = extract_frames(1e6 * tone(1000, 1), MEL)
    assert frames.dtype == np.float16
    assert frames.max() == np.finfo(np.float16).max


@pytest.mark.parametrize("shape", [(100,), (100, 1), (100, 3), (2, 100), (10, 2, 1)])
def test_other_channels_than_the_specs_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match=r"waveform: has shape .*expected \[n, 2\]"):
        extract_frames(np.zeros(shape, np.float32), CQT)


def test_mono_spec_takes_one_channel() -> None:
    mono = CQT.model_copy(update={"channels": 1})
    stereo = tone(440, 1)
    np.testing.assert_allclose(
        extract_frames(stereo[:, :1], mono)[..., 0], extract_frames(stereo, CQT)[..., 0], rtol=1e-5
    )
