"""Hyper-parameters of a training run, checked before anything starts."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from amt_pipeline.training.schedule import Schedule, ScheduleConfig

NOT_IDENTITY = frozenset(
    {
        *("epochs", "keep", "log_every_steps", "restart", "device", "threads", "resident"),
        *("devices", "nodes", "endpoint", "max_restarts"),
        *("source", "records_folder"),
    }
)
"""Settings that may change between starts of one run: they do not alter the step that comes next
(the epochs only say when to stop, unless the rate runs to the end of them: see `identity`; records
made elsewhere count by their content, in the fingerprint of the data)."""

Interval = Literal["epoch"] | Annotated[int, Field(ge=1)]
"""Steps between two events; `epoch` is after every epoch."""


class TrainingConfig(BaseModel):
    """How a network is trained; defaults are the reference's onset network.

    Attributes:
        epochs: Passes over the training windows; steps = epochs x windows / batch_size, rounded up
            to a whole number of save intervals.
        batch_size: Windows per step.
        optimiser: `adam`, or `adamw`, whose weight decay is apart from the gradient.
        learning_rate: Before warm-up and schedule.
        weight_decay: Of `adamw` (decoupled) or `adam` (added to the gradient), on all parameters.
        warmup_steps: Steps over which the rate rises linearly from zero; 0 is none.
        schedule: How the rate changes after that.
        pos_weight: Weight of positive targets in the binary cross-entropy; null is none.
        conv_l2: L2 of convolution weights, added to the loss as l2 / 2 x sum of squares.
        dense_l2: L2 of fully connected weights, likewise.
        gradient_clip: Largest gradient norm; null is none.
        validate_every_steps: Steps between looks at the validation split, or `epoch`; null is none.
        save_every_steps: Steps between checkpoints, or `epoch`.
        keep: Regular checkpoints kept: `all`, or the newest so many.
        log_every_steps: Steps between scalars.
        seed: Of initial weights, shuffling, sampling, dropout and augmentation.
        device: `auto` is CUDA where present, else CPU.
        precision: `auto` is bf16 on CUDA and 32-bit elsewhere.
        threads: CPU threads; null is one per processor (or OMP_NUM_THREADS).
        resident: Whether the training frames live in the device's memory: `auto` is where that
            pays and they fit, `always` insists, `never` reads them from files. Same batches either
            way.
        restart: Set an unfinished run aside and begin anew instead of resuming it. A finished one
            with the same settings stays.
        source: Training windows come from the stored `frames`, or from `tfrecords`: the same
            batches, read from the export of these windows.
        records_folder: With `tfrecords`: a folder of records made elsewhere; null is our export.
        devices: Processes on each machine that share every batch: one per GPU, or CPU processes;
            `auto` is all GPUs of this machine, or one process without.
        nodes: Machines that train together, each with as many devices.
        endpoint: `host:port` at which several machines meet, on this one; null is its name and a
            free port.
        max_restarts: How often all processes begin again from the last checkpoint after one died.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: float = Field(40, gt=0)
    batch_size: int = Field(512, ge=1)
    optimiser: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: ScheduleConfig = ScheduleConfig(kind="step")
    pos_weight: float | None = Field(None, gt=0)
    conv_l2: float = Field(0.0, ge=0)
    dense_l2: float = Field(1e-4, ge=0)
    gradient_clip: float | None = Field(None, gt=0)
    validate_every_steps: Interval | None = None
    save_every_steps: Interval = 2500
    keep: Literal["all"] | Annotated[int, Field(ge=1)] = "all"
    log_every_steps: int = Field(500, ge=1)
    seed: int = 1
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = Field(None, ge=1)
    resident: Literal["auto", "always", "never"] = "auto"
    restart: bool = False
    source: Literal["frames", "tfrecords"] = "frames"
    records_folder: str | None = Field(None, min_length=1)
    devices: Literal["auto"] | Annotated[int, Field(ge=1)] = 1
    nodes: int = Field(1, ge=1)
    endpoint: str | None = Field(None, pattern=r"^[^\s:]+:\d{1,5}$")
    max_restarts: int = Field(3, ge=0)

    @model_validator(mode="after")
    def _plateau_needs_validation(self) -> TrainingConfig:
        if self.schedule.kind == "plateau" and self.validate_every_steps is None:
            raise ValueError(
                "schedule.kind=plateau follows the validation score: set validate_every_steps "
                "(to epoch, for instance)"
            )
        return self

    def total_steps(self, n_windows: int) -> int:
        """Return the number of steps for a training set of `n_windows`.

        Runs shorter than one save interval are not stretched to it; they save at their end. With
        `save_every_steps=epoch` nothing is stretched.
        """
        steps = max(1, -(-round(self.epochs * n_windows) // self.batch_size))
        every = self.save_every_steps
        if every == "epoch" or steps <= every:
            return steps
        return -(-steps // every) * every

    def steps_at(self, every: Interval | None, n_windows: int) -> set[int]:
        """Return the numbers of steps done at which an event of an interval is due.

        Args:
            every: The interval; None is never.
            n_windows: Windows of an epoch.

        Returns:
            Multiples of the interval, or the step in which each epoch ends, up to the last step of
            the run, which is always among them.
        """
        total = self.total_steps(n_windows)
        if every is None:
            return set()
        if every == "epoch":
            ends = (
                -(-epoch * n_windows // self.batch_size)
                for epoch in range(1, math.floor(self.epochs) + 1)
            )
            return {*(step for step in ends if step < total), total}
        return {*range(every, total, every), total}

    def schedule_of(self, n_windows: int) -> Schedule:
        """Return the learning rates of a run on `n_windows` windows per epoch."""
        return Schedule(
            self.schedule,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
            steps_per_epoch=n_windows / self.batch_size,
            total_steps=self.total_steps(n_windows),
        )

    def identity(self) -> dict[str, object]:
        """Return the settings that two starts of one run must share."""
        settings = {k: v for k, v in self.model_dump().items() if k not in NOT_IDENTITY}
        if self.schedule.kind == "linear" and self.schedule.end_epochs is None:
            settings["epochs"] = self.epochs
        return settings
