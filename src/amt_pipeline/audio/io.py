"""Waveforms on disk: read any format of libsndfile at the rate that is wanted, write FLAC.

A recording is read completely or refused. A file that stops before its declared end is refused,
because its labels would outlast it: WAV by the size of its data chunk, Ogg by the end mark of its
last page, FLAC by its frame count. MP3 headers only estimate the length, so a short MP3 is read
with a warning; rarer containers (AIFF, W64) are read as far as they go. Files are decoded block by
block: memory grows with what they hold, never with what their header promises.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from amt_pipeline.audio.integrity import is_cut_short
from amt_pipeline.core.errors import AudioError
from amt_pipeline.core.files import atomic_path

MAX_DURATION_S = 3 * 3600.0
"""Longest recording that is read (3.8 GB of 44.1 kHz stereo); MAESTRO's longest has 0.73 h."""
LOUD_PEAK = 2.0
"""Peak, relative to full scale, above which a recording is called far too loud (+6 dB)."""
SILENT_PEAK = 1e-5
"""Peak below which a recording is called silent; one step of 16 bits is 3e-5."""
LOW_RATE_HZ = 16000
"""Source rates below lose the upper half of the piano's partials."""
_LARGEST_SAMPLE = 1e18  # beyond, squares overflow float32
_BLOCK_SAMPLES = 1 << 20
_UNKNOWN_FRAMES = 1 << 62  # libsndfile's SF_COUNT_MAX stands for an unknown length
_FETCH_AGAIN = "Fetch the file again, or re-encode the part that is there"


@dataclass(frozen=True)
class Audio:
    """A recording in memory.

    Attributes:
        samples: float32 `[n_samples, channels]`, not clipped and not normalised.
        sample_rate: Of `samples`, in Hz.
        source_rate: Of the file, in Hz.
        source_channels: Channels in the file.
        warnings: What a person should know about this recording; empty for a sound one.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    source_rate: int
    source_channels: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says; the samples are not looked at."""

    duration_s: float
    sample_rate: int
    channels: int
    frames: int
    format: str


def audio_info(path: str | PathLike[str]) -> AudioInfo:
    """Read the header of an audio file.

    Raises:
        AudioError: The file is missing, empty, cut short, not audio, or without a length.
    """
    with _open(Path(path)) as stream:
        return AudioInfo(
            duration_s=stream.frames / stream.samplerate,
            sample_rate=stream.samplerate,
            channels=stream.channels,
            frames=stream.frames,
            format=stream.format,
        )


def read_audio(path: str | PathLike[str], *, sample_rate: int = 44100, channels: int = 2) -> Audio:
    """Read a whole recording as float32 at one sample rate and with 1 or 2 channels.

    Mono is copied to both channels. More channels than wanted are mixed to their mean, which is
    then copied; for more than two source channels a warning says so. Samples keep their scale.
    A recording of any length above zero is read; short ones are left to the features.

    Args:
        path: Any format that libsndfile decodes, recognised by content, not by name.
        sample_rate: Wanted rate in Hz; another source rate is resampled with soxr (HQ).
        channels: 1 or 2.

    Raises:
        AudioError: The file is missing, empty, not audio, damaged or cut short, longer than
            `MAX_DURATION_S`, or holds no samples or non-finite ones.
        ValueError: `sample_rate` or `channels` is out of range.
    """
    if channels not in (1, 2) or sample_rate <= 0:
        raise ValueError(f"sample_rate={sample_rate}, channels={channels}: not a waveform layout")
    path = Path(path)
    with _open(path) as stream:
        rate, source_channels = stream.samplerate, stream.channels
        blocks, warnings = _decode(path, stream, channels)
    samples = np.concatenate(blocks)
    warnings += _judge(samples, rate)
    if rate != sample_rate:
        import soxr

        samples = np.asarray(soxr.resample(samples, rate, sample_rate), dtype=np.float32)
    return Audio(samples, sample_rate, rate, source_channels, tuple(warnings))


def write_flac(path: str | PathLike[str], samples: NDArray[np.floating], sample_rate: int) -> None:
    """Write a waveform as 16-bit FLAC, atomically; the same samples give the same bytes.

    Samples are rounded to the nearest of 65536 steps without dither; those beyond full scale are
    clipped, so the caller sets the level.

    Args:
        path: Target file.
        samples: `[n_samples]` or `[n_samples, channels]`, full scale 1.0.
        sample_rate: In Hz.

    Raises:
        StorageError: The disk refused.
        ValueError: A sample is not finite.
    """
    if not np.isfinite(samples).all():
        raise ValueError(f"{path}: samples that are not finite cannot be written")
    steps = np.clip(np.rint(np.asarray(samples, np.float64) * 32768.0), -32768, 32767)
    encoded = io.BytesIO()
    soundfile.write(encoded, steps.astype(np.int16), sample_rate, format="FLAC", subtype="PCM_16")
    with atomic_path(path) as temporary:
        # Not by libsndfile, which says only "System error" where the disk is full.
        temporary.write_bytes(encoded.getbuffer())


