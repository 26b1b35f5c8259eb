"""Whole recordings through a network: windows slid over the frames, overlapping votes averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.store.windows import copy_frames
from amt_pipeline.training.device import autocast
from amt_pipeline.transcription.decode import VoteAccumulator
from amt_pipeline.transcription.notes import N_KEYS
from amt_pipeline.transcription.tasks import FrameTaskConfig

if TYPE_CHECKING:
    import torch

    from amt_pipeline.transcription.models import FrameNetwork

BATCH_FRAMES = 2048
LONGEST_PUBLISHED_WINDOW = 15


def predict_frames(
    network: FrameNetwork,
    frames: npt.NDArray[Any],
    config: FrameTaskConfig,
    *,
    device: torch.device,
    precision: str = "float32",
    vote_stride_frames: int | None = None,
) -> npt.NDArray[np.float32]:
    """Return the probability of every frame of one recording.

    Windows start up to one window before the first frame and step by the model's vote stride, so
    that with a stride of 1 every interior frame gets as many votes as a window has labels.

    Args:
        network: The network of `config`, on `device`, in evaluation mode.
        frames: [frames, bins, channels] magnitudes of the recording (a memory map will do).
        config: What the network was trained as.
        device: Where the network is.
        precision: `float32` or `bfloat16`.
        vote_stride_frames: Step between windows; None is the published step of 1 for windows of up
            to 15 labelled frames and half a window for longer runs.

    Returns:
        [frames] (onset) or [frames, 88] (pitch) probabilities.

    Raises:
        ConfigError: The stride is longer than a window, so that frames would go without a vote.
    """
    import torch

    n_frames, length = len(frames), config.model.label_frames
    stride = vote_stride_frames or default_stride(length)
    if stride > length:
        raise ConfigError(
            f"transcribe.vote_stride_frames={stride}",
            f"is more than the {length} labelled frames of the {config.name} network, which would "
            "leave frames without a vote",
            f"Use {length} or less",
        )
    accumulator = VoteAccumulator(n_frames, None if config.name == "onset" else N_KEYS)
    if n_frames == 0:
        return accumulator.mean()
    peak = torch.from_numpy(_peak(frames)).to(device)
    starts = window_starts(n_frames, length, stride)
    size, context = max(1, BATCH_FRAMES // length), network.context_frames
    with torch.inference_mode(), autocast(precision, device):
        for first in range(0, len(starts), size):
            own = starts[first : first + size]
            windows = np.zeros((len(own), length + 2 * context, *frames.shape[1:]), frames.dtype)
            for window, start in zip(windows, own.tolist(), strict=True):
                copy_frames(frames, start - context, window)
            raw = torch.from_numpy(windows).to(device)
            scaled = config.input.apply(raw, peak.expand(len(own), -1), config.features.kind)
            votes = torch.sigmoid(network(scaled).float()).cpu().numpy()
            accumulator.add(own, votes)
    return accumulator.mean()


def default_stride(label_frames: int) -> int:
    """Return the step between windows of a network with so many labelled frames."""
    return 1 if label_frames <= LONGEST_PUBLISHED_WINDOW else (label_frames + 1) // 2


def window_starts(n_frames: int, length: int, stride: int) -> npt.NDArray[np.int64]:
    """Return window starts such that every frame gets length / stride votes where it can.

    The stride is at most the length. With the published stride of 1 and 5 frames of padding (2 of
    them context, so 3 labelled frames outside at either end of a 7-frame window) the first three
    frames get 4, 5 and 6 votes.
    """
    outside = length // 2 if stride == 1 else length - stride
    last = max(n_frames - length + outside, -outside)
    starts = np.arange(-outside, last + stride, stride, dtype=np.int64)
    return starts[starts < n_frames]


def _peak(frames: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    peak = np.zeros(frames.shape[2], np.float32)
    # In blocks: a memory map of an hour is not pulled into memory at once.
    for first in range(0, len(frames), 4096):
        peak = np.maximum(peak, frames[first : first + 4096].max(axis=(0, 1)).astype(np.float32))
    return peak
