"""Whole recordings through a network: windows slid over the frames, overlapping votes averaged."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.transcription.decode import VoteAccumulator

if TYPE_CHECKING:
    import torch

    from amt_pipeline.transcription.inference import Evaluator

Mask = npt.NDArray[np.bool_]

RELEASE_FRAMES = 16384
"""Frames after which the pages of a memory map are given back: 23 MB of the default features."""


def predict_frames(
    evaluator: Evaluator,
    frames: npt.NDArray[Any],
    *,
    device: torch.device,
    peak: npt.NDArray[np.float32] | None = None,
    only: Mask | None = None,
    vote_stride_frames: int | None = None,
    threads: int = 1,
    name: str = "",
) -> npt.NDArray[np.float32]:
    """Return the probability of every frame of one recording.

    Windows start up to one window before the first frame and step by the vote stride, so that with
    a stride of 1 every interior frame gets as many votes as a window has labels. Where all windows
    say the same of a frame (`Evaluator.free_stride`), each frame is asked for once.

    Args:
        evaluator: The network, ready to predict.
        frames: [frames, bins, channels] magnitudes of the recording (a memory map will do).
        device: Where the network is.
        peak: [channels] largest magnitudes of the recording; None looks for them.
        only: [frames] frames that are wanted. They get the votes, to the bit, that they get when
            all are wanted; the others are not evaluated and come back as zero.
        vote_stride_frames: Step between windows; None is the evaluator's own.
        threads: Batches evaluated at once; the outcome does not depend on it.
        name: Of the network, for the error.

    Returns:
        [frames] (onset) or [frames, 88] (pitch) probabilities.

    Raises:
        ConfigError: The stride is longer than a window, so that frames would go without a vote.
    """
    import torch

    n_frames, length = len(frames), evaluator.length
    stride = (vote_stride_frames or evaluator.stride) if evaluator.free_stride else evaluator.stride
    if stride > length:
        raise ConfigError(
            f"transcribe.vote_stride_frames={stride}",
            f"is more than the {length} labelled frames of the {name} network, which would "
            "leave frames without a vote",
            f"Use {length} or less",
        )
    accumulator = VoteAccumulator(n_frames, evaluator.n_outputs)
    if n_frames == 0:
        return accumulator.mean()
    starts = window_starts(n_frames, length, stride)
    if only is not None:
        starts = starts[touching(starts, length, only)]
    largest = torch.from_numpy(frame_peak(frames) if peak is None else peak).to(device)
    released = 0
    for own, votes in _votes(evaluator, frames, starts, largest, only, threads):
        accumulator.add(own, votes)
        if own[-1] - released > RELEASE_FRAMES:
            _release(frames)
            released = int(own[-1])
    probability = accumulator.mean()
    if only is not None:
        probability[~only] = 0.0
    return probability


def _votes(
    evaluator: Evaluator,
    frames: npt.NDArray[Any],
    starts: npt.NDArray[np.int64],
    peak: torch.Tensor,
    only: Mask | None,
    threads: int,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Yield the starts and outputs of batches of windows, in order.

    Batches, not the arithmetic inside one, are spread over threads: nothing is then summed in
    another order, and the many small steps between large products run in parallel as well.
    """
    import torch

    def evaluate(own: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():  # holds for the thread that says so
            wanted = None if only is None else held_frames(own, evaluator.length, only)
            return evaluator.probabilities(frames, own, peak, wanted)

    batches = (starts[i : i + evaluator.batch] for i in range(0, len(starts), evaluator.batch))
    if threads <= 1 or peak.device.type != "cpu":
        yield from ((own, evaluate(own)) for own in batches)
        return
    waiting: deque[tuple[npt.NDArray[np.int64], Future[npt.NDArray[np.float32]]]] = deque()
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for own in batches:
            waiting.append((own, pool.submit(evaluate, own)))
            if len(waiting) > 2 * threads:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _release(frames: npt.NDArray[Any]) -> None:
    """Give back what was read of a memory map; what is needed again is read again."""
    if isinstance(frames.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        frames.base.madvise(mmap.MADV_DONTNEED)


def frames_in_runs(onset_probability: npt.NDArray[np.float32], threshold: float) -> Mask:
    """Return which frames belong to an onset run: all that the picker reads of other networks."""
    above: Mask = onset_probability > threshold
    return above


def touching(starts: npt.NDArray[np.int64], length: int, only: Mask) -> Mask:
    """Return which windows of `length` frames hold a frame of `only`."""
    before = np.concatenate([[0], np.cumsum(only)])
    low, high = np.clip(starts, 0, len(only)), np.clip(starts + length, 0, len(only))
    held: Mask = before[high] > before[low]
    return held


def held_frames(starts: npt.NDArray[np.int64], length: int, only: Mask) -> Mask:
    """Return which frames of windows are in `only`, [windows, length]."""
    at = starts[:, None] + np.arange(length)
    inside = (at >= 0) & (at < len(only))
    held: Mask = inside & only[np.where(inside, at, 0)]
    return held


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


def frame_peak(frames: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the largest magnitude of each channel, [channels]; zeros without frames."""
    peak = np.zeros(frames.shape[2], np.float32)
    # In blocks: a memory map of an hour is not pulled into memory at once.
    for first in range(0, len(frames), 4096):
        peak = np.maximum(peak, frames[first : first + 4096].max(axis=(0, 1)).astype(np.float32))
    return peak
