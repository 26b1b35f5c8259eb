"""The networks: `onset` and `pitch_conv` of the reference, and `harmonic` for small machines.

All take scaled frames [batch, channels, time, bins] and give logits for every labelled frame:
[batch, label frames] (onset) or [batch, label frames, 88] (pitch). Time convolutions are un-padded,
so an input of `label frames + 2 x context_frames` gives exactly the labelled frames, whatever their
number; a run of many labelled frames shares its convolutions, which is what makes training on a CPU
possible. Layer tables and their sources: docs/transcription.md, section 3.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator
from torch import Tensor, nn
from torch.nn import functional

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.values import reset_to_defaults
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.transcription.notes import N_KEYS

BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON = 0.1, 1e-7
"""The reference's running average of 0.9 is torch's momentum of 0.1."""

LIST_PLACE = "conf/local/parameters_*.yml"
"""Where lists are set: --params splits its values at commas."""

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
            raise ValueError(
                f"label_frames must be odd, so that a window has a centre; got {value}"
            )
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


def _convolution(
    maps_in: int, maps_out: int, kernel: tuple[int, int], **options: object
) -> nn.Sequential:
    """A convolution over (time, bins) with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(maps_in, maps_out, kernel, **options),  # type: ignore[arg-type]
        nn.BatchNorm2d(maps_out, BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM),
        nn.ReLU(),
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

    def stages(self) -> list[tuple[nn.Sequential, bool]]:
        """Return the convolutions in order, each with whether a pool follows."""
        raise NotImplementedError

    def trunk(self, frames: Tensor) -> Tensor:
        """Return features [batch, label frames, n] of frames [batch, channels, time, bins]."""
        maps = frames
        for convolution, pooled in self.stages():
            maps = convolution(maps)
            if pooled:
                maps = _pool(maps)
        return _per_frame(maps)

    def head(self, features: Tensor) -> Tensor:
        """Return logits [batch, label frames, outputs] of the trunk's features."""
        return self.read(functional.relu(self.dense(self.dropout(features))))

    def read(self, hidden: Tensor) -> Tensor:
        """Return logits [batch, label frames, outputs] of the dense layer's output."""
        hidden = self.recurrent(self.dropout(hidden))[0]
        logits: Tensor = self.output(self.dropout(hidden))
        return logits

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits per labelled frame of frames [batch, channels, time, bins]."""
        return self.head(self.trunk(frames))


class OnsetNet(RecurrentNetwork):
    """The reference's onset network: when was any key struck?

    Two un-padded convolutions (15 bins x 3 frames, 13 bins x 3 frames) each with a pool, a dense
    layer, a BiLSTM and one output. With 11 x 356 x 2 inputs and 10 and 20 maps the sizes are those
    of the published table: 7 x 80 x 20 before the dense layer.
    """

    context_frames = 2
    n_widths = 2

    def __init__(self, spec: FeatureSpec, config: ModelConfig) -> None:
        super().__init__()
        first, second = config.channels
        stride = config.frequency_stride
        self.first = _convolution(spec.channels, first, (3, 15), stride=(1, stride))
        self.second = _convolution(first, second, (3, 13))
        self.dropout = nn.Identity()
        self.build_head(second * self.bins_left(spec, config), config, 1)
        self.initialise(config.prior)

    @staticmethod
    def bins_left(spec: FeatureSpec, config: ModelConfig) -> int:
        """Return the bins that the convolutions and pools leave; below 1 where they do not fit."""
        bins = -(-((spec.bins - 15) // config.frequency_stride + 1) // 2)
        return -(-(bins - 12) // 2)

    def stages(self) -> list[tuple[nn.Sequential, bool]]:
        """Return the two convolutions; a pool follows each."""
        return [(self.first, True), (self.second, True)]

    def read(self, hidden: Tensor) -> Tensor:
        """Return logits [batch, label frames] of the dense layer's output."""
        return super().read(hidden)[..., 0]


