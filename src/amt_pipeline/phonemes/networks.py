"""The networks: the course's MLP, an LSTM over a window, an LSTM over an utterance.

Input frames are [batch, time, bins], batch first everywhere. The order matters: a flat row holds
its oldest frame first, so a row of n x bins numbers is n frames of one sample, never one frame of
n samples. Reshaping to (n, batch, bins) also runs, and mixes samples; `tests/phonemes` guard
against it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.phonemes.models import ModelConfig


def hidden_blocks(inputs: int, layers: int, config: ModelConfig) -> list[nn.Module]:
    """Return `layers` times a linear layer, batch norm, ReLU and dropout, as the settings say.

    Args:
        inputs: Numbers that enter the first block.
        layers: How many blocks.
        config: Width, and which parts a block has.
    """
    parts: list[nn.Module] = []
    for layer in range(layers):
        parts.append(nn.Linear(inputs if layer == 0 else config.hidden_units, config.hidden_units))
        if config.batch_norm:
            parts.append(nn.BatchNorm1d(config.hidden_units))
        parts.append(nn.ReLU())
        if config.dropout:
            parts.append(nn.Dropout(config.dropout))
    return parts


def recurrent(inputs: int, config: ModelConfig) -> nn.LSTM:
    """Return the bidirectional LSTM, batch first: [batch, time, inputs] to 2 x units."""
    return nn.LSTM(
        inputs,
        config.recurrent_units,
        config.recurrent_layers,
        batch_first=True,
        bidirectional=True,
        dropout=config.recurrent_dropout,
    )


class WindowMlp(nn.Module):
    """The course's network: the frames of a window side by side, hidden blocks, one linear layer.

    Takes windows [batch, window_frames, bins], or the same as flat rows [batch, window_frames x
    bins]; gives logits [batch, classes].
    """

    def __init__(self, bins: int, n_classes: int, config: ModelConfig) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *hidden_blocks(bins * config.window_frames, config.block_layers, config)
        )
        self.output = nn.Linear(config.hidden_units, n_classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits [batch, classes] of windows [batch, window_frames, bins]."""
        logits: Tensor = self.output(self.blocks(frames.flatten(1)))
        return logits


