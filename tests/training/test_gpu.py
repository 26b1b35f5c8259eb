"""The engine on a CUDA device; skipped without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from amt_pipeline.ranking.evaluate import evaluate_checkpoints
from amt_pipeline.training.checkpoints import list_checkpoints
from amt_pipeline.training.evaluation import mean_score
from amt_pipeline.training.loop import train
from amt_pipeline.training.losses import count_outputs, weighted_cross_entropy

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

MakeTask = Callable[..., Any]


def test_auto_is_cuda_with_half_precision(make_task: MakeTask, tmp_path: Path) -> None:
    result = train(make_task(device="auto", epochs=40, save_every_steps=1000), tmp_path)
    assert (result.device, result.precision) == ("cuda", "bfloat16")
    assert result.history[-1]["f1"] > 0.9


def test_forward_and_steps_agree_with_the_cpu(make_task: MakeTask, tmp_path: Path) -> None:
    losses = {}
    for device in ("cpu", "cuda"):
        task = make_task(device=device, precision="float32", epochs=2, log_every_steps=1)
        task.build_network = without_dropout(task.build_network)
        losses[device] = [row["loss"] for row in train(task, tmp_path / device).history]
    assert len(losses["cpu"]) == 8
    # Not the weights: the bias before a batch norm has no gradient but rounding, which Adam
    # amplifies to whole steps.
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-3)


def without_dropout(build: Callable[[], Any]) -> Callable[[], Any]:
    """Each device would draw from its own generator."""

    def build_plain() -> Any:
        network = build()
        network.layers[3].p = 0.0
        return network

    return build_plain


def test_a_run_begun_on_cuda_goes_on_on_the_cpu(make_task: MakeTask, tmp_path: Path) -> None:
    train(make_task(device="cuda", epochs=2), tmp_path)
    result = train(make_task(device="cpu", epochs=4), tmp_path)
    assert (result.steps, result.device) == (16, "cpu")


def test_evaluation_agrees_with_the_cpu(make_task: MakeTask, tmp_path: Path) -> None:
    train(make_task(device="cuda", precision="float32"), tmp_path)
    scores = [
        mean_score(units, "f1")
        for device in ("cpu", "cuda")
        for units in evaluate_checkpoints(
            make_task(device=device, precision="float32"),
            list_checkpoints(tmp_path)[-1:],
            "validation",
            tmp_path / f"evaluations-{device}",
            {},
        )
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.03)


def test_the_loss_does_not_wait_for_the_device() -> None:
    logits = torch.randn(3, 4, device="cuda")
    targets = logits > 0
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = weighted_cross_entropy(logits, targets, 2.0, None, count_outputs(targets))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert float(loss) > 0
