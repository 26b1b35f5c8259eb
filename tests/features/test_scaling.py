from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from amt_pipeline.features.scaling import EPSILON, InputScaling

WINDOWS = np.random.default_rng(1).random((3, 4, 5, 2)).astype(np.float32)
PEAK = np.array([[2.0, 4.0], [1.0, 1.0], [0.0, 3.0]], np.float32)
WINDOWS[2, :, :, 0] = 0


def restated(normalisation: str, log: bool, gain: float = 1000.0) -> np.ndarray:
    """One value after the other."""
    out = np.zeros((3, 2, 4, 5))
    for n, t, b, c in np.ndindex(WINDOWS.shape):
        peak = WINDOWS[n, :, :, c].max() if normalisation == "window" else PEAK[n, c]
        value = WINDOWS[n, t, b, c] / (peak + EPSILON)
        out[n, c, t, b] = np.log(1 + gain * value) / np.log(1 + gain) if log else value
    return out


@pytest.mark.parametrize("normalisation", ["window", "recording"])
@pytest.mark.parametrize(
    ("scale", "kind", "log"),
    [
        ("linear", "cqt", False),
        ("linear", "log_mel", False),
        ("log", "cqt", True),
        ("auto", "cqt", False),
        ("auto", "log_mel", True),
    ],
)
def test_scaling_as_restated(normalisation: str, scale: str, kind: str, log: bool) -> None:
    scaling = InputScaling(normalisation=normalisation, scale=scale)
    assert scaling.is_log(kind) is log
    scaled = scaling.apply(torch.from_numpy(WINDOWS), torch.from_numpy(PEAK), kind)
    assert scaled.dtype == torch.float32
    assert scaled.is_contiguous()
    np.testing.assert_allclose(scaled.numpy(), restated(normalisation, log), rtol=1e-5, atol=1e-7)
    assert 0 <= float(scaled.min()) <= float(scaled.max()) <= 1 + 1e-6


@pytest.mark.parametrize("normalisation", ["window", "recording"])
@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_silence_stays_zero(normalisation: str, scale: str, dtype: torch.dtype) -> None:
    scaling = InputScaling(normalisation=normalisation, scale=scale)
    scaled = scaling.apply(torch.zeros(2, 3, 4, 1, dtype=dtype), torch.zeros(2, 1), "cqt")
    assert scaled.shape == (2, 1, 3, 4)
    assert not scaled.any()


def test_half_precision_is_divided_in_single() -> None:
    windows = torch.tensor([60000.0, 30000.0, 6e-8]).half().reshape(1, 3, 1, 1)
    scaled = InputScaling().apply(windows, torch.ones(1, 1), "cqt").flatten()
    assert scaled[:2].tolist() == pytest.approx([1, 0.5], rel=1e-3)
    assert scaled[2] > 0


def test_settings_are_checked() -> None:
    for wrong in ({"scale": "db"}, {"normalisation": "none"}, {"log_gain": 0}, {"gain": 1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            InputScaling(**wrong)
