"""Training steps on a CUDA device: windows per second, the share of the feed, and two floors.

Both networks of the preset `reference` train on a corpus of noise that lies on the device, as
`training.resident: auto` has it; once more with frames read from files. Beside each rate stands how
many times longer a step takes than two floors that are measured on the same device:

- arithmetic: the step's operations (convolutions and matrix products; backward counts twice the
  forward pass) over the rate of a large matrix product in the same precision (TF32 for float32,
  which convolutions use);
- memory: what a step has to move if no two layers are fused over the rate of a large copy. Each
  layer's output is written and read once forward, its gradient once backward; weights are read
  twice, their gradients and Adam's moments read and written.

Without a CUDA device it says so and ends well.

    .venv/bin/python benchmarks/gpu_training.py [--quick]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus import open_task, preset_config, write_corpus
from measure import Figure, arguments, show

from amt_pipeline.training.device import autocast
from amt_pipeline.training.distributed import ALONE
from amt_pipeline.training.feed import open_feed
from amt_pipeline.training.stream import WindowStream
from amt_pipeline.training.task import Batch
from amt_pipeline.training.trainer import Trainer
from amt_pipeline.transcription.tasks import FrameTask

WAYS = (
    ("float32", False, "auto"),
    ("bfloat16", False, "auto"),
    ("bfloat16", True, "auto"),
    ("bfloat16", False, "never"),
)
"""Precision, whether torch.compile is used, where frames are."""

BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Floors:
    """What the device can do at most.

    Attributes:
        operations_per_s: Of a large matrix product.
        bytes_per_s: Read and written by a large copy.
    """

    operations_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class Steps:
    """Measured steps.

    Attributes:
        windows_per_s: Over all steps.
        step_s: Mean time of one.
        feed_share: Share of the time that the loop spent on getting batches.
        arithmetic: Times the arithmetic floor.
        memory: Times the memory floor.
    """

    windows_per_s: float
    step_s: float
    feed_share: float
    arithmetic: float
    memory: float


def best_s(work: Callable[[], object], device: Any, repeats: int = 5) -> float:
    """Return the shortest of some runs of `work`, waiting for the device."""
    work()
    found = []
    for _ in range(repeats):
        _wait_for(device)
        began_s = time.perf_counter()
        work()
        _wait_for(device)
        found.append(time.perf_counter() - began_s)
    return min(found)


def measure_floors(device: Any, precision: str, *, size: int, copy_bytes: int) -> Floors:
    """Measure matrix product and copy.

    Args:
        device: Where.
        precision: `float32` or `bfloat16`.
        size: Rows and columns of the matrices.
        copy_bytes: What is copied.
    """
    import torch

    dtype = getattr(torch, precision)
    one, other = (torch.rand((size, size), device=device).to(dtype) for _ in range(2))
    kept = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        product_s = best_s(lambda: one @ other, device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = kept
    source = torch.zeros(copy_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = best_s(lambda: target.copy_(source), device)
    return Floors(2 * size**3 / product_s, 2 * copy_bytes / copy_s)


def operations(network: Any, frames: Any) -> float:
    """Return the floating-point operations of a training step on scaled frames.

    Convolutions and dense layers are counted by torch, the LSTM by hand (its fused kernels are not
    known to the counter): 4 gates, input and recurrent weights, two directions.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        hidden = network.dense(network.trunk(frames))
        network.output(hidden.new_zeros((*hidden.shape[:2], network.output.in_features)))
    lstm = network.recurrent
    weights = 2 * 4 * lstm.hidden_size * (lstm.input_size + lstm.hidden_size)
    return 3.0 * (counter.get_total_flops() + 2 * hidden.shape[0] * hidden.shape[1] * weights)


