from __future__ import annotations

import contextlib
import os
import resource
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from amt_pipeline.audio import decoding
from amt_pipeline.audio.io import audio_info, read_audio, stream_audio, write_flac
from amt_pipeline.core.errors import AudioError, StorageError

RATE = 44100


def tone(seconds: float = 1.0, rate: int = RATE, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype("f4")


def stereo_noise(frames: int = 60000) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((frames, 2)) * 0.1).astype("f4")


def cut(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_formats_are_read_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([tone(), tone(hz=660)], axis=1), RATE)
    audio = read_audio(path)
    assert audio.samples.dtype == np.float32
    assert audio.samples.shape == (RATE, 2)
    assert (audio.sample_rate, audio.source_rate, audio.source_channels) == (RATE, RATE, 2)
    assert audio.warnings == ()
    for channel, hz in enumerate((440, 660)):
        assert np.argmax(np.abs(np.fft.rfft(audio.samples[:, channel]))) == hz
    info = audio_info(path)
    assert (info.sample_rate, info.channels, info.frames) == (RATE, 2, RATE)
    assert info.duration_s == pytest.approx(1.0)
    assert info.format in {"WAV", "FLAC", "OGG", "MP3"}


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "flac_named.wav"
    soundfile.write(path, tone(), RATE, format="FLAC")
    assert audio_info(path).format == "FLAC"
    assert len(read_audio(path).samples) == RATE


def test_mono_is_copied_and_stereo_is_mixed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mono.wav", tone(), RATE, subtype="FLOAT")
    audio = read_audio(tmp_path / "mono.wav")
    assert np.array_equal(audio.samples, np.stack([tone(), tone()], axis=1))
    both = np.stack([tone(), 3 * tone()], axis=1)
    soundfile.write(tmp_path / "stereo.wav", both, RATE, subtype="FLOAT")
    mixed = read_audio(tmp_path / "stereo.wav", channels=1)
    assert mixed.samples.shape == (RATE, 1)
    np.testing.assert_allclose(mixed.samples[:, 0], 2 * tone(), atol=1e-6)


def test_many_channels_are_mixed_with_a_warning(tmp_path: Path) -> None:
    six = np.stack([tone() * gain for gain in (0, 0, 0, 1, 1, 1)], axis=1)
    soundfile.write(tmp_path / "six.wav", six, RATE, subtype="FLOAT")
    audio = read_audio(tmp_path / "six.wav")
    np.testing.assert_allclose(audio.samples, np.stack([tone() / 2] * 2, axis=1), atol=1e-6)
    assert "6 channels" in audio.warnings[0]


def test_resampling_keeps_pitch_and_warns_of_low_rates(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "low.wav", tone(rate=8000), 8000)
    audio = read_audio(tmp_path / "low.wav")
    assert audio.samples.shape == (RATE, 2)
    assert audio.source_rate == 8000
    assert np.argmax(np.abs(np.fft.rfft(audio.samples[:, 0]))) == 440
    assert "8000 Hz" in audio.warnings[0]
    assert read_audio(tmp_path / "low.wav", sample_rate=8000).samples.shape == (8000, 2)


def test_odd_but_valid_recordings_are_read_with_a_warning(tmp_path: Path) -> None:
    cases = {
        "loud": (np.stack([100 * tone()] * 2, axis=1), "above full scale"),
        "silent": (np.zeros((RATE, 2)), "silent"),
        "opposite": (np.stack([tone(), -tone()], axis=1), "opposite phase"),
    }
    for name, (samples, words) in cases.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
        audio = read_audio(tmp_path / f"{name}.wav")
        np.testing.assert_allclose(audio.samples, samples, atol=1e-6)
        assert len(audio.warnings) == 1
        assert words in audio.warnings[0]


