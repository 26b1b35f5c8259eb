"""Hyper-parameters of a training run, checked before anything starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NOT_IDENTITY = frozenset(
    {
        *("epochs", "keep", "log_every_steps", "restart", "device", "threads", "resident"),
        *("devices", "nodes", "endpoint", "max_restarts"),
        *("source", "records_folder"),
    }
)
"""Settings that may change between starts of one run: they do not alter the step that comes next
(the epochs only say when to stop, since every schedule counts steps; records made elsewhere count
by their content, in the fingerprint of the data)."""


class TrainingConfig(BaseModel):
    """How a network is trained; defaults are the reference's onset network.

    Attributes:
        epochs: Passes over the training windows; steps = epochs x windows / batch_size, rounded up
            to a whole number of save intervals.
        batch_size: Windows per step.
        learning_rate: Of Adam, before warm-up and decay.
        warmup_steps: Steps over which the rate rises linearly from zero; 0 is none.
        decay_rate: Factor of the staircase decay ...
        decay_steps: ... applied every so many steps.
        pos_weight: Weight of positive targets in the cross-entropy; null is none.
        conv_l2: L2 of convolution weights, added to the loss as l2 / 2 x sum of squares.
        dense_l2: L2 of fully connected weights, likewise.
        gradient_clip: Largest gradient norm; null is none.
        save_every_steps: Steps between checkpoints.
        keep: Regular checkpoints kept: `all`, or the newest so many.
        log_every_steps: Steps between scalars.
        seed: Of initial weights, shuffling, sampling, dropout and augmentation.
        device: `auto` is CUDA where present, else CPU.
        precision: `auto` is bf16 on CUDA and 32-bit elsewhere.
        threads: CPU threads; null is one per processor (or OMP_NUM_THREADS).
        resident: Whether the training frames live in the device's memory: `auto` is on a GPU and if
            they fit, `always` insists, `never` reads them from files. Same batches either way.
        restart: Set an unfinished run aside and begin anew instead of resuming it.
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

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: float = Field(40, gt=0)
    batch_size: int = Field(512, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(0, ge=0)
    decay_rate: float = Field(0.98, gt=0, le=1)
    decay_steps: int = Field(500, ge=1)
    pos_weight: float | None = Field(None, gt=0)
    conv_l2: float = Field(0.0, ge=0)
    dense_l2: float = Field(1e-4, ge=0)
    gradient_clip: float | None = Field(None, gt=0)
    save_every_steps: int = Field(2500, ge=1)
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

    def total_steps(self, n_windows: int) -> int:
        """Return the number of steps for a training set of `n_windows`.

        Runs shorter than one save interval are not stretched to it; they save at their end.
        """
        steps = max(1, -(-round(self.epochs * n_windows) // self.batch_size))
        if steps <= self.save_every_steps:
            return steps
        return -(-steps // self.save_every_steps) * self.save_every_steps

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of step `step` (0 is the first)."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return self.learning_rate * warmup * self.decay_rate ** (step // self.decay_steps)

    def identity(self) -> dict[str, object]:
        """Return the settings that two starts of one run must share."""
        return {key: value for key, value in self.model_dump().items() if key not in NOT_IDENTITY}