def moved_bytes(network: Any, frames: Any, value_bytes: int) -> float:
    """Return the bytes that a training step on scaled frames moves, layer by layer."""
    import torch

    values = [2 * frames.numel()]  # written by the scaling, read by the first layer

    def count(_: object, __: object, output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        values.append(4 * tensor.numel())

    leaves = [
        module
        for module in network.modules()
        if not list(module.children()) and not isinstance(module, torch.nn.Identity)
    ]
    hooks = [module.register_forward_hook(count) for module in leaves]
    try:
        with torch.no_grad():
            network(frames)
    finally:
        for hook in hooks:
            hook.remove()
    weights = sum(parameter.numel() for parameter in network.parameters())
    # Forward, backward; gradient out and in; weight and two moments in and out.
    return value_bytes * (sum(values) + 2 * weights) + 4 * 8 * weights


def measure_steps(
    task: FrameTask,
    device: Any,
    precision: str,
    floors: Floors,
    *,
    n_steps: int,
    compiled: bool = False,
) -> Steps:
    """Train for some steps unmeasured, then for `n_steps` measured ones."""
    import torch

    stream = WindowStream(task)
    schedule = task.training.schedule_of(stream.epoch_size)
    trainer = Trainer(task, schedule, device, precision, ALONE)
    plain = trainer.network
    if compiled:
        trainer.network = torch.compile(plain)  # type: ignore[assignment]
    warm = max(1, n_steps // 5)

    def make(step: int) -> Batch:
        return task.training_batch(stream.batch(step), step)

    with open_feed(task, make, range(warm + n_steps), device) as feed:
        for step in range(warm):
            trainer.step(step, feed.batch(step))
        _wait_for(device)
        began_s, waited_s = time.perf_counter(), feed.wait_s
        for step in range(warm, warm + n_steps):
            trainer.step(step, feed.batch(step))
        _wait_for(device)
        elapsed_s, waited_s = time.perf_counter() - began_s, feed.wait_s - waited_s
    trainer.read(warm + n_steps)
    batch = make(0).to(device)
    with torch.no_grad(), autocast(precision, device):
        frames = task.config.input.apply(*batch.inputs, task.config.features.kind)
    step_s = elapsed_s / n_steps
    moved = moved_bytes(plain, frames, BYTES[precision])
    return Steps(
        windows_per_s=n_steps * task.training.batch_size / elapsed_s,
        step_s=step_s,
        feed_share=waited_s / elapsed_s,
        arithmetic=step_s * floors.operations_per_s / operations(plain, frames),
        memory=step_s * floors.bytes_per_s / moved,
    )


def _wait_for(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _figure(name: str, steps: Steps, precision: str, compiled: bool, resident: str) -> Figure:
    import torch

    way = f"{precision}{', compiled' if compiled else ''}"
    frames = "on the device" if resident == "auto" else "read from files"
    return Figure(
        f"GPU training, {name} network of the preset reference, {way}, frames {frames}",
        steps.windows_per_s,
        "windows/s",
        note=f"{torch.cuda.get_device_name()}: {1e3 * steps.step_s:.2f} ms per step, "
        f"{steps.feed_share:.1%} of it in the feed, {steps.arithmetic:.1f} times the arithmetic "
        f"floor, {steps.memory:.1f} times the memory floor",
    )


def main(quick: bool = False) -> list[Figure]:
    """Measure both networks in every way; nothing without a CUDA device."""
    import torch

    if not torch.cuda.is_available():
        print("No CUDA device here: nothing to measure.")
        return []
    device, figures = torch.device("cuda"), []
    sizes = {"size": 2048, "copy_bytes": 10**8} if quick else {"size": 8192, "copy_bytes": 10**9}
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        spec = preset_config("reference", "onset").features
        ids = write_corpus(folder, spec, *((16, 500) if quick else (64, 3000)))
        floors = {way: measure_floors(device, way, **sizes) for way in BYTES}
        for name in ("onset", "pitch"):
            for precision, compiled, resident in WAYS:
                training = {"precision": precision, "resident": resident}
                task = open_task(preset_config("reference", name, training=training), folder, ids)
                steps = measure_steps(
                    task,
                    device,
                    precision,
                    floors[precision],
                    n_steps=10 if quick else 100,
                    compiled=compiled,
                )
                figures.append(_figure(name, steps, precision, compiled, resident))
    return figures


if __name__ == "__main__":
    show(main(arguments(__doc__ or "").quick))
