"""Networks made ready to predict: what overlapping windows share is computed once.

Batch norms are folded into their convolutions, maps are laid out channels last, weights are in the
precision that is computed in. A network is then evaluated in one of three ways, all of which say
what it says window by window, to rounding (docs/transcription.md, section 6):

- one window after the other (`WindowEvaluator`): all that scaling by each window's own maximum
  allows, since then no two windows hold the same numbers;
- with maps shared (`SharedEvaluator`): scaled by the recording's maximum, overlapping windows have
  the same maps except near their ends; those are computed once, the others for each window;
- in long stretches (`WindowEvaluator` with longer windows): where no recurrence and no padding in
  time tell a window from the recording, every window says the same of a frame.

What a window says must not depend on the windows evaluated with it, to the bit. So a last batch is
filled up as `steady` has it, or to a whole batch where that is less.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from amt_pipeline.store.windows import copy_frames
from amt_pipeline.transcription import steady
from amt_pipeline.transcription.models import (
    LONGEST_PUBLISHED_WINDOW,
    FrameNetwork,
    RecurrentNetwork,
)
from amt_pipeline.transcription.recurrence import Mask, RecurrentHead
from amt_pipeline.transcription.shared_maps import SharedTrunk
from amt_pipeline.transcription.window_maps import WindowMaps

if TYPE_CHECKING:
    from amt_pipeline.transcription.task_config import FrameTaskConfig

WINDOW_BATCH_FRAMES = 1100
"""Input frames per batch of windows. Few make thin matrix products, many make maps that stay in no
cache: of 16 to 128 windows, 64 are about the fastest."""
SHARED_BATCH_FRAMES = 1600
"""Input frames that the windows of a batch reach over where they follow each other; likewise, of 32
to 256 windows, 192 are."""
LONG_WINDOWS_FRAMES = 640
"""The same for windows that are read whole."""
STRETCH_FRAMES = 384
"""Labelled frames per stretch of a network without recurrence: half as many compute more context
twice (1.3 times as slow at 192), twice as many gain nothing."""

Frames = npt.NDArray[Any]
Starts = npt.NDArray[np.int64]


class Evaluator(Protocol):
    """A network ready to predict.

    Attributes:
        length: Labelled frames per window.
        stride: Step between windows unless another is asked for.
        free_stride: Whether another step changes the outcome; False where all windows agree.
        batch: Windows per batch.
        n_outputs: Numbers per frame; None is one (the onset network).
    """

    length: int
    stride: int
    free_stride: bool
    batch: int
    n_outputs: int | None

    def probabilities(
        self, frames: Frames, starts: Starts, peak: Tensor, wanted: Mask | None = None
    ) -> npt.NDArray[np.float32]:
        """Return [windows, length] or [windows, length, outputs].

        Args:
            frames: [n, bins, channels] of the recording (a memory map will do).
            starts: First labelled frame of each window, ascending, at most `batch`.
            peak: [channels], the recording's largest magnitudes, on the device.
            wanted: [windows, length]; outputs of other frames may be anything from 0 to 1. None is
                all.
        """
        ...


def default_stride(label_frames: int) -> int:
    """Return the step between windows of a network with so many labelled frames.

    It is the published 1 for windows of up to 15 frames and half a window for longer runs.
    """
    return 1 if label_frames <= LONGEST_PUBLISHED_WINDOW else (label_frames + 1) // 2


def prepare(
    network: FrameNetwork, config: FrameTaskConfig, device: torch.device, precision: str
) -> Evaluator:
    """Return the fastest exact way to evaluate a network.

    Args:
        network: In evaluation mode; it is copied, not changed.
        config: What the network was trained as.
        device: Where to compute.
        precision: `float32` or `bfloat16`.
    """
    setting = Setting(config, device, torch.bfloat16 if precision == "bfloat16" else torch.float32)
    folded = fold_batch_norms(network).to(device, setting.dtype).requires_grad_(False)
    if setting.shares and isinstance(folded, RecurrentNetwork):
        return SharedEvaluator(folded, setting)
    return WindowEvaluator(folded, setting, in_stretches=setting.shares)


def fold_batch_norms(network: FrameNetwork) -> FrameNetwork:
    """Return a copy whose batch norms are part of the convolutions before them.

    In evaluation mode a batch norm is a scale and a shift per map. The same function, to rounding.
    """
    folded = copy.deepcopy(network).eval()
    for block in folded.modules():
        if not isinstance(block, nn.Sequential):
            continue
        convolution, norm = block[0], block[1]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            block[0], block[1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
            block[2] = nn.ReLU(inplace=True)
    return folded


@dataclass(frozen=True)
class Setting:
    """What a network was trained as, and where and how it is computed."""

    config: FrameTaskConfig
    device: torch.device
    dtype: torch.dtype

    @property
    def shares(self) -> bool:
        """Whether overlapping windows hold the same numbers."""
        return self.config.input.normalisation == "recording"

    def scaled(self, frames: Frames, peak: Tensor) -> Tensor:
        """Return [batch, channels, time, bins] of magnitudes [batch, time, bins, channels]."""
        count = len(frames)
        step = steady.VECTOR // math.gcd(steady.VECTOR, frames[0].size)
        filled = np.pad(frames, ((0, -count % step), (0, 0), (0, 0), (0, 0)))
        raw = torch.from_numpy(filled).to(self.device)
        scaled = self.config.input.apply(
            raw, peak.expand(len(filled), -1), self.config.features.kind
        )
        return scaled[:count].to(self.dtype, memory_format=torch.channels_last)


class WindowEvaluator:
    """Evaluates one window after the other; see `Evaluator`.

    Args:
        network: With folded batch norms, on its device.
        setting: How it is computed.
        in_stretches: Windows of the network's own length say what longer ones say.
    """

    def __init__(self, network: FrameNetwork, setting: Setting, *, in_stretches: bool) -> None:
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._head: RecurrentHead | None = None
        if isinstance(network, RecurrentNetwork):
            network.dense = steady.SteadyLinear(network.dense.weight, network.dense.bias)
            self._head = RecurrentHead(network, setting.config.model.label_frames)
        self._setting = setting
        label_frames = setting.config.model.label_frames
        self.length = max(STRETCH_FRAMES, label_frames) if in_stretches else label_frames
        self.stride = self.length if in_stretches else default_stride(self.length)
        self.free_stride = not in_stretches
        self._context = network.context_frames
        size = self.length + 2 * self._context
        self.batch = 1 if in_stretches else _batch(WINDOW_BATCH_FRAMES // size)
        self.n_outputs = _outputs_of(setting)

    def probabilities(
        self, frames: Frames, starts: Starts, peak: Tensor, wanted: Mask | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the outputs of windows."""
        size = self.length + 2 * self._context
        filled = self.batch if self._head is None else self._head.filled(len(starts), self.batch)
        windows = np.zeros((filled, size, *frames.shape[1:]), frames.dtype)
        for window, start in zip(windows, starts.tolist(), strict=False):
            copy_frames(frames, start - self._context, window)
        scaled = self._setting.scaled(windows, peak)
        if self._head is None:
            logits = self._network(scaled)
        else:
            hidden = WindowMaps.of_windows(self._network.hidden(self._network.trunk(scaled)))
            logits = self._head.logits(hidden, _filled_mask(wanted, filled))
        return _probabilities(logits)[: len(starts)]


