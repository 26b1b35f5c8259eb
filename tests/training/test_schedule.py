"""Learning rates against torch's own schedulers and against their definitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.optim import lr_scheduler

from amt_pipeline.training.config import TrainingConfig
from amt_pipeline.training.schedule import Schedule, ScheduleConfig, replay

RATE = 5e-4


def make(steps_per_epoch: float = 4.0, total_steps: int = 400, **settings: Any) -> Schedule:
    return Schedule(
        ScheduleConfig(**settings),
        learning_rate=RATE,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
    )


def rates_of_torch(make_scheduler: Callable[[Any], Any], epochs: int) -> list[float]:
    """Return torch's rate of every epoch when it is stepped after each."""
    optimiser = torch.optim.Adam([torch.zeros(1)], lr=RATE)
    scheduler, rates = make_scheduler(optimiser), []
    for _ in range(epochs):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("settings", "make_scheduler"),
    [
        (
            {"kind": "cosine", "half_period_epochs": 10, "minimum_rate": 1e-7},
            lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=10, eta_min=1e-7),
        ),
        (
            {"kind": "warm_restarts", "period_epochs": 10, "minimum_rate": 1e-7},
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=10, eta_min=1e-7),
        ),
        (
            {"kind": "warm_restarts", "period_epochs": 3, "period_factor": 2, "minimum_rate": 0},
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2),
        ),
        (
            {"kind": "linear", "end_factor": 0.25, "end_epochs": 20},
            lambda o: lr_scheduler.LinearLR(o, 1.0, 0.25, total_iters=20),
        ),
    ],
)
def test_rates_of_epochs_are_those_of_torch(settings: Any, make_scheduler: Any) -> None:
    schedule = make(**settings)
    ours = [schedule.rate(4 * epoch + step) for epoch in range(45) for step in range(4)]
    theirs = np.repeat(rates_of_torch(make_scheduler, 45), 4)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-15)


@given(st.lists(st.floats(0.0, 1.0), max_size=80), st.integers(0, 4), st.floats(0, 0.1))
def test_plateau_reduces_where_torch_does(
    scores: list[float], patience: int, threshold: float
) -> None:
    settings = {"plateau_factor": 0.8, "patience": patience, "threshold": threshold}
    schedule = make(kind="plateau", minimum_rate=1e-6, **settings)
    optimiser = torch.optim.Adam([torch.zeros(1)], lr=RATE)
    scheduler = lr_scheduler.ReduceLROnPlateau(
        optimiser, "max", factor=0.8, patience=patience, threshold=threshold, min_lr=1e-6, eps=0
    )
    for score in scores:
        scheduler.step(score)
        schedule.validated(score)
        assert schedule.rate(17) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-12)


@pytest.mark.parametrize("kind", ["cosine", "warm_restarts", "plateau"])
def test_a_lowest_rate_above_the_rate_does_not_raise_it(kind: str) -> None:
    schedule = make(kind=kind, minimum_rate=10 * RATE)
    assert [schedule.rate(step) for step in (0, 40, 200)] == pytest.approx([RATE] * 3)


def test_what_a_resumed_run_knows_is_in_its_history() -> None:
    scores = [0.5, 0.4, 0.4, 0.3, 0.6, 0.6, 0.6]
    whole, resumed = (make(kind="plateau", patience=1) for _ in range(2))
    for score in scores:
        whole.validated(score)
    rows = [{"step": 1.0, "loss": 0.1}, *({"step": 2.0, "validation/x": s} for s in scores)]
    replay(resumed, rows, "validation/x")
    assert whole.rate(0) == resumed.rate(0) < RATE


def test_epochs_that_end_inside_a_step_move_the_rate_after_it() -> None:
    schedule = make(2.5, kind="cosine", half_period_epochs=2, minimum_rate=0)
    assert [round(schedule.rate(step) / RATE, 6) for step in range(6)] == [1, 1, 1, 0.5, 0.5, 0]


def test_rates_that_move_with_every_step() -> None:
    schedule = make(4.0, kind="cosine", half_period_epochs=2, minimum_rate=0, per="step")
    wanted = [RATE * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(9)]
    np.testing.assert_allclose([schedule.rate(step) for step in range(9)], wanted, atol=1e-12)


def test_linear_ends_with_the_run_and_stays_there() -> None:
    schedule = make(4.0, 80, kind="linear", end_factor=0.1, per="step")
    assert schedule.rate(0) == RATE
    assert schedule.rate(80) == schedule.rate(200) == pytest.approx(0.1 * RATE)


def test_settings_of_another_kind_make_no_other_run() -> None:
    left = ScheduleConfig(kind="cosine", decay_rate=0.5, patience=3)
    assert left == ScheduleConfig(kind="cosine")
    assert ScheduleConfig(kind="plateau", patience=3).patience == 3
    with pytest.raises(ValidationError, match="gamma"):
        ScheduleConfig(kind="cosine", gamma=0.5)


@pytest.mark.parametrize("name", ["end_epochs", "period_epochs", "minimum_rate", "end_factor"])
def test_no_setting_is_infinite(name: str) -> None:
    for value in (math.inf, math.nan):
        with pytest.raises(ValidationError, match=name):
            ScheduleConfig.model_validate({"kind": "cosine", name: value})


def test_plateau_without_validation_is_refused() -> None:
    with pytest.raises(ValidationError, match="validate_every_steps"):
        TrainingConfig(schedule=ScheduleConfig(kind="plateau"))


@pytest.mark.parametrize(
    ("every", "wanted"), [("epoch", {3, 5, 8, 9}), (4, {4, 8, 9}), (None, set()), (100, {9})]
)
def test_steps_at_which_something_is_due(every: Any, wanted: set[int]) -> None:
    config = TrainingConfig(epochs=3.5, batch_size=4, save_every_steps="epoch")
    assert config.total_steps(10) == 9
    assert config.steps_at(every, 10) == wanted


def test_epochs_identify_a_run_whose_rate_runs_to_their_end() -> None:
    long, short = (TrainingConfig(epochs=n, schedule=ScheduleConfig(kind="linear")) for n in (2, 1))
    assert long.identity() != short.identity()
    assert TrainingConfig(epochs=2).identity() == TrainingConfig(epochs=1).identity()
