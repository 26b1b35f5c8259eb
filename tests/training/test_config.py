from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from amt_pipeline.training.config import NOT_IDENTITY, TrainingConfig


@given(st.floats(0.01, 50), st.integers(1, 100_000), st.integers(1, 600), st.integers(1, 3000))
def test_steps_cover_the_epochs_and_end_on_a_save(
    epochs: float, n_windows: int, batch_size: int, every: int
) -> None:
    config = TrainingConfig(epochs=epochs, batch_size=batch_size, save_every_steps=every)
    needed = max(1, math.ceil(round(epochs * n_windows) / batch_size))
    steps = config.total_steps(n_windows)
    if needed <= every:
        assert steps == needed
    else:
        assert steps % every == 0
        assert needed <= steps < needed + every


@pytest.mark.parametrize(
    ("epochs", "n_windows", "steps"), [(40, 51200, 5000), (40, 32001, 5000), (1, 512, 1), (2, 1, 1)]
)
def test_steps_of_the_reference(epochs: float, n_windows: int, steps: int) -> None:
    assert TrainingConfig(epochs=epochs).total_steps(n_windows) == steps


@given(st.integers(0, 5000), st.integers(0, 100), st.integers(1, 700), st.floats(0.5, 1))
def test_learning_rate_as_restated(step: int, warmup: int, every: int, rate: float) -> None:
    config = TrainingConfig(
        learning_rate=0.003,
        warmup_steps=warmup,
        schedule={"kind": "step", "decay_steps": every, "decay_rate": rate},
    )
    expected = 0.003
    for _ in range(step // every):
        expected *= rate
    if step < warmup:
        expected *= (step + 1) / warmup
    assert config.schedule_of(1000).rate(step) == pytest.approx(expected)


def test_staircase_of_the_reference() -> None:
    schedule = TrainingConfig().schedule_of(1000)
    rates = [schedule.rate(step) for step in (0, 499, 500, 999, 1000)]
    assert rates == pytest.approx([1e-3, 1e-3, 0.98e-3, 0.98e-3, 0.9604e-3])


CHANGES = {
    "epochs": 3, "batch_size": 8, "learning_rate": 0.5, "warmup_steps": 9,
    "optimiser": "adamw", "weight_decay": 0.1, "schedule": {"kind": "cosine"},
    "validate_every_steps": 5, "pos_weight": 3.0, "conv_l2": 0.1, "dense_l2": 0.2,
    "gradient_clip": 1.0,
    "save_every_steps": 3, "keep": 2, "log_every_steps": 3, "seed": 2, "device": "cpu",
    "precision": "float32", "threads": 2, "resident": "never", "restart": True,
    "source": "tfrecords", "records_folder": "records",
    "devices": 2, "nodes": 2, "endpoint": "first:29500", "max_restarts": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", TrainingConfig.model_fields)
def test_identity_is_what_alters_the_next_step(name: str) -> None:
    changed = TrainingConfig(**{name: CHANGES[name]})
    assert (changed.identity() == TrainingConfig().identity()) is (name in NOT_IDENTITY)


@pytest.mark.parametrize(
    "wrong",
    [{"epoch": 3}, {"epochs": 0}, {"keep": 0}, {"keep": "some"}, {"device": "gpu"},
     {"precision": "half"}, {"pos_weight": 0}, {"threads": 0}, {"schedule": {"kind": "steps"}},
     {"optimiser": "sgd"}, {"save_every_steps": "epochs"}, {"validate_every_steps": 0},
     {"gradient_clip": math.inf}, {"learning_rate": math.inf}, {"epochs": math.inf},
     {"schedule": {"kind": "linear", "end_epochs": math.inf}},
     {"devices": 0}, {"devices": "all"}, {"nodes": 0}, {"endpoint": "first"}, {"max_restarts": -1}],
    ids=str,
)  # fmt: skip
def test_misspelt_or_senseless_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TrainingConfig(**wrong)
