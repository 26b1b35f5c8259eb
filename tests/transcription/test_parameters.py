"""Parameters: what the presets resolve to, what overrides change, what a wrong one is called."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.values import merge
from amt_pipeline.parameters import check_parameters
from amt_pipeline.transcription.networks import build_network
from amt_pipeline.transcription.parameters import (
    choose_preset,
    resolve_features,
    resolve_task,
    resolve_transcription,
)

CONF = Path(__file__).resolve().parents[2] / "conf"
PRESETS = ("cpu", "reference")


def read(*names: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name in names:
        merged = merge(merged, yaml.safe_load((CONF / name).read_text(encoding="utf-8")) or {})
    return merged


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    names = ("parameters_transcription_presets.yml", "parameters_transcription.yml")
    return read(*(f"base/{name}" for name in names))


def override(path: str, value: Any) -> dict[str, Any]:
    """Return what `--params path=value` lays over the files."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


@pytest.fixture
def check(base: dict[str, Any]) -> Callable[..., None]:
    def run(path: str, value: Any, preset: str = "cpu") -> None:
        check_parameters(merge(merge(base, {"preset": preset}), override(path, value)))

    return run


@pytest.fixture
def refusal(check: Callable[..., None]) -> Callable[..., str]:
    def run(path: str, value: Any, preset: str = "cpu") -> str:
        with pytest.raises(ConfigError) as refused:
            check(path, value, preset)
        return str(refused.value)

    return run


def task(base: dict[str, Any], preset: str, name: str, **settings: Any) -> Any:
    return resolve_task(base["presets"][preset], {}, {"name": name, **settings})


def test_files_hold_whole_presets(base: dict[str, Any]) -> None:
    for preset in PRESETS:
        check_parameters(base | {"preset": preset})
        for name in ("onset", "pitch"):
            config = task(base, preset, name).task
            network = build_network(config.features, config.model)
            assert network.context_frames > 0


def test_test_environment_is_complete(base: dict[str, Any]) -> None:
    small = merge(base, read("test/parameters_transcription.yml"))
    check_parameters(small)
    onset = resolve_task(small["presets"]["cpu"], {}, small["onset"]).task
    assert onset.training.epochs < task(base, "cpu", "onset").task.training.epochs


def test_reference_preset_holds_the_published_numbers(base: dict[str, Any]) -> None:
    onset, pitch = (task(base, "reference", name).task for name in ("onset", "pitch"))
    assert (onset.model.label_frames, pitch.model.label_frames) == (7, 9)
    assert (onset.model.channels, pitch.model.channels) == ((10, 20), (8, 16, 32, 64, 128))
    assert (onset.training.batch_size, pitch.training.batch_size) == (512, 256)
    assert (onset.training.learning_rate, pitch.training.learning_rate) == (1e-3, 1e-4)
    assert (onset.training.conv_l2, onset.training.dense_l2) == (0.0, 1e-4)
    assert (pitch.training.conv_l2, pitch.training.dense_l2) == (5e-3, 0.0)
    assert (onset.training.save_every_steps, pitch.training.save_every_steps) == (2500, 2000)
    assert onset.labels.sampling == "onset_plus"
    assert pitch.labels.sampling == pitch.evaluation.frames == "onset_windows"
    # 40 epochs of 7,964,744 windows and 50 of 4,063,661 (the reference's own budgets).
    assert onset.training.total_steps(7_964_744) == 622_500
    assert pitch.training.total_steps(4_063_661) == 794_000
    picking = resolve_transcription(base["presets"]["reference"], {}).picking(0.1, 0.1)
    assert (picking.onset_threshold, picking.pitch_threshold, picking.adjacent_s) == (
        0.5,
        0.6,
        0.05,
    )


def test_preset_follows_the_machine_and_is_announced_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import torch

    caplog.set_level(logging.INFO)
    assert choose_preset("cpu", announce=False) == "cpu"
    assert not caplog.text
    assert choose_preset("reference") == "reference"
    here = "reference" if torch.cuda.is_available() else "cpu"
    assert [choose_preset("auto"), choose_preset("auto")] == [here, here]
    assert caplog.text.count(f"Preset {here} (chosen for this machine)") <= 1


def test_merging_goes_block_by_block() -> None:
    low = {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2]}
    assert merge(low, {"a": {"c": {"d": 3}}, "e": [4]}) == {"a": {"b": 1, "c": {"d": 3}}, "e": [4]}
    assert merge(low, {"a": 5})["a"] == 5
    assert low == {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2]}


OVERRIDES: dict[str, Any] = {
    "onset.training.epochs": 2,
    "onset.training.pos_weight": 2.5,
    "onset.training.restart": True,
    "onset.model.label_frames": 9,
    "onset.model.channels": [4, 6],
    "pitch.training.keep": 3,
    "pitch.labels.widening": 2,
    "pitch.augment.gain_db": 3.0,
    "pitch.ranking.rule": "latest_tied",
    "features.hop_samples": 256,
    "features.dtype": "float32",
    "transcribe.onset_threshold": 0.5,
    "transcribe.drop_last_run": True,
    "transcribe.vote_stride_frames": 7,
    "transcribe.audio_folder": "music",
    "ingest.pedal": "ignore",
    "parallel.workers": 4,
    "parallel.backend": "dask",
    "maestro.root": "maestro-v3.0.0",
    "maestro.demo.minutes": 3.0,
    "scoring.onset_tolerance_s": 0.1,
    "curve.path": "curve.csv",
}