class SharedEvaluator:
    """Evaluates maps that windows have in common once, and the recurrent head per window.

    Args:
        network: With folded batch norms, on its device.
        setting: How it is computed; the input is scaled by the recording's maximum.
    """

    def __init__(self, network: RecurrentNetwork, setting: Setting) -> None:
        self._setting = setting
        self.length = setting.config.model.label_frames
        self.stride, self.free_stride = default_stride(self.length), True
        self._context = network.context_frames
        size = self.length + 2 * self._context
        self.n_outputs = _outputs_of(setting)
        self._trunk = SharedTrunk(network, size)
        self._head = RecurrentHead(network, self.length)
        frames = SHARED_BATCH_FRAMES if self._head.in_steps else LONG_WINDOWS_FRAMES
        self.batch = _batch((frames - size) // max(self.stride, 8))

    def probabilities(
        self, frames: Frames, starts: Starts, peak: Tensor, wanted: Mask | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the outputs of windows."""
        filled = self._head.filled(len(starts), self.batch)
        first = np.pad(starts - self._context, (0, filled - len(starts)), mode="edge")

        def scaled_rows(rows: npt.NDArray[np.int64]) -> Tensor:
            picked = np.zeros((len(rows), 1, *frames.shape[1:]), frames.dtype)
            inside = (rows >= 0) & (rows < len(frames))
            picked[inside, 0] = frames[rows[inside]]
            return self._setting.scaled(picked, peak)

        hidden = self._trunk.hidden(first, scaled_rows)
        logits = self._head.logits(hidden, _filled_mask(wanted, filled))
        return _probabilities(logits)[: len(starts)]


def _batch(count: int) -> int:
    """Return about so many windows, at least one; in whole tiles where there are that many."""
    return count // steady.TILE * steady.TILE if count >= steady.TILE else max(1, count)


def _filled_mask(wanted: Mask | None, count: int) -> Mask | None:
    return None if wanted is None else np.pad(wanted, ((0, count - len(wanted)), (0, 0)))


def _outputs_of(setting: Setting) -> int | None:
    from amt_pipeline.transcription.notes import N_KEYS

    return None if setting.config.name == "onset" else N_KEYS


def _probabilities(logits: Tensor) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = steady.sigmoid(logits).cpu().numpy()
    return found
