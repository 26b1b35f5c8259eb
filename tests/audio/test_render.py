from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amt_pipeline.audio import soundfont
from amt_pipeline.audio.render import render_notes
from amt_pipeline.audio.soundfont import PIANO_PROGRAMS, piano_zones
from amt_pipeline.core.errors import AudioError

RATE = 44100


def one(
    pitch: int, velocity: int = 90, program: int = 0, onset: float = 0.0, length: float = 1.0
) -> np.ndarray:
    return render_notes([onset], [onset + length], [pitch], [velocity], program=program)


def rms(samples: np.ndarray, start_s: float, stop_s: float) -> float:
    part = samples[round(start_s * RATE) : round(stop_s * RATE)].astype(np.float64)
    return float(np.sqrt((part**2).mean()))


@pytest.mark.parametrize("program", PIANO_PROGRAMS)
@pytest.mark.parametrize("pitch", [21, 33, 45, 60, 69, 84, 96, 108])
def test_keys_sound_at_their_pitch(program: int, pitch: int) -> None:
    samples = one(pitch, program=program)[2000:40000].mean(axis=1)
    size = 1 << 18
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))

    def strength(cents: float) -> float:
        hz = 440 * 2 ** ((pitch - 69 + cents / 100) / 12)
        partials = hz * np.arange(1, 9)
        bins = np.rint(partials[partials < 10000] * size / RATE).astype(int)
        return float(spectrum[bins].sum())

    strengths = {cents: strength(cents) for cents in range(-150, 151, 5)}
    assert abs(max(strengths, key=strengths.__getitem__)) <= 20


@pytest.mark.parametrize("pitch", [40, 55, 70, 85, 100])
@pytest.mark.parametrize("onset", [0.25, 0.123456])
def test_onsets_are_heard_within_three_milliseconds(pitch: int, onset: float) -> None:
    samples = np.abs(one(pitch, onset=onset)).max(axis=1)
    start = round(onset * RATE)
    assert not samples[:start].any()
    attack = samples[start : start + RATE // 25]
    assert np.argmax(attack > 0.1 * attack.max()) < 0.003 * RATE


def test_notes_are_placed_to_the_sample() -> None:
    first, second = one(60, onset=0.1), one(60, onset=0.1 + 1000.4 / RATE)
    assert np.array_equal(first[4410 : 4410 + 30000], second[5410 : 5410 + 30000])


def test_velocity_makes_louder_and_brighter() -> None:
    levels, brightness = [], []
    for velocity in (30, 60, 90, 120):
        samples = one(60, velocity)[:RATE, 0]
        spectrum = np.abs(np.fft.rfft(samples)) ** 2
        levels.append(rms(samples, 0, 1))
        brightness.append(spectrum[1500:].sum() / spectrum.sum())
    assert (np.diff(levels) > 0).all()
    assert (np.diff(brightness) > 0).all()
    assert levels[3] / levels[0] > 8


def test_softest_top_key_is_above_a_noise_floor() -> None:
    assert np.abs(one(108, 30)).max() > 10 ** (-60 / 20)


def test_tones_decay_and_are_released_without_a_click() -> None:
    samples = one(60, length=2.0)
    assert rms(samples, 1.8, 2.0) < 0.3 * rms(samples, 0.1, 0.3)
    held = rms(samples, 1.95, 2.0)
    released = [rms(samples, 2 + t, 2.05 + t) for t in (0.0, 0.1, 0.2, 0.4)]
    assert released[0] > 0.5 * held
    assert (np.diff(released) < 0).all()
    assert released[3] < 0.02 * held
    assert rms(samples, 3.2, 3.5) == 0
    steps = np.abs(np.diff(samples[:, 0]))
    assert steps[2 * RATE - 20 :].max() < 1.5 * steps[RATE : 2 * RATE - 20].max()


def test_render_is_a_sum_and_repeats_to_the_bit() -> None:
    notes = ([0.1, 0.2, 0.3, 0.6], [0.6, 0.5, 1.0, 0.9], [40, 64, 67, 40], [80, 90, 60, 100])
    chord = render_notes(*notes, program=1)
    assert chord.dtype == np.float32
    assert chord.shape == (round(2.5 * RATE), 2)
    assert chord.tobytes() == render_notes(*notes, program=1).tobytes()
    total = np.zeros_like(chord)
    for onset, offset, pitch, velocity in zip(*notes, strict=True):
        part = render_notes([onset], [offset], [pitch], [velocity], program=1)
        total[: len(part)] += part
    np.testing.assert_allclose(chord, total, atol=1e-5)


def test_bass_is_left_and_treble_is_right() -> None:
    bass, treble = one(28), one(100)
    assert rms(bass[:, 0], 0, 1) > 1.1 * rms(bass[:, 1], 0, 1)
    assert rms(treble[:, 1], 0, 1) > 1.1 * rms(treble[:, 0], 0, 1)


def test_other_rates_and_tails() -> None:
    samples = render_notes([0], [1], [69], [90], program=0, sample_rate=16000, tail_s=0.5)
    assert samples.shape == (24000, 2)
    assert np.argmax(np.abs(np.fft.rfft(samples[:16000, 0]))) in range(438, 443)
    assert render_notes([], [], [], [], program=0, tail_s=0.1).shape == (4410, 2)


@pytest.mark.parametrize(
    "notes",
    [
        ([0, 1], [1], [60], [90]),
        ([-0.1], [1], [60], [90]),
        ([1], [1], [60], [90]),
        ([0], [np.nan], [60], [90]),
        ([0], [1], [20], [90]),
        ([0], [1], [109], [90]),
        ([0], [1], [60], [0]),
        ([0], [1], [60], [128]),
    ],
)
def test_notes_out_of_range_are_refused(notes: tuple[list[float], ...]) -> None:
    with pytest.raises(ValueError, match=r"must be|differ in length|must start"):
        render_notes(*notes, program=0)


def test_programs_that_are_no_piano_are_refused() -> None:
    with pytest.raises(ValueError, match="program 40"):
        one(60, program=40)


def test_every_key_has_a_zone_in_every_program() -> None:
    for program in PIANO_PROGRAMS:
        for key in range(21, 109):
            assert any(z.keys[0] <= key <= z.keys[1] for z in piano_zones(program))


@pytest.mark.parametrize("content", [None, b"", b"RIFF" + bytes(100)])
def test_broken_soundfont_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "TimGM6mb.sf2").write_bytes(content)
    monkeypatch.setattr(soundfont, "files", lambda package: tmp_path)
    piano_zones.cache_clear()
    with pytest.raises(AudioError, match="not a readable soundfont"):
        piano_zones(0)


def test_global_bag_applies_to_all_that_follow() -> None:
    def bag(*generators: tuple[int, int]) -> bytes:
        return b"".join(
            int(a).to_bytes(2, "little") + int(b).to_bytes(2, "little") for a, b in generators
        )

    chunks = {
        "ibag": bag((0, 0), (1, 0), (3, 0), (4, 0)),
        "igen": bag((48, 7), (48, 9), (53, 1), (53, 2)),
    }
    found = list(soundfont._bags(chunks, "i", 0, 3))
    assert found == [{48: 9, 53: 1}, {48: 7, 53: 2}]
