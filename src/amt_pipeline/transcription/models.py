"""What a network is: its settings, its base, and the layers that the networks share.

All networks (`transcription.networks`) take scaled frames [batch, channels, time, bins] and give
logits for every labelled frame: [batch, label frames] (onset) or [batch, label frames, 88] (pitch).
Time convolutions are un-padded, so an input of `label frames + 2 x context_frames` gives exactly
the labelled frames, whatever their number; a run of many labelled frames shares its convolutions,
which is what makes training on a CPU possible.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional

from amt_pipeline.core.values import reset_to_defaults

BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON = 0.1, 1e-7
"""The reference's running average of 0.9 is torch's momentum of 0.1."""

LONGEST_PUBLISHED_WINDOW = 15
"""Labelled frames. Longer windows are stepped by half a window and read whole."""

UNUSED_SETTINGS = {
    "onset": ("dropout",),
    "pitch_conv": ("frequency_stride",),
    "harmonic": ("dense_units", "recurrent_units", "dropout", "frequency_stride"),
}
"""Settings that a kind of network has nothing for."""


class ModelConfig(BaseModel):
    """Which network, and how large.

    A setting that the kind of network has nothing for goes back to its default, whatever was given:
    it makes no other network, so it must not make another run (checkpoints carry these settings).
    It is not refused, since a preset has it for the kind that an override replaces.

    Attributes:
        kind: `onset` (2 convolutions, dense, BiLSTM), `pitch_conv` (the reference's 5 convolutions,
            dense, BiLSTM, 88) or `harmonic` (weights shared along log-frequency, 88).
        label_frames: Labelled frames per window; odd. The reference sweeps 5 to 15; runs of 101 and
            more are what a CPU needs. The input is longer by the network's context.
        channels: Feature maps of each convolution, in order.
        dense_units: Width of the dense layer (onset, pitch_conv).
        recurrent_units: LSTM units in each direction (onset, pitch_conv).
        dropout: Dropout in the head of pitch_conv.
        frequency_stride: Bins from one to the next position of the onset network's convolutions.
        prior: Output probability before training; None starts biases at 0.1 as the reference does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["onset", "pitch_conv", "harmonic"]
    label_frames: int = Field(7, ge=1)
    channels: tuple[PositiveInt, ...] = (10, 20)
    dense_units: int = Field(256, ge=1)
    recurrent_units: int = Field(128, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    frequency_stride: int = Field(1, ge=1)
    prior: float | None = Field(None, gt=0, lt=1)

    @field_validator("label_frames")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            # Who names the parameter shows its value, too.
            raise ValueError("label_frames must be odd, so that a window has a centre")
        return value

    @model_validator(mode="after")
    def _reset_unused(self) -> ModelConfig:
        return reset_to_defaults(self, UNUSED_SETTINGS[self.kind])


class FrameNetwork(nn.Module):
    """A network over frames; `context_frames` on either side are consumed by its convolutions.

    `n_widths` says how many numbers `ModelConfig.channels` has for it.
    """

    context_frames: int
    n_widths: int

    def initialise(self, prior: float | None) -> None:
        """Draw variance-scaled weights; biases 0.1, the output bias at the log-odds of `prior`."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.constant_(layer.bias, 0.1)
        if prior is not None:
            output = [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear)][-1]
            bias = output.bias
            if bias is not None:
                nn.init.constant_(bias, float(torch.logit(torch.tensor(prior))))


def convolution(
    maps_in: int, maps_out: int, kernel: tuple[int, int], **options: object
) -> nn.Sequential:
    """A convolution over (time, bins) with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(maps_in, maps_out, kernel, **options),  # type: ignore[arg-type]
        nn.BatchNorm2d(maps_out, BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM),
        nn.ReLU(inplace=True),  # what goes in is not needed for the gradient
    )


def _pool(maps: Tensor) -> Tensor:
    """Maximum over 2 x 2, stride 1 in time and 2 in frequency, padded at the end ("same")."""
    # After ReLU nothing is below zero, so padding with zeros cannot win against a real value.
    odd = maps.shape[3] % 2
    if maps.is_cuda or torch.is_grad_enabled():
        return functional.max_pool2d(functional.pad(maps, (0, odd, 0, 1)), 2, stride=(1, 2))
    # The same values ten times as fast: torch's pool on a CPU also looks for where each maximum is,
    # which only a gradient needs.
    padded = functional.pad(maps, (0, odd)) if odd else maps
    pairs = torch.maximum(padded[..., ::2], padded[..., 1::2])
    pooled = torch.empty_like(pairs)
    torch.maximum(pairs[:, :, :-1], pairs[:, :, 1:], out=pooled[:, :, :-1])
    pooled[:, :, -1] = pairs[:, :, -1]
    return pooled


def _per_frame(maps: Tensor) -> Tensor:
    """[batch, maps, time, bins] to [batch, time, maps x bins]."""
    batch, channels, time, bins = maps.shape
    return maps.permute(0, 2, 1, 3).reshape(batch, time, channels * bins)


class RecurrentNetwork(FrameNetwork):
    """Convolutions with pools (the trunk), then dense, BiLSTM and outputs per frame (the head).

    `stages` names the trunk layer by layer, so that `transcription.inference` can compute what
    overlapping windows have in common once.
    """

    dense: nn.Linear
    recurrent: nn.LSTM
    output: nn.Linear
    dropout: nn.Module

    def build_head(self, features: int, config: ModelConfig, n_outputs: int) -> None:
        """Add the layers after the trunk, which gives `features` numbers per frame."""
        self.dense = nn.Linear(features, config.dense_units)
        self.recurrent = nn.LSTM(
            config.dense_units, config.recurrent_units, batch_first=True, bidirectional=True
        )
        self.output = nn.Linear(2 * config.recurrent_units, n_outputs)

    @abstractmethod
    def stages(self) -> list[tuple[nn.Sequential, bool]]:
        """Return the convolutions in order, each with whether a pool follows."""

    def trunk(self, frames: Tensor) -> Tensor:
        """Return features [batch, label frames, n] of frames [batch, channels, time, bins]."""
        maps = frames
        for convolution, pooled in self.stages():
            maps = convolution(maps)
            if pooled:
                maps = _pool(maps)
        return _per_frame(maps)

    def hidden(self, features: Tensor) -> Tensor:
        """Return what the dense layer says, [batch, label frames, units], of features."""
        return functional.relu(self.dense(self.dropout(features)))

    def read(self, hidden: Tensor) -> Tensor:
        """Return logits [batch, label frames, outputs] of the dense layer's output."""
        hidden = self.recurrent(self.dropout(hidden))[0]
        logits: Tensor = self.output(self.dropout(hidden))
        return logits

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits per labelled frame of frames [batch, channels, time, bins]."""
        return self.read(self.hidden(self.trunk(frames)))