def _open(path: Path) -> soundfile.SoundFile:
    try:
        if not path.is_file():
            problem = "not a regular file" if path.exists() else "no such file"
            raise AudioError(path, problem, "Check the path and the corpus folder")
        if path.stat().st_size == 0:
            raise AudioError(path, "empty file (0 bytes)", _FETCH_AGAIN)
        if is_cut_short(path):
            raise AudioError(path, "cut short: it ends before its declared end", _FETCH_AGAIN)
        stream = soundfile.SoundFile(path)
    except OSError as error:
        raise AudioError(
            path, f"cannot be opened ({error.strerror or error})", "Check its permissions"
        ) from error
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: headerless .raw
        raise AudioError(
            path, "not audio that can be decoded", "Give a wav, flac, ogg or mp3 file"
        ) from error
    if stream.frames == 0:
        stream.close()
        raise AudioError(path, "holds no samples", "Leave it out, or fetch it again")
    if stream.frames >= _UNKNOWN_FRAMES:  # libsndfile cannot read such a FLAC to its end
        stream.close()
        raise AudioError(path, "does not declare its length", "Re-encode it to a file, not a pipe")
    return stream


def _decode(
    path: Path, stream: soundfile.SoundFile, channels: int
) -> tuple[list[NDArray[np.float32]], list[str]]:
    """Read all blocks, mixed to `channels`, and check them; also what to warn of."""
    rate, declared = stream.samplerate, stream.frames
    blocks: list[NDArray[np.float32]] = []
    frames = bad = 0
    first_bad = 0
    for block in _blocks(path, stream):
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(block) < _LARGEST_SAMPLE).all(axis=1)
        if wrong.any():
            first_bad = first_bad if bad else frames + int(wrong.argmax())
            bad += int(wrong.sum())
        frames += len(block)
        if frames > MAX_DURATION_S * rate:
            _refuse_long(path)
        blocks.append(_mixed(block, channels))
    if bad:
        raise AudioError(
            path,
            f"{bad} of {frames} samples are not finite, the first at {first_bad / rate:.3f} s",
            "Leave the recording out, or export it again",
        )
    warnings = []
    if frames < declared:
        promise = f"ends after {frames / rate:.2f} of {declared / rate:.2f} s"
        if stream.format != "MP3" or not frames:
            raise AudioError(path, f"cut short or damaged: {promise}", _FETCH_AGAIN)
        warnings.append(f"MP3 {promise} that its header estimates")
    if stream.channels > 2:
        warnings.append(f"{stream.channels} channels mixed to their mean")
    return blocks, warnings


def _blocks(path: Path, stream: soundfile.SoundFile) -> Iterator[NDArray[np.float32]]:
    block_frames = max(1, _BLOCK_SAMPLES // stream.channels)
    while True:
        try:
            block = stream.read(block_frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(
                path, "cut short or damaged: decoding stopped inside the file", _FETCH_AGAIN
            ) from error
        if not len(block):
            return
        yield block


def _mixed(block: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    if block.shape[1] == channels:
        return block
    with np.errstate(invalid="ignore"):  # non-finite samples are reported by the caller
        mean = block.mean(axis=1, keepdims=True, dtype=np.float32)
    return np.repeat(mean, channels, axis=1)


def _judge(samples: NDArray[np.float32], rate: int) -> list[str]:
    warnings = []
    peak = float(np.abs(samples).max())
    if peak > LOUD_PEAK:
        warnings.append(f"peak {peak:.3g} is {20 * math.log10(peak):.0f} dB above full scale")
    if peak < SILENT_PEAK:
        warnings.append("silent")
    elif samples.shape[1] == 2 and float(np.abs(samples.sum(axis=1)).max()) < 1e-3 * peak:
        warnings.append("the channels are in opposite phase: their mean is silent")
    if rate < LOW_RATE_HZ:
        warnings.append(f"source rate {rate} Hz holds nothing above {rate // 2} Hz")
    return warnings


def _refuse_long(path: Path) -> None:
    raise AudioError(
        path, f"longer than {MAX_DURATION_S / 3600:g} h", "Cut it into shorter recordings"
    )
