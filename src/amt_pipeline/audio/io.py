"""Waveforms on disk: read any format of libsndfile at the rate that is wanted, write FLAC.

A recording is read completely or refused. A file that stops before its declared end is refused,
because its labels would outlast it: WAV by the size of its data chunk, Ogg by the end mark of its
last page, FLAC by its frame count. MP3 headers only estimate the length, so a short MP3 is read
with a warning; rarer containers (AIFF, W64) are read as far as they go.

`stream_audio` gives a recording block by block and needs memory for one of them; `read_audio` puts
the blocks of such a stream together.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from amt_pipeline.audio.decoding import Inspection, decoded_blocks, mixed, open_audio
from amt_pipeline.core.files import atomic_path


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


class AudioStream:
    """A recording in blocks of float32 `[n, channels]`, in order; see `stream_audio`.

    The file is opened when the iteration begins, and read anew by another one. What is known only
    at the end is set when the blocks are exhausted, and not by an iteration that was left early.

    Attributes:
        path: The file.
        sample_rate: Of the blocks, in Hz.
        channels: Of the blocks.
        n_samples: Samples per channel yielded so far.
        source_rate: Of the file, in Hz; 0 before the first block.
        source_channels: Channels in the file; 0 before the first block.
        warnings: What a person should know about this recording; complete at the end.
    """

    def __init__(self, path: Path, sample_rate: int, channels: int) -> None:
        self.path, self.sample_rate, self.channels = path, sample_rate, channels
        self.n_samples = self.source_rate = self.source_channels = 0
        self.warnings: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Seconds yielded so far."""
        return self.n_samples / self.sample_rate

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield the blocks; the errors are those of `stream_audio`."""
        self.n_samples, self.warnings = 0, ()
        with open_audio(self.path) as stream:
            self.source_rate, self.source_channels = stream.samplerate, stream.channels
            blocks: Iterable[NDArray[np.float32]] = self._mixed_blocks(stream)
            if self.source_rate != self.sample_rate:
                blocks = self._resampled(blocks)
            for block in blocks:
                self.n_samples += len(block)
                yield block

    def _mixed_blocks(self, stream: soundfile.SoundFile) -> Iterator[NDArray[np.float32]]:
        inspection = Inspection(self.path, stream)
        for decoded in decoded_blocks(self.path, stream):
            # After a sample that is not finite the rest is only counted, for the error at the end.
            if inspection.admits(decoded):
                block = mixed(decoded, self.channels)
                inspection.hear(block)
                yield block
        self.warnings = inspection.conclude()

    def _resampled(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        import soxr

        resampler = soxr.ResampleStream(
            self.source_rate, self.sample_rate, self.channels, dtype="float32", quality="HQ"
        )
        for block in blocks:
            yield resampler.resample_chunk(block)
        yield resampler.resample_chunk(np.zeros((0, self.channels), np.float32), last=True)


def audio_info(path: str | PathLike[str]) -> AudioInfo:
    """Read the header of an audio file.

    Raises:
        AudioError: The file is missing, empty, cut short, not audio, or without a length.
    """
    with open_audio(Path(path)) as stream:
        return AudioInfo(
            duration_s=stream.frames / stream.samplerate,
            sample_rate=stream.samplerate,
            channels=stream.channels,
            frames=stream.frames,
            format=stream.format,
        )


def stream_audio(
    path: str | PathLike[str], *, sample_rate: int = 44100, channels: int = 2
) -> AudioStream:
    """Read a recording block by block, as float32 at one sample rate and with 1 or 2 channels.

    Mono is copied to both channels. More channels than wanted are mixed to their mean, which is
    then copied; for more than two source channels a warning says so. Samples keep their scale.
    A recording of any length above zero is read; short ones are left to the features.

    Args:
        path: Any format that libsndfile decodes, recognised by content, not by name.
        sample_rate: Wanted rate in Hz; another source rate is resampled with soxr (HQ).
        channels: 1 or 2.

    Returns:
        The blocks, by iteration. Whoever iterates gets an AudioError when the file is missing,
        empty, not audio, damaged or cut short, longer than `decoding.MAX_DURATION_S`, or holds no
        samples or non-finite ones. Some of that is known only at the end of the file: what was
        made of the blocks counts when the iteration has ended without an error.

    Raises:
        ValueError: `sample_rate` or `channels` is out of range.
    """
    if channels not in (1, 2) or sample_rate <= 0:
        raise ValueError(f"sample_rate={sample_rate}, channels={channels}: not a waveform layout")
    return AudioStream(Path(path), sample_rate, channels)


def read_audio(path: str | PathLike[str], *, sample_rate: int = 44100, channels: int = 2) -> Audio:
    """Read a whole recording into memory; see `stream_audio`, whose blocks it puts together.

    Raises:
        AudioError: The file cannot be used; the cases are those of `stream_audio`.
        ValueError: `sample_rate` or `channels` is out of range.
    """
    stream = stream_audio(path, sample_rate=sample_rate, channels=channels)
    samples = np.concatenate(list(stream))
    return Audio(samples, sample_rate, stream.source_rate, stream.source_channels, stream.warnings)


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
