"""The networks: `onset` and `pitch_conv` of the reference, and `harmonic` for small machines.

Layer tables and their sources: docs/transcription.md, section 3.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.transcription.harmonics import add_per_key, harmonic_convolution
from amt_pipeline.transcription.models import (
    FrameNetwork,
    ModelConfig,
    RecurrentNetwork,
    convolution,
)
from amt_pipeline.transcription.notes import N_KEYS

LIST_PLACE = "conf/local/parameters_*.yml"
"""Where lists are set: --params splits its values at commas."""


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
        self.first = convolution(spec.channels, first, (3, 15), stride=(1, stride))
        self.second = convolution(first, second, (3, 13))
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
            convolution(maps[i], maps[i + 1], (3, 5), padding=(1, 2) if i == 1 else 0)
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
        self.local = convolution(
            spec.channels, local, (3, width), stride=(1, per_semitone), padding=(0, per_semitone)
        )
        self.gather = convolution(local * len(self.HARMONIC_SEMITONES), shared, (1, 1))
        self.refine = nn.ModuleList(
            [
                convolution(shared, shared, (5, 3), padding=(0, 1)),
                convolution(shared, shared, (5, 3), padding=(0, 1), dilation=(3, 1)),
                convolution(shared, shared, (3, 1), dilation=(9, 1)),
            ]
        )
        self.register_offsets = nn.ParameterList(
            [nn.Parameter(torch.zeros(1, shared, 1, N_KEYS)) for _ in range(2)]
        )
        self.output = nn.Conv2d(shared, 1, 1)
        self.initialise(config.prior)

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits [batch, time - 36, 88] of frames [batch, channels, time, bins]."""
        if not frames.is_cuda:
            frames = frames.contiguous(memory_format=torch.channels_last)
        semitones = self.local(frames)
        over_harmonics = cast("nn.Conv2d", self.gather[0])
        bias = cast("Tensor", over_harmonics.bias)
        hidden = harmonic_convolution(
            semitones, over_harmonics.weight, bias, self.HARMONIC_SEMITONES, N_KEYS
        )
        hidden = add_per_key(self.gather[1:](hidden), self.register_offsets[0])
        hidden = self.refine[1](self.refine[0](hidden))
        hidden = add_per_key(hidden, self.register_offsets[1])
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