def test_ten_samples_are_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", tone()[:10], RATE)
    assert read_audio(tmp_path / "short.wav").samples.shape == (10, 2)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.wav", b"", "0 bytes"),
        ("empty.flac", b"", "0 bytes"),
        ("text.wav", b"this is not audio\n" * 20, "not audio"),
        ("header.wav", b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00", "not audio"),
        ("samples.raw", bytes(1000), "not audio"),
        ("page.ogg", b"OggS" + bytes(10), "cut short"),
        ("pages.ogg", b"OggS" + bytes(1 << 18), "cut short"),
    ],
)
def test_files_that_are_no_audio_are_named(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for reader in (read_audio, audio_info):
        with pytest.raises(AudioError, match=words) as caught:
            reader(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="not a regular file"):
        read_audio(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")  # opening it would wait for ever
    with pytest.raises(AudioError, match="not a regular file"):
        read_audio(tmp_path / "pipe.wav")


def test_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), RATE)

    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # a test run as root may open anything
    with pytest.raises(AudioError, match="Permission denied"):
        read_audio(path)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("share", [0.4, 0.97])
def test_files_cut_short_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, stereo_noise(), RATE)
    read_audio(path)
    with pytest.raises(AudioError, match="cut short"):
        read_audio(cut(path, share))


def test_mp3_cut_short_is_read_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, stereo_noise(400000), RATE)
    audio = read_audio(cut(path, 0.5))
    assert 0 < len(audio.samples) < 300000
    assert "MP3 ends after" in audio.warnings[0]


def test_garbage_inside_an_mp3_neither_hangs_nor_crashes(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, stereo_noise(400000), RATE)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = np.random.default_rng(1).bytes(4000)
    path.write_bytes(data)
    with contextlib.suppress(AudioError):  # the decoder may find its way again, or give up
        assert read_audio(path).samples.shape[1] == 2


def test_wav_of_unknown_length_and_with_other_chunks_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), RATE)
    data = path.read_bytes()
    head, body = data[:36], data[44:]
    path.write_bytes(head + b"LIST" + struct.pack("<I", 3) + b"abc\0" + data[36:])
    assert len(read_audio(path).samples) == RATE
    path.write_bytes(head + b"data" + struct.pack("<I", 0xFFFFFFFF) + body)
    assert len(read_audio(path).samples) == RATE


def test_header_that_promises_hours_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(0.02), RATE)
    data = bytearray(path.read_bytes())
    # STREAMINFO: the 36-bit frame count ends at byte 26 of the file (RFC 9639, section 8.2).
    data[22:26] = struct.pack(">I", 10 * 3600 * RATE)
    path.write_bytes(data)
    assert audio_info(path).duration_s == pytest.approx(36000)
    with pytest.raises(AudioError, match="cut short"):
        read_audio(path)
    data[22:26] = bytes(4)  # a stream written to a pipe: unknown length
    path.write_bytes(data)
    for reader in (audio_info, read_audio):
        with pytest.raises(AudioError, match="does not declare its length"):
            reader(path)


def test_wav_header_that_promises_hours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(0.01), RATE)
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", 0x7FFFFFF0)
    path.write_bytes(data)
    with pytest.raises(AudioError, match="cut short"):
        read_audio(path)


def test_too_long_recording_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), RATE)
    monkeypatch.setattr(decoding, "MAX_DURATION_S", 0.5)
    with pytest.raises(AudioError, match="longer than"):
        read_audio(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_non_finite_samples_are_counted(tmp_path: Path, value: float) -> None:
    samples = np.stack([tone(2), tone(2)], axis=1)
    samples[RATE // 2 : RATE // 2 + 3, 1] = value
    samples[-1, 0] = value
    path = tmp_path / "bad.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"4 of 88200 samples .* first at 0\.500 s"):
        read_audio(path)


def test_no_samples_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 1)), RATE)
    with pytest.raises(AudioError, match="no samples"):
        read_audio(tmp_path / "none.wav")


def test_layouts_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="channels=3"):
        read_audio(tmp_path / "a.wav", channels=3)
    with pytest.raises(ValueError, match="sample_rate=0"):
        read_audio(tmp_path / "a.wav", sample_rate=0)


