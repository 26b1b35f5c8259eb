"""What a network of phonemes is: its settings, and what the kinds have in common.

Window networks see an odd number of frames and name the class of the centre one; the utterance
network sees a whole utterance and names every frame of it. The layers are in `phonemes.networks`,
the formulas of their sizes in `phonemes.parameter_count`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from amt_pipeline.core.values import reset_to_defaults

_RECURRENT = ("recurrent_layers", "recurrent_units", "recurrent_dropout")
_FRONT = ("front_units", "front_frames", "step_frames")

UNUSED_SETTINGS: dict[str, tuple[str, ...]] = {
    "mlp": (*_RECURRENT, "readout", *_FRONT),
    "lstm_window": ("legacy_layers", *_FRONT),
    "lstm_utterance": ("legacy_layers", "hidden_layers", "hidden_units", "batch_norm", "readout"),
}
"""Settings that a kind of network has nothing for."""


class ModelConfig(BaseModel):
    """Which network, and how large.

    A setting that the kind of network has nothing for goes back to its default, whatever was given:
    it makes no other network, so it must not make another run (checkpoints carry these settings).
    It is not refused, since a preset has it for the kind that an override replaces.

    Attributes:
        kind: `mlp` (the course's network), `lstm_window` (its author's strongest: a bidirectional
            LSTM over the window) or `lstm_utterance` (one over whole utterances).
        window_frames: Frames side by side, odd, the centre one is named; always 1 for
            lstm_utterance, which sees them all.
        hidden_layers: Blocks of linear layer, batch norm, ReLU and dropout (mlp: all of it;
            lstm_window: after the LSTM). The number of hidden layers that are there.
        hidden_units: Width of these blocks.
        batch_norm: Whether blocks have batch norm.
        dropout: In every block; lstm_utterance: before the recurrent layers and before the output.
        legacy_layers: One block more than `hidden_layers` says, as the course's sample code builds
            (mlp only). Needed to compare sizes with its slides.
        recurrent_layers: Layers of the LSTM.
        recurrent_units: LSTM units in each direction.
        recurrent_dropout: Dropout between the layers of the LSTM.
        readout: Which time step of the LSTM lstm_window goes on with. `last` is the recipe, but
            there the last layer, backward, has seen one frame, and its weights between steps
            never learn; at the `centre`, the frame that is named, each direction has seen half.
        front_units: Maps of a convolution over time in front of lstm_utterance; 0 leaves it out.
        front_frames: Frames that the convolution spans; odd.
        step_frames: Neighbouring frames that lstm_utterance takes, and names, in one step: 2 halves
            the steps, which are what an utterance costs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mlp", "lstm_window", "lstm_utterance"]
    window_frames: int = Field(3, ge=1)
    hidden_layers: int = Field(2, ge=1)
    hidden_units: int = Field(64, ge=1)
    batch_norm: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)
    legacy_layers: bool = False
    recurrent_layers: int = Field(2, ge=1)
    recurrent_units: int = Field(128, ge=1)
    recurrent_dropout: float = Field(0.0, ge=0, lt=1)
    readout: Literal["last", "centre"] = "last"
    front_units: int = Field(0, ge=0)
    front_frames: int = Field(5, ge=1)
    step_frames: int = Field(1, ge=1)

    @field_validator("window_frames", "front_frames")
    @classmethod
    def _odd(cls, value: int, info: ValidationInfo) -> int:
        if value % 2 == 0:
            # Who names the parameter shows its value, too.
            raise ValueError(f"{info.field_name} must be odd, so that it has a centre")
        return value

    @model_validator(mode="after")
    def _reset_unused(self) -> ModelConfig:
        reset_to_defaults(self, UNUSED_SETTINGS[self.kind])
        if self.recurrent_layers == 1:
            reset_to_defaults(self, ("recurrent_dropout",))
        if not self.front_units:
            reset_to_defaults(self, ("front_frames",))
        if self.kind == "lstm_utterance":
            object.__setattr__(self, "window_frames", 1)
        return self

    @property
    def block_layers(self) -> int:
        """Number of blocks that are built."""
        return self.hidden_layers + self.legacy_layers

    @property
    def whole_utterances(self) -> bool:
        """Whether the network sees utterances (and their lengths), not windows."""
        return self.kind == "lstm_utterance"
