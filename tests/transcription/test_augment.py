"""Variations against a restatement row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from amt_pipeline.transcription.augment import (
    AugmentConfig,
    Variation,
    draw_variation,
    vary_frames,
    vary_keys,
)

PER_SEMITONE = 4


def draw(step: int = 0, seed: int = 1, batch: int = 6, **limits: float) -> Variation:
    config = AugmentConfig.model_validate(limits)
    return draw_variation(config, batch_size=batch, bins=356, seed=seed, step=step)


def shifted(row: np.ndarray, amount: int) -> np.ndarray:
    """Shift [frames, bins, ...] along the bins, zeros coming in."""
    result = np.zeros_like(row)
    for position in range(row.shape[1]):
        if 0 <= position - amount < row.shape[1]:
            result[:, position] = row[:, position - amount]
    return result


def test_frames_are_filtered_then_transposed() -> None:
    variation = draw(transpose_semitones=2, equaliser_db=3.0, gain_db=2.0)
    assert set(variation.semitones) <= set(range(-2, 3))
    assert len(set(variation.semitones)) > 1
    windows = torch.rand(6, 5, 356, 2).half()
    varied = vary_frames(windows, variation, PER_SEMITONE).numpy()
    for row, (semitones, factor) in enumerate(
        zip(variation.semitones, variation.factor, strict=True)
    ):
        filtered = windows[row].float().numpy() * factor[None, :, None]
        assert np.array_equal(varied[row], shifted(filtered, int(semitones) * PER_SEMITONE))


def test_keys_move_with_their_frames_and_fall_off_the_ends() -> None:
    variation = Variation(np.array([-2, 0, 1]), np.ones((3, 356), np.float32))
    targets = torch.zeros(3, 4, 88, dtype=torch.bool)
    targets[:, 1, [0, 1, 40, 87]] = True
    moved = vary_keys(targets, variation)
    assert moved.dtype == torch.bool
    assert [row.nonzero()[:, 1].tolist() for row in moved] == [[38, 85], [0, 1, 40, 87], [1, 2, 41]]
    assert moved[:, [0, 2, 3]].sum() == 0


def test_drawing_is_a_pure_function_of_seed_and_step() -> None:
    limits = {"transpose_semitones": 5, "equaliser_db": 3.0, "gain_db": 2.0}
    first, again = draw(3, 1, **limits), draw(3, 1, **limits)
    assert np.array_equal(first.semitones, again.semitones)
    assert np.array_equal(first.factor, again.factor)
    for other in (draw(4, 1, **limits), draw(3, 2, **limits)):
        assert not np.array_equal(first.factor, other.factor)


def test_gain_is_a_level_and_the_filter_a_smooth_curve() -> None:
    gain_db = 20 * np.log10(draw(batch=2000, gain_db=2.0).factor)
    assert np.ptp(gain_db, axis=1).max() < 1e-4
    assert gain_db.std() == pytest.approx(2.0, rel=0.1)
    assert gain_db.mean() == pytest.approx(0.0, abs=0.2)
    curve_db = 20 * np.log10(draw(batch=2000, equaliser_db=3.0).factor)
    assert curve_db[:, 0].std() == pytest.approx(3.0, rel=0.1)
    # Neighbouring bins lie 1/50 of the way to the next of eight points.
    assert np.abs(np.diff(curve_db, axis=1)).max() < 0.5


def test_nothing_asked_for_changes_nothing() -> None:
    assert not AugmentConfig().active
    assert AugmentConfig(gain_db=1.0).active
    windows = torch.rand(6, 3, 356, 2)
    variation = draw()
    assert torch.equal(vary_frames(windows, variation, PER_SEMITONE), windows)


@pytest.mark.parametrize("wrong", [{"transpose_semitones": 13}, {"gain_db": -1}, {"pitch": 1}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        AugmentConfig.model_validate(wrong)