@pytest.mark.parametrize("path", OVERRIDES)
def test_documented_overrides_are_taken(
    path: str, base: dict[str, Any], check: Callable[..., None]
) -> None:
    for preset in PRESETS:
        if path != "onset.model.channels" or preset == "cpu":
            check(path, OVERRIDES[path], preset)
    block, _, rest = path.partition(".")
    value, preset = OVERRIDES[path], base["presets"]["cpu"]
    laid = override(rest, value)
    if block in ("onset", "pitch"):
        resolved = task(base, "cpu", block, **laid)
        found = resolved.model_dump() if rest.startswith("ranking") else resolved.task.model_dump()
    elif block == "features":
        found = resolve_features(preset, laid).model_dump()
    elif block == "transcribe":
        found = resolve_transcription(preset, laid).model_dump()
    else:
        return
    for name in rest.split("."):
        found = found[name]
    assert (list(found) if isinstance(found, tuple) else found) == value


WRONG: dict[str, tuple[str, Any, str]] = {
    "misspelt top": ("onsets.training.epochs", 2, "parameter onsets: unknown parameter"),
    "misspelt": ("onset.training.epoch", 2, "parameter onset.training.epoch: unknown parameter"),
    "misspelt block": ("pitch.trainig.epochs", 2, "parameter pitch.trainig: unknown parameter"),
    "hyphen": ("onset.training.batch-size", 2, "parameter onset.training.batch-size: unknown"),
    "ill-typed": ("onset.training.epochs", "many", "parameter onset.training.epochs: .*'many'"),
    "one of several types": ("onset.training.keep", "x", "parameter onset.training.keep: "),
    "out of range": ("onset.labels.widening", 3, "parameter onset.labels.widening: "),
    "even window": ("onset.model.label_frames", 8, "parameter onset.model.label_frames: .*odd"),
    "block of text": ("onset.model", "big", "parameter onset.model: "),
    "no block": ("onset", 5, "parameter onset: Input should be a valid dictionary"),
    "renamed task": ("onset.name", "pitch", "parameter onset.name: must stay 'onset'"),
    "own features": ("pitch.features.bins", 88, r"parameter pitch\.features: .*share features"),
    "features": ("features.hop", 256, "parameter features.hop: unknown parameter"),
    "feature range": ("features.sample_rate", 100, "parameter features.sample_rate: .*8000"),
    "top bin": ("features.sample_rate", 8000, "features: the top bin reaches up to 4681 Hz"),
    "too few bins": ("features.bins", 20, "parameter features.bins: .* leave no bins"),
    "network of the other": ("onset.model.kind", "harmonic", "parameter onset: .*not a network"),
    "widths": ("pitch.model.kind", "pitch_conv", "parameter pitch.model.channels: .* 5 conv"),
    "mel": ("features.kind", "log_mel", "parameter onset: augment.transpose_semitones needs"),
    "ranking": ("onset.ranking.rule", "worst", "parameter onset.ranking.rule: "),
    "stride": ("onset.evaluation.stride_frames", 202, "parameter onset: .*=202 .*label_frames=201"),
    "votes": ("transcribe.vote_stride_frames", 202, "vote_stride_frames: 202 .*label_frames=201"),
    "no number": ("transcribe.adjacent_s", float("nan"), "parameter transcribe.adjacent_s: "),
    "infinite": (
        "transcribe.adjacent_s",
        float("inf"),
        "parameter transcribe.adjacent_s: .*finite",
    ),
    "no time": ("transcribe.time_offset_frames", float("inf"), "time_offset_frames: .*finite"),
    "transcribe": ("transcribe.device", "tpu", "parameter transcribe.device: .*'tpu'"),
    "backend": ("parallel.backend", "ray", "parameter parallel.backend: .*'loky' or 'dask'"),
    "no cluster": ("parallel.scheduler", "tcp://h:1", "parallel: .*backend=dask only"),
    "demo": ("maestro.demo.pieces", 2, "parameter maestro.demo.pieces: "),
    "ingest": ("ingest.max_bad_fraction", 2, "parameter ingest.max_bad_fraction: "),
    "preset": ("preset", "gpu", "parameter preset: .*'auto', 'cpu' or 'reference'"),
    "preset's value": ("presets.cpu.onset.training.epochs", 0, "onset.training.epochs: .*got 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_parameter_is_named_as_it_is_typed(case: str, refusal: Callable[..., str]) -> None:
    path, value, message = WRONG[case]
    text = refusal(path, value)
    assert re.search(message, text)
    assert "Value error" not in text
    assert "{" not in text  # no dump of a whole block
    assert len(text) < 400


def test_all_faults_are_named_at_once(refusal: Callable[..., str]) -> None:
    text = refusal("onset.training", {"epoch": 1, "batch_size": 0})
    assert "onset.training.epoch: unknown parameter" in text
    assert "onset.training.batch_size: Input should be greater" in text


def test_mel_features_go_with_the_other_pitch_network(base: dict[str, Any]) -> None:
    mel = {"features": {"kind": "log_mel"}}
    other = {"model": {"kind": "pitch_conv", "channels": [2, 2, 2, 2, 2]}}
    still = {"augment": {"transpose_semitones": 0}}
    changes = {**mel, "onset": still, "pitch": {**other, **still}, "preset": "cpu"}
    check_parameters(merge(base, changes))
    with pytest.raises(ConfigError, match=r"pitch\.model\.kind=harmonic: needs a CQT"):
        check_parameters(merge(base, {**mel, "onset": still, "preset": "cpu"}))


def test_preset_that_was_removed_is_named(base: dict[str, Any]) -> None:
    only = {**base, "preset": "reference", "presets": {"cpu": base["presets"]["cpu"]}}
    with pytest.raises(ConfigError, match="preset=reference: is not among presets"):
        check_parameters(only)
