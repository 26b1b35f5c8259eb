"""Learning rates over a run: warm-up, then one of six shapes.

A rate is a pure function of the step and of the validation scores so far, which a checkpoint holds
in its history: a resumed run has the rates of one that was not stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from amt_pipeline.core.values import reset_to_defaults

Kind = Literal["none", "step", "linear", "cosine", "warm_restarts", "plateau"]

_USED: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "step": ("decay_rate", "decay_steps"),
    "linear": ("end_factor", "end_epochs", "per"),
    "cosine": ("half_period_epochs", "minimum_rate", "per"),
    "warm_restarts": ("period_epochs", "period_factor", "minimum_rate", "per"),
    "plateau": ("plateau_factor", "patience", "threshold", "minimum_rate"),
}


class ScheduleConfig(BaseModel):
    """How the learning rate changes, after the warm-up.

    Settings of the other kinds go back to their defaults, whatever was given: an override of `kind`
    may leave those of the preset's kind behind.

    Attributes:
        kind: `none` keeps the rate. `step` multiplies it by `decay_rate` every `decay_steps`
            steps. `linear` goes to `end_factor` of it. `cosine` falls to `minimum_rate` in half a
            period and rises again. `warm_restarts` falls like it and begins anew. `plateau`
            multiplies by `plateau_factor` when validation has not improved for long.
        decay_rate: Factor of the staircase ...
        decay_steps: ... applied every so many steps.
        end_factor: Share of the rate that `linear` ends at ...
        end_epochs: ... after so many epochs; null is the length of the run.
        half_period_epochs: Epochs from the highest to the lowest rate of `cosine` (torch's T_max).
        period_epochs: Epochs from one restart to the next (torch's T_0).
        period_factor: Each period is so many times as long as the one before (T_mult).
        minimum_rate: Lowest rate of `cosine`, `warm_restarts` and `plateau`.
        plateau_factor: What `plateau` multiplies by.
        patience: Validations without improvement that are waited for.
        threshold: Share by which a validation has to exceed the best one to count as better.
        per: Whether the rate moves after every `epoch`, as torch's schedulers do, or every `step`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Kind = "none"
    decay_rate: float = Field(0.98, gt=0, le=1)
    decay_steps: int = Field(500, ge=1)
    end_factor: float = Field(0.01, ge=0)
    end_epochs: float | None = Field(None, gt=0)
    half_period_epochs: float = Field(10, gt=0)
    period_epochs: float = Field(10, gt=0)
    period_factor: int = Field(1, ge=1)
    minimum_rate: float = Field(1e-7, ge=0)
    plateau_factor: float = Field(0.8, gt=0, lt=1)
    patience: int = Field(10, ge=0)
    threshold: float = Field(1e-3, ge=0)
    per: Literal["epoch", "step"] = "epoch"

    @model_validator(mode="after")
    def _reset_unused(self) -> ScheduleConfig:
        unused = set(type(self).model_fields) - {"kind", *_USED[self.kind]}
        return reset_to_defaults(self, sorted(unused))


class Schedule:
    """The learning rates of one run.

    Args:
        config: The shape.
        learning_rate: The highest rate, before the shape.
        warmup_steps: Steps of a linear rise from zero; 0 is none.
        steps_per_epoch: Steps of an epoch, which may end inside one.
        total_steps: Length of the run.
    """

    def __init__(
        self,
        config: ScheduleConfig,
        *,
        learning_rate: float,
        warmup_steps: int = 0,
        steps_per_epoch: float = 1.0,
        total_steps: int = 1,
    ) -> None:
        self.config, self.learning_rate, self.warmup_steps = config, learning_rate, warmup_steps
        self.steps_per_epoch, self.total_steps = steps_per_epoch, total_steps
        self._plateau = _Plateau(config)

    def rate(self, step: int) -> float:
        """Return the learning rate of step `step` (0 is the first)."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return warmup * self._shape(step)

    def validated(self, score: float) -> None:
        """Hear of a validation (higher is better), in the order in which they happened."""
        self._plateau.hear(score)

    def _shape(self, step: int) -> float:
        config, base = self.config, self.learning_rate
        if config.kind == "step":
            return base * config.decay_rate ** (step // config.decay_steps)
        if config.kind == "linear":
            whole = config.end_epochs or self.total_steps / self.steps_per_epoch
            return base * (1 + (config.end_factor - 1) * min(1.0, self._epochs(step) / whole))
        if config.kind == "cosine":
            return self._between(self._epochs(step) / config.half_period_epochs)
        if config.kind == "warm_restarts":
            return self._between(self._into_period(self._epochs(step)))
        if config.kind == "plateau":
            low = min(config.minimum_rate, base)
            return max(base * config.plateau_factor**self._plateau.reductions, low)
        return base

    def _between(self, phase: float) -> float:
        """Return the rate at a phase of the cosine: 0 is the highest, 1 the lowest."""
        low = min(self.config.minimum_rate, self.learning_rate)
        return low + (self.learning_rate - low) * (1 + math.cos(math.pi * phase)) / 2

    def _into_period(self, epochs: float) -> float:
        period = self.config.period_epochs
        while epochs >= period:
            epochs -= period
            period *= self.config.period_factor
        return epochs / period

    def _epochs(self, step: int) -> float:
        """Return the epochs done before a step."""
        epochs = step / self.steps_per_epoch
        # An epoch is over when the step in which its last window was is done.
        return float(math.floor(epochs + 1e-9)) if self.config.per == "epoch" else epochs


class _Plateau:
    """Counts reductions as torch's ReduceLROnPlateau does (mode max, relative threshold)."""

    def __init__(self, config: ScheduleConfig) -> None:
        self._config, self.reductions = config, 0
        self._best, self._waited = -math.inf, 0

    def hear(self, score: float) -> None:
        best = self._best
        margin = abs(best) * self._config.threshold if math.isfinite(best) else 0.0
        if score > best + margin:
            self._best, self._waited = score, 0
            return
        self._waited += 1
        if self._waited > self._config.patience:
            self.reductions, self._waited = self.reductions + 1, 0


def replay(schedule: Schedule, history: list[dict[str, Any]], name: str) -> None:
    """Tell a schedule of the validations of a history, in order."""
    for row in history:
        if name in row:
            schedule.validated(float(row[name]))