class PitchConvNet(RecurrentNetwork):
    """The reference's pitch network: five convolutions, dense 1024, BiLSTM 512, 88 outputs.

    Kernels are 3 frames x 5 bins. The second convolution keeps its input's size ("same"); the
    others are un-padded, which costs 8 frames.
    """

    context_frames = 4
    n_widths = 5

    def __init__(self, spec: FeatureSpec, config: ModelConfig) -> None:
        super().__init__()
        maps = (spec.channels, *config.channels)
        self.convolutions = nn.ModuleList(
            _convolution(maps[i], maps[i + 1], (3, 5), padding=(1, 2) if i == 1 else 0)
            for i in range(5)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.build_head(maps[-1] * self.bins_left(spec, config), config, N_KEYS)
        self.initialise(config.prior)

    @staticmethod
    def bins_left(spec: FeatureSpec, config: ModelConfig) -> int:
        """Return the bins that the convolutions and pools leave; below 1 where they do not fit."""
        bins = spec.bins
        for lost, pooled in ((4, False), (0, True), (4, False), (4, True), (4, True)):
            bins = bins - lost
            bins = -(-bins // 2) if pooled else bins
        return bins

    def stages(self) -> list[tuple[nn.Sequential, bool]]:
        """Return the five convolutions; a pool follows the second, fourth and fifth."""
        return [(layer, i in (1, 3, 4)) for i, layer in enumerate(self.convolutions)]  # type: ignore[misc]


class HarmonicNet(FrameNetwork):
    """A pitch network that shares its weights along log-frequency.

    A key sounds at its fundamental and its harmonics, at the same distances in log-frequency for
    every key; so what is learned from one key holds for all 88, and a few minutes of training do
    what the reference's dense layer needs a large corpus for. A small convolution on the full CQT
    is evaluated at every semitone; then, for each key, the semitones of its harmonics (half, 1 to
    10 and 12 times the fundamental) are gathered as channels; convolutions over time and
    neighbouring keys follow. The first kernel spans two semitones, which takes up that harmonics
    lie up to 0.3 semitones beside the tempered ones.

    The harmonics go so high for the sake of the bass: a constant-Q filter at 40 Hz spans over a
    second, so only its upper harmonics tell when a low key was struck. What differs by register
    (decay, brightness) is learned as an offset per key after the first layers. Time convolutions
    are dilated (1, 3, 9 frames), so that a frame sees 0.2 s before and after: in the bass a new
    note shows only as a slow rise.
    """

    context_frames = 18
    n_widths = 2
    HARMONIC_SEMITONES = (-12, 0, 12, 19, 24, 28, 31, 34, 36, 38, 40, 43)

    def __init__(self, spec: FeatureSpec, config: ModelConfig) -> None:
        super().__init__()
        local, shared = config.channels
        per_semitone = spec.bins_per_octave // 12
        width = 2 * per_semitone + 1
        self.local = _convolution(
            spec.channels, local, (3, width), stride=(1, per_semitone), padding=(0, per_semitone)
        )
        self.gather = _convolution(local * len(self.HARMONIC_SEMITONES), shared, (1, 1))
        self.refine = nn.ModuleList(
            [
                _convolution(shared, shared, (5, 3), padding=(0, 1)),
                _convolution(shared, shared, (5, 3), padding=(0, 1), dilation=(3, 1)),
                _convolution(shared, shared, (3, 1), dilation=(9, 1)),
            ]
        )
        self.register_offsets = nn.ParameterList(
            [nn.Parameter(torch.zeros(1, shared, 1, N_KEYS)) for _ in range(2)]
        )
        self.output = nn.Conv2d(shared, 1, 1)
        self.initialise(config.prior)

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits [batch, time - 36, 88] of frames [batch, channels, time, bins]."""
        semitones = self.local(frames)
        lowest, highest = min(self.HARMONIC_SEMITONES), max(self.HARMONIC_SEMITONES)
        room = N_KEYS + highest - semitones.shape[3]
        padded = functional.pad(semitones, (-lowest, max(room, 0)))
        keys = [
            padded[..., shift - lowest : shift - lowest + N_KEYS]
            for shift in self.HARMONIC_SEMITONES
        ]
        hidden = self.gather(torch.cat(keys, dim=1)) + self.register_offsets[0]
        hidden = self.refine[1](self.refine[0](hidden)) + self.register_offsets[1]
        logits: Tensor = self.output(self.refine[2](hidden))
        return logits[:, 0]


NETWORKS: dict[str, type[OnsetNet] | type[PitchConvNet] | type[HarmonicNet]] = {
    "onset": OnsetNet,
    "pitch_conv": PitchConvNet,
    "harmonic": HarmonicNet,
}


def check_network(spec: FeatureSpec, config: ModelConfig) -> None:
    """Check that a network can be built on these features.

    Raises:
        ConfigError: It cannot; the setting at fault is named.
    """
    network = NETWORKS[config.kind]
    if len(config.channels) != network.n_widths:
        raise ConfigError(
            "model.channels",
            f"{config.kind} has {network.n_widths} convolution widths, got {len(config.channels)}",
            f"Give {network.n_widths} numbers, in {LIST_PLACE}",
        )
    if not issubclass(network, HarmonicNet):
        if network.bins_left(spec, config) < 1:
            stride = config.frequency_stride if config.kind == "onset" else 1
            raise ConfigError(
                "model.frequency_stride" if stride > 1 else "features.bins",
                f"the convolutions of {config.kind} leave no bins of {spec.bins}",
                "Lower it" if stride > 1 else "Use more bins",
            )
    elif spec.kind != "cqt" or spec.bins_per_octave % 12 or abs(spec.fmin_hz - 27.5) > 0.01:
        raise ConfigError(
            "model.kind=harmonic",
            "needs a CQT from 27.5 Hz with whole bins per semitone, so that a key is a bin",
            "Use features.kind=cqt, or another pitch network: kind: pitch_conv with "
            f"channels: [8, 16, 32, 64, 128] below pitch.model in {LIST_PLACE}",
        )


def build_network(spec: FeatureSpec, config: ModelConfig) -> FrameNetwork:
    """Build the network that a configuration names, with freshly drawn weights.

    Raises:
        ConfigError: The network does not fit the features.
    """
    check_network(spec, config)
    return NETWORKS[config.kind](spec, config)