class WindowLstm(nn.Module):
    """A bidirectional LSTM over the window, one of its time steps, hidden blocks, a linear layer.

    With the last time step it is the recipe by which the course's highest level was reached.

    Takes windows [batch, window_frames, bins], or the same as flat rows; gives logits
    [batch, classes].
    """

    def __init__(self, bins: int, n_classes: int, config: ModelConfig) -> None:
        super().__init__()
        self.window = (config.window_frames, bins)
        self.step = -1 if config.readout == "last" else config.window_frames // 2
        self.recurrent = recurrent(bins, config)
        self.blocks = nn.Sequential(
            *hidden_blocks(2 * config.recurrent_units, config.block_layers, config)
        )
        self.output = nn.Linear(config.hidden_units, n_classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Return logits [batch, classes] of windows [batch, window_frames, bins]."""
        states = self.recurrent(frames.reshape(-1, *self.window))[0]
        logits: Tensor = self.output(self.blocks(states[:, self.step]))
        return logits


class UtteranceLstm(nn.Module):
    """A bidirectional LSTM over whole utterances, padded to one length; one linear layer per frame.

    Each utterance is turned around within its own length for the backward direction, so that this
    starts at its last frame and not in the padding: what stands in the padding, and how much there
    is, changes nothing. (Packed sequences do the same, but on a CPU their backward pass takes 25
    times as long when lengths differ.)
    """

    def __init__(self, bins: int, n_classes: int, config: ModelConfig) -> None:
        super().__init__()
        self.front: nn.Conv1d | None = None
        if config.front_units:
            self.front = nn.Conv1d(
                bins, config.front_units, config.front_frames, padding=config.front_frames // 2
            )
        self.step_frames = config.step_frames
        self.dropout = nn.Dropout(config.dropout)
        self.between = nn.Dropout(config.recurrent_dropout)
        units = config.recurrent_units
        first = (config.front_units or bins) * config.step_frames
        sizes = [first, *[2 * units] * (config.recurrent_layers - 1)]
        self.onward = nn.ModuleList(nn.LSTM(size, units, batch_first=True) for size in sizes)
        self.reverse = nn.ModuleList(nn.LSTM(size, units, batch_first=True) for size in sizes)
        self.output = nn.Linear(2 * units, n_classes * config.step_frames)

    def forward(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        """Return logits [batch, time, classes].

        Args:
            frames: [batch, time, bins]; anything may stand in the padding.
            n_frames: int64 [batch], frames of each utterance, up to `time`.
        """
        batch, time, _ = frames.shape
        n_frames = n_frames.to(frames.device)
        steps = -(-time // self.step_frames)
        hidden = functional.pad(
            self._enter(frames, n_frames), (0, 0, 0, steps * self.step_frames - time)
        )
        hidden = self._recur(
            self.dropout(hidden).reshape(batch, steps, -1),
            (n_frames + self.step_frames - 1) // self.step_frames,
        )
        logits: Tensor = self.output(self.dropout(hidden))
        return logits.reshape(batch, steps * self.step_frames, -1)[:, :time]

    def _enter(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        """Silence the padding and apply the convolution: [batch, time, front_units or bins]."""
        at = torch.arange(frames.shape[1], device=frames.device)
        padding = (at >= n_frames[:, None])[:, :, None]
        hidden = frames.masked_fill(padding, 0.0)
        if self.front is None:
            return hidden
        # Zeros beyond the end are what the convolution has there without padding, too; what it
        # makes of them is no frame.
        hidden = torch.relu(self.front(hidden.transpose(1, 2))).transpose(1, 2)
        return hidden.masked_fill(padding, 0.0)

    def _recur(self, hidden: Tensor, n_steps: Tensor) -> Tensor:
        """Apply the recurrent layers: [batch, steps, 2 x units]."""
        at = torch.arange(hidden.shape[1], device=hidden.device)
        last = n_steps[:, None] - 1
        turned = torch.where(at <= last, last - at, at)[:, :, None]
        for layer, (onward, reverse) in enumerate(zip(self.onward, self.reverse, strict=True)):
            if layer:
                hidden = self.between(hidden)
            there = turned.expand(-1, -1, hidden.shape[2])
            onward_states = onward(hidden)[0]
            reverse_states = reverse(hidden.gather(1, there))[0]
            back = turned.expand(-1, -1, reverse_states.shape[2])
            hidden = torch.cat([onward_states, reverse_states.gather(1, back)], dim=2)
        return hidden


NETWORKS: dict[str, type[WindowMlp] | type[WindowLstm] | type[UtteranceLstm]] = {
    "mlp": WindowMlp,
    "lstm_window": WindowLstm,
    "lstm_utterance": UtteranceLstm,
}


def build_network(bins: int, n_classes: int, config: ModelConfig) -> nn.Module:
    """Build the network that a configuration names, with freshly drawn weights.

    Window kinds: `forward(frames [batch, window_frames, bins]) -> [batch, n_classes]`.
    lstm_utterance: `forward(frames [batch, time, bins], n_frames int64 [batch]) ->
    [batch, time, n_classes]`.

    Args:
        bins: Values of a frame (39).
        n_classes: Logits of a frame (41).
        config: Kind and sizes.

    Raises:
        ConfigError: There is nothing to learn from, or nothing to say.
    """
    if bins < 1 or n_classes < 2:
        raise ConfigError(
            "features" if bins < 1 else "model",
            f"a network needs 1 value per frame and 2 classes at least, got {bins} and {n_classes}",
            "Check the features and the labels of the corpus",
        )
    return NETWORKS[config.kind](bins, n_classes, config)
