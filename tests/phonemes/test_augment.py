"""Variations: what they change, what they leave alone, what they are drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from amt_pipeline.phonemes.augment import AugmentConfig, vary

BINS = 39


def frames(batch: int = 3, time: int = 400) -> Tensor:
    return torch.randn(batch, time, BINS, generator=torch.Generator().manual_seed(2))


def varied(given: Tensor, n_frames: Tensor | None = None, seed: int = 1, **how: float) -> Tensor:
    config = AugmentConfig.model_validate(how)
    return vary(given, n_frames, config, np.random.default_rng(seed))


def test_mix_is_one_linear_map_per_utterance() -> None:
    given = frames()
    result = varied(given, mix=0.3)
    maps = torch.linalg.lstsq(given, result).solution
    torch.testing.assert_close(given @ maps, result, rtol=0, atol=1e-4)
    shares = maps - torch.eye(BINS)
    assert not torch.allclose(shares[0], shares[1])
    # Each value gets 39 shares of deviation 0.3 / sqrt(39) each.
    assert shares.square().sum(1).sqrt().mean() == pytest.approx(0.3, rel=0.05)


def test_noise_has_its_size_on_every_value() -> None:
    difference = varied(frames(), noise=0.4) - frames()
    assert difference.std() == pytest.approx(0.4, rel=0.02)
    assert difference.mean() == pytest.approx(0.0, abs=0.01)


def test_gaps_are_short_runs_of_zeros_that_cover_their_share() -> None:
    given = frames(time=4000) + 10.0
    result = varied(given, gap_share=0.1, gap_frames=9)
    silent = (result == 0).all(2)
    assert torch.equal(result[~silent], given[~silent])
    # Gaps overlap now and then, so they cover a little less.
    assert silent.float().mean() == pytest.approx(0.1, abs=0.02)
    edges = torch.diff(silent.int(), dim=1, prepend=torch.zeros(3, 1), append=torch.zeros(3, 1))
    starts, ends = ((edges == sign).nonzero()[:, 1] for sign in (1, -1))
    assert int((ends - starts).median()) <= 9


def test_padding_comes_out_as_zeros() -> None:
    given = frames()
    given[1, 100:] = torch.nan
    result = varied(given, torch.tensor([400, 100, 7]), mix=0.3, noise=0.2, gap_share=0.05)
    assert torch.isfinite(result).all()
    assert result[1, 100:].abs().max() == result[2, 7:].abs().max() == 0
    assert result[1, :100].abs().sum() > 0


def test_drawing_depends_on_the_generator_only() -> None:
    how: dict[str, Any] = {"mix": 0.3, "noise": 0.2, "gap_share": 0.05}
    given = frames()
    before = given.clone()
    assert torch.equal(varied(given, **how), varied(given, **how))
    assert not torch.equal(varied(given, **how), varied(given, seed=2, **how))
    assert torch.equal(given, before)


def test_nothing_asked_for_changes_nothing() -> None:
    assert not AugmentConfig().active
    assert all(AugmentConfig.model_validate({k: 0.1}).active for k in ("mix", "noise", "gap_share"))
    assert torch.equal(varied(frames()), frames())


@pytest.mark.parametrize("wrong", [{"mix": -1}, {"gap_share": 1.0}, {"gap_frames": 0}, {"warp": 1}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        AugmentConfig.model_validate(wrong)
