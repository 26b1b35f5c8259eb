"""Waveform to frames, block by block: the same frames to the bit however the waveform is cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import AudioError
from amt_pipeline.features.spec import FeatureSpec


class BlockTransform(Protocol):
    """Magnitudes of blocks of one length; see `cqt.ConstantQ` and `mel.MelBands`."""

    block_samples: int
    lead_samples: int
    step_frames: int

    def __call__(self, block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return `[channels, bins, step_frames]` of `[channels, block_samples]`."""


def extract_blocks(
    blocks: Iterable[npt.NDArray[np.float32]], spec: FeatureSpec
) -> Iterator[npt.NDArray[Any]]:
    """Yield the magnitude frames of a waveform that comes in blocks.

    The waveform is taken as silent before its beginning and behind its end. It is transformed in
    blocks of a fixed length at fixed places, so the frames do not depend on how it is cut.

    Args:
        blocks: `[n_samples, channels]` of any length, in order, in the spec's sample rate and
            channel count.
        spec: What to compute.

    Yields:
        `[frames, bins, channels]` of `spec.dtype`; together 1 + n_samples // hop frames, and
        nothing for no samples. What half precision cannot hold is cut to its largest value.

    Raises:
        AudioError: A block has another number of channels than the spec.
    """
    transform = _transform(spec)
    step_samples = transform.step_frames * spec.hop_samples
    buffer = np.zeros((spec.channels, transform.block_samples), np.float32)
    filled, n_samples, n_frames = transform.lead_samples, 0, 0
    for block in blocks:
        if block.ndim != 2 or block.shape[1] != spec.channels:
            raise AudioError("waveform", f"has shape {block.shape}, expected [n, {spec.channels}]")
        n_samples += len(block)
        taken = 0
        while taken < len(block):
            piece = block[taken : taken + transform.block_samples - filled]
            buffer[:, filled : filled + len(piece)] = piece.T
            filled, taken = filled + len(piece), taken + len(piece)
            if filled == transform.block_samples:
                yield _stored(transform(buffer), spec)
                n_frames += transform.step_frames
                filled -= step_samples
                buffer[:, :filled] = buffer[:, step_samples:]
    expected = spec.grid.frame_count(n_samples)
    while n_frames < expected:
        buffer[:, filled:] = 0
        yield _stored(transform(buffer), spec)[: expected - n_frames]
        n_frames += transform.step_frames
        filled = max(0, filled - step_samples)
        buffer[:, :filled] = buffer[:, step_samples : step_samples + filled]


def extract_frames(samples: npt.NDArray[np.float32], spec: FeatureSpec) -> npt.NDArray[Any]:
    """Return the magnitude frames of a waveform in memory; see `extract_blocks`.

    Args:
        samples: `[n_samples, channels]` in the spec's sample rate and channel count.
        spec: What to compute.

    Returns:
        `[frames, bins, channels]` of `spec.dtype`; frames = 1 + n_samples // hop, 0 for no samples.

    Raises:
        AudioError: The waveform has another number of channels than the spec.
    """
    nothing = np.zeros((0, spec.bins, spec.channels), spec.dtype)
    return np.concatenate([nothing, *extract_blocks([samples], spec)])


def _transform(spec: FeatureSpec) -> BlockTransform:
    if spec.kind == "cqt":
        from amt_pipeline.features.cqt import constant_q

        return constant_q(spec)
    from amt_pipeline.features.mel import mel_bands

    return mel_bands(spec)


def _stored(magnitudes: npt.NDArray[np.float32], spec: FeatureSpec) -> npt.NDArray[Any]:
    np.minimum(magnitudes, np.finfo(spec.dtype).max, out=magnitudes)
    frames = np.empty(magnitudes.shape[::-1], spec.dtype)
    # Channel by channel: numpy would make the two channels its inner loop.
    for position, channel in enumerate(magnitudes):
        frames[:, :, position] = channel.T
    return frames