def test_flac_is_rounded_exactly_and_repeatable(tmp_path: Path) -> None:
    samples = np.array([[0.0, 0.5], [-1.0, 1.5], [0.6 / 32768, -0.6 / 32768]])
    write_flac(tmp_path / "a.flac", samples, RATE)
    write_flac(tmp_path / "b.flac", samples.astype("f4"), RATE)
    steps, rate = soundfile.read(tmp_path / "a.flac", dtype="int16")
    assert rate == RATE
    assert steps.tolist() == [[0, 16384], [-32768, 32767], [1, -1]]
    assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "b.flac").read_bytes()
    assert soundfile.info(tmp_path / "a.flac").subtype == "PCM_16"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.flac", "b.flac"]


def test_flac_on_a_full_disk_is_named(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The operating system refuses longer files, as a full disk would.
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"a\.flac: cannot be written \(File too large\)"):
            write_flac(tmp_path / "a.flac", stereo_noise(), RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_flac_refuses_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite"):
        write_flac(tmp_path / "a.flac", np.array([np.nan]), RATE)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        write_flac(tmp_path / "file" / "a.flac", tone(), RATE)
    assert not (tmp_path / "a.flac").exists()


@pytest.mark.parametrize("rate", [RATE, 16000])
@pytest.mark.parametrize("channels", [1, 2])
def test_streams_do_not_depend_on_their_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, channels: int
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, 30 * stereo_noise(), RATE, subtype="FLOAT")
    whole = read_audio(path, sample_rate=rate, channels=channels)
    monkeypatch.setattr(decoding, "_BLOCK_SAMPLES", 5000)
    stream = stream_audio(path, sample_rate=rate, channels=channels)
    blocks = list(stream)
    assert len(blocks) >= 24
    assert np.array_equal(np.concatenate(blocks), whole.samples)
    assert (stream.n_samples, stream.duration_s) == (len(whole.samples), stream.n_samples / rate)
    assert (stream.source_rate, stream.source_channels) == (RATE, 2)
    assert stream.warnings == whole.warnings
    assert "above full scale" in stream.warnings[0]


@pytest.mark.parametrize("rate", [8000, 16000, 48000, 96000])
def test_resampling_in_blocks_is_resampling_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    noise = stereo_noise(30001)
    soundfile.write(tmp_path / "a.wav", noise, rate, subtype="FLOAT")
    monkeypatch.setattr(decoding, "_BLOCK_SAMPLES", 3002)
    samples = read_audio(tmp_path / "a.wav").samples
    assert np.array_equal(samples, soxr.resample(noise, rate, RATE))


def test_what_is_odd_anywhere_is_found_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_BLOCK_SAMPLES", 2000)
    quiet, loud = np.zeros((5000, 2)), np.full((1, 2), 40.0)
    soundfile.write(tmp_path / "a.wav", np.concatenate([quiet, loud, quiet]), 8000, subtype="FLOAT")
    stream = stream_audio(tmp_path / "a.wav", sample_rate=8000)
    seen = [len(stream.warnings) for _ in stream]
    assert seen == [0] * 11
    assert [words.split()[0] for words in stream.warnings] == ["peak", "source"]
    stream = stream_audio(tmp_path / "a.wav", sample_rate=8000)
    next(iter(stream))
    assert stream.n_samples == 1000
    assert list(stream)
    assert stream.n_samples == 10001  # an iteration begins anew


def test_no_block_holds_what_is_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_BLOCK_SAMPLES", 2000)
    samples = stereo_noise(10000)
    samples[[4500, 8000], 1] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    given: list[np.ndarray] = []
    with pytest.raises(AudioError, match=r"2 of 10000 samples are not finite, the first at 0\.102"):
        given.extend(stream_audio(tmp_path / "a.wav"))
    assert np.array_equal(np.concatenate(given), samples[:4000])
