"""Open an audio file, decode it block by block, and judge what came out.

Memory grows with neither the length of a recording nor with what its header promises.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from amt_pipeline.audio.integrity import is_cut_short
from amt_pipeline.core.errors import AudioError

MAX_DURATION_S = 3 * 3600.0
"""Longest recording that is read; MAESTRO's longest has 0.73 h."""
LOUD_PEAK = 2.0
"""Peak, relative to full scale, above which a recording is called far too loud (+6 dB)."""
SILENT_PEAK = 1e-5
"""Peak below which a recording is called silent; one step of 16 bits is 3e-5."""
LOW_RATE_HZ = 16000
"""Source rates below lose the upper half of the piano's partials."""
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1000, 1_000_000
"""Source rates that are read. A block of 1 Hz would be gigabytes when it is resampled."""
_LARGEST_SAMPLE = 1e18  # beyond, squares overflow float32
_BLOCK_SAMPLES = 1 << 17  # half a megabyte: stays in the processor's cache
_UNKNOWN_FRAMES = 1 << 62  # libsndfile's SF_COUNT_MAX stands for an unknown length
_FETCH_AGAIN = "Fetch the file again, or re-encode the part that is there"


def open_audio(path: Path) -> soundfile.SoundFile:
    """Open a file that a decoder knows, whose length is known and that is not visibly cut.

    Raises:
        AudioError: The file is missing, empty, cut short, not audio, without a length, or of a
            sample rate that no recording has.
    """
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
    if not LOWEST_RATE_HZ <= stream.samplerate <= HIGHEST_RATE_HZ:
        stream.close()
        raise AudioError(
            path,
            f"declares {stream.samplerate} samples per second, which no recording has",
            "Its header is damaged: fetch it again",
        )
    if stream.frames >= _UNKNOWN_FRAMES:  # libsndfile cannot read such a FLAC to its end
        stream.close()
        raise AudioError(path, "does not declare its length", "Re-encode it to a file, not a pipe")
    return stream


def decoded_blocks(path: Path, stream: soundfile.SoundFile) -> Iterator[NDArray[np.float32]]:
    """Yield a file's samples as float32 blocks `[n, source channels]` until it ends.

    Of a damaged MP3 libmpg123 writes raw lines to stderr. libsndfile has no switch for that, and
    file descriptor 2 is left alone: it is the whole process's, so what other threads log and what
    processes started meanwhile say would go astray with them, and so would the report of a crash in
    the decoder.

    Raises:
        AudioError: Decoding stopped inside the file.
    """
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


def mixed(block: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Return a block with 1 or 2 channels: as it is, or the mean of its channels, copied."""
    if block.shape[1] == channels:
        return block
    mean = block.mean(axis=1, keepdims=True, dtype=np.float32)
    return np.repeat(mean, channels, axis=1)


class Inspection:
    """What is found out about a recording while its blocks go by.

    Args:
        path: The file.
        stream: The file, opened.
    """

    def __init__(self, path: Path, stream: soundfile.SoundFile) -> None:
        self._path, self._rate, self._declared = path, stream.samplerate, stream.frames
        self._channels, self._is_mp3 = stream.channels, stream.format == "MP3"
        self._frames = self._bad = self._first_bad = 0
        self._peak = self._sum_peak = 0.0

    def admits(self, block: NDArray[np.float32]) -> bool:
        """Count a block as it was decoded; whether all samples up to its end are finite.

        Raises:
            AudioError: The recording is longer than `MAX_DURATION_S`.
        """
        # A sample that is not a number makes both extremes so, and every comparison false.
        if not max(float(block.max()), -float(block.min())) < _LARGEST_SAMPLE:
            wrong = ~(np.abs(block) < _LARGEST_SAMPLE).all(axis=1)
            self._first_bad = self._first_bad if self._bad else self._frames + int(wrong.argmax())
            self._bad += int(wrong.sum())
        self._frames += len(block)
        if self._frames > MAX_DURATION_S * self._rate:
            problem = f"longer than {MAX_DURATION_S / 3600:g} h"
            raise AudioError(self._path, problem, "Cut it into shorter recordings")
        return not self._bad

    def hear(self, block: NDArray[np.float32]) -> None:
        """Note how loud a block is after mixing, at the file's rate."""
        self._peak = max(self._peak, float(block.max()), -float(block.min()))
        if block.shape[1] == 2:
            total = block[:, 0] + block[:, 1]
            self._sum_peak = max(self._sum_peak, float(total.max()), -float(total.min()))
        else:
            self._sum_peak = self._peak

    def conclude(self) -> tuple[str, ...]:
        """Return what a person should know about the recording, at its end.

        Raises:
            AudioError: Samples are not finite, or the file ended before its declared end.
        """
        if self._bad:
            raise AudioError(
                self._path,
                f"{self._bad} of {self._frames} samples are not finite, the first at "
                f"{self._first_bad / self._rate:.3f} s",
                "Leave the recording out, or export it again",
            )
        return (*self._length(), *self._level())

    def _length(self) -> Iterator[str]:
        if self._frames < self._declared:
            heard_s, declared_s = self._frames / self._rate, self._declared / self._rate
            promise = f"ends after {heard_s:.2f} of {declared_s:.2f} s"
            # The header of an MP3 only estimates the length.
            if not self._is_mp3 or not self._frames:
                raise AudioError(self._path, f"cut short or damaged: {promise}", _FETCH_AGAIN)
            yield f"MP3 {promise} that its header estimates"
        if self._channels > 2:
            yield f"{self._channels} channels mixed to their mean"

    def _level(self) -> Iterator[str]:
        if self._peak > LOUD_PEAK:
            level_db = 20 * math.log10(self._peak)
            yield f"peak {self._peak:.3g} is {level_db:.0f} dB above full scale"
        if self._peak < SILENT_PEAK:
            yield "silent"
        elif self._sum_peak < 1e-3 * self._peak:
            yield "the channels are in opposite phase: their mean is silent"
        if self._rate < LOW_RATE_HZ:
            yield f"source rate {self._rate} Hz holds nothing above {self._rate // 2} Hz"
