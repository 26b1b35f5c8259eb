"""Predicting many utterances: what is said, what is done again, what goes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from amt_pipeline.core.errors import CheckpointError, MissingPredecessorError, StoreError
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes import predict
from amt_pipeline.phonemes.grouping import batches_of_like_length, groups_of
from amt_pipeline.phonemes.predict import (
    PredictionConfig,
    PredictionOutcome,
    predict_utterances,
)
from amt_pipeline.phonemes.probabilities import read_probabilities, to_half
from amt_pipeline.phonemes.trained_model import TrainedModel
from amt_pipeline.store.frames import FrameStore, PackPart
from amt_pipeline.training.checkpoints import WEIGHTS_FILE

LENGTHS = {"a": 9, "b": 1, "c": 23, "d": 4}
CPU = PredictionConfig(device="cpu", threads=1)
Predict = Callable[..., PredictionOutcome]


def draw(name: str, take: int = 0) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng([take, *name.encode()])
    return rng.standard_normal((LENGTHS[name], 39, 1)).astype(np.float32)


def fill(folder: Path, **takes: int) -> None:
    store = FrameStore.create(folder, MfccSpec())
    names = [name for name in LENGTHS if takes.get(name, 0) >= 0]
    store.write_pack(
        "pack",
        [PackPart(n, draw(n, takes.get(n, 0)), value_sha256([n, takes.get(n, 0)])) for n in names],
    )


@pytest.fixture
def run(tmp_path: Path) -> Predict:
    fill(tmp_path / "frames")

    def call(best: Path, ids: str = "abcd", config: PredictionConfig = CPU) -> PredictionOutcome:
        return predict_utterances(
            list(ids),
            best_folder=best,
            store_folder=tmp_path / "frames",
            out_folder=tmp_path / "out",
            config=config,
        )

    return call


def alone(best: Path, name: str) -> npt.NDArray[np.float32]:
    """What the network says of one utterance, windows cut by hand."""
    model = TrainedModel.open(best)
    network, frames = model.load(torch.device("cpu")), draw(name)[..., 0]
    if model.model.whole_utterances:
        logits = network(torch.from_numpy(frames)[None], torch.tensor([len(frames)]))[0]
    else:
        side = model.model.window_frames // 2
        at = np.arange(len(frames))[:, None] + np.arange(-side, side + 1)
        logits = network(torch.from_numpy(frames[at.clip(0, len(frames) - 1)]))
    said: npt.NDArray[np.float32] = logits.detach().softmax(-1).numpy()
    return said


@pytest.mark.parametrize("batch_frames", [1, 7, 1000])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mlp", {"window_frames": 5, "batch_norm": True, "dropout": 0.5}),
        ("lstm_window", {"window_frames": 3, "recurrent_units": 4}),
        ("lstm_utterance", {"recurrent_units": 4, "step_frames": 2}),
    ],
)
def test_every_utterance_is_said_as_if_alone(
    make_model, run, tmp_path, monkeypatch, kind, settings, batch_frames
):
    monkeypatch.setattr(predict, "GROUP_FRAMES", 12)
    best = make_model(kind, **settings)
    outcome = run(best, config=CPU.model_copy(update={"batch_frames": batch_frames}))
    assert outcome.n_frames == LENGTHS
    for name, n_frames in LENGTHS.items():
        said, expected = read_probabilities(tmp_path / "out", name), alone(best, name)
        assert said.shape == (n_frames, 41) and said.dtype == np.float16
        np.testing.assert_allclose(said, expected, atol=1e-3)
        np.testing.assert_array_equal(said.argmax(1), expected.argmax(1))


def test_a_second_call_does_nothing(make_model, run, tmp_path, caplog):
    best = make_model()
    first = run(best)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.*")}
    caplog.set_level(logging.INFO, "amt_pipeline.phonemes.predict")
    again = run(best)
    assert (first.n_current, first.n_predicted) == (0, 4)
    assert (again.n_current, again.n_predicted) == (4, 0)
    assert "4 utterances were up to date, 0 predicted" in caplog.text
    assert again.index() == first.index()
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.*")}


def test_only_missing_damaged_and_changed_ones_are_predicted(make_model, run, tmp_path):
    best, out = make_model(), tmp_path / "out"
    run(best)
    whole = {name: read_probabilities(out, name).tobytes() for name in LENGTHS}
    (out / "probabilities" / "a.npy").write_bytes(b"short")
    (out / "items" / "b.json").write_text("{")
    fill(tmp_path / "frames", d=1)
    again = run(best)
    assert (again.n_current, again.n_predicted) == (1, 3)
    found = {name: read_probabilities(out, name).tobytes() for name in LENGTHS}
    assert {name for name in LENGTHS if found[name] != whole[name]} == {"d"}


def test_another_network_or_precision_predicts_all_again(make_model, run):
    run(make_model())
    assert run(make_model(seed=1, name="other")).n_predicted == 4
    bf16 = PredictionConfig(device="cpu", threads=1, precision="bfloat16")
    assert run(make_model(seed=1, name="other"), config=bf16).n_predicted == 4


def test_results_of_utterances_not_asked_for_go(make_model, run, tmp_path):
    best, out = make_model(), tmp_path / "out"
    run(best)
    (out / "probabilities" / "notes.npy").write_text("not ours")
    less = run(best, "ca")
    assert less.removed == ("b", "d") and list(less.n_frames) == ["c", "a"]
    assert sorted(p.name for p in (out / "probabilities").iterdir()) == [
        "a.npy", "c.npy", "notes.npy",
    ]  # fmt: skip
    with pytest.raises(StoreError, match="no probabilities of this utterance"):
        read_probabilities(out, "b")


def test_what_cannot_be_predicted_is_named(make_model, run, tmp_path):
    best = make_model()
    with pytest.raises(MissingPredecessorError, match="rank_phoneme"):
        run(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="x"):
        run(best, "ax")
    (best / WEIGHTS_FILE).write_bytes(b"other")
    with pytest.raises(CheckpointError, match="truncated"):
        run(best)


def test_a_network_that_gives_no_numbers_is_named(make_model, run, monkeypatch):
    best = make_model()

    def broken(self: TrainedModel, device: torch.device) -> torch.nn.Module:
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(117, 41))
        torch.nn.init.constant_(network[1].bias, float("nan"))
        return network

    monkeypatch.setattr(TrainedModel, "load", broken)
    with pytest.raises(CheckpointError, match="NaN"):
        run(best)


def test_damaged_probabilities_are_named(make_model, run, tmp_path):
    run(make_model())
    path = tmp_path / "out" / "probabilities" / "a.npy"
    for wrong in (np.full((9, 41), 2, np.float16), np.zeros((8, 41), np.float16)):
        np.save(path, wrong)
        with pytest.raises(StoreError, match="other numbers"):
            read_probabilities(tmp_path / "out", "a")


def test_half_precision_keeps_who_is_on_top():
    close = np.array([[0.30001, 0.30002, 0.39997, 0], [0.3, 0.34999, 0.35001, 0]], np.float32)
    close = np.concatenate([close, close[:, [2, 1, 0, 3]], np.eye(4, dtype=np.float32)])
    logits = np.random.default_rng(0).normal(0, 1e-3, (5000, 4))
    near = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for given in (close, near.astype(np.float32)):
        half = to_half(given)
        np.testing.assert_array_equal(half.argmax(1), given.argmax(1))
        np.testing.assert_allclose(half, given, rtol=2e-3)
    assert (near.astype(np.float16).argmax(1) != near.argmax(1)).any()


def test_groups_and_batches_hold_everyone_within_the_limit():
    lengths = np.array([3, 0, 9, 2, 2, 30, 1, 0])
    groups = list(groups_of(lengths, 10))
    assert np.concatenate(groups).tolist() == list(range(8))
    assert all(lengths[g].sum() <= 10 or len(g) == 1 for g in groups)
    batches = list(batches_of_like_length(lengths, 10))
    assert sorted(np.concatenate(batches).tolist()) == [0, 2, 3, 4, 5, 6]
    assert all(lengths[b].max() * len(b) <= 10 or len(b) == 1 for b in batches)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["mlp", "lstm_window", "lstm_utterance"])
def test_a_gpu_says_the_same(make_model, run, tmp_path, kind):
    best = make_model(kind, recurrent_units=4)
    run(best, config=PredictionConfig(device="cuda", precision="float32"))
    for name in LENGTHS:
        said = read_probabilities(tmp_path / "out", name)
        np.testing.assert_allclose(said, alone(best, name), atol=2e-3)
    assert run(best, config=PredictionConfig(device="cuda")).precision == "bfloat16"
