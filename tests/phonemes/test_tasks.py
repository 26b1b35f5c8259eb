"""The task `phoneme` on a store of random frames: examples, their order, and training on them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amt_pipeline.core.errors import ConfigError, StoreError
from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.label_store import LabelPart, write_label_pack
from amt_pipeline.phonemes.parameters import resolve_task
from amt_pipeline.phonemes.task_config import PhonemeTaskConfig
from amt_pipeline.phonemes.tasks import PhonemeTask
from amt_pipeline.ranking.rank import RankingConfig, rank_checkpoints
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.packs import PackPart
from amt_pipeline.training.channel import open_task
from amt_pipeline.training.loop import train

SPEC = MfccSpec()
CLASSES = 5
LENGTHS = {"train": {"a": 40, "b": 7, "c": 23, "d": 31}, "validation": {"v": 26, "w": 11}}


def features(name: str) -> tuple[Any, Any]:
    """Return frames whose first values say what class they are, and the classes."""
    n = next(lengths[name] for lengths in LENGTHS.values() if name in lengths)
    rng = derive_rng(5, name)
    frames = rng.normal(0, 0.3, (n, SPEC.bins)).astype(np.float32)
    classes = np.repeat(rng.integers(0, CLASSES, n), 3)[:n].astype(np.uint8)
    frames[np.arange(n), classes] += 2
    return frames, classes


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phoneme-task")
    store = FrameStore.create(folder / "frames", SPEC)
    for split, lengths in LENGTHS.items():
        made = {name: features(name) for name in lengths}
        parts = [PackPart(n, frames[..., None], f"sha-{n}") for n, (frames, _) in made.items()]
        store.write_pack(split, parts)
        write_label_pack(folder / "labels", split, [LabelPart(n, c) for n, (_, c) in made.items()])
    return folder


def make_task(corpus: Path, **settings: Any) -> PhonemeTask:
    model = {"kind": "mlp", "window_frames": 5, "hidden_units": 16, **settings.pop("model", {})}
    training = {
        "epochs": 6, "batch_size": 8, "learning_rate": 0.02, "dense_l2": 0.0, "device": "cpu",
        "threads": 1, "schedule": {"kind": "none"}, "save_every_steps": "epoch",
        **settings.pop("training", {}),
    }  # fmt: skip
    config = PhonemeTaskConfig.model_validate(
        {"features": SPEC, "model": model, "training": training, **settings}
    )
    return PhonemeTask(
        config,
        store_folder=corpus / "frames",
        labels_folder=corpus / "labels",
        splits={split: list(lengths) for split, lengths in LENGTHS.items()},
        n_classes=CLASSES,
        data_fingerprint="data",
    )


def test_a_window_has_its_neighbours_and_the_class_of_its_centre(corpus: Path) -> None:
    task = make_task(corpus)
    windows = task.training_windows(0)
    assert len(windows) == sum(LENGTHS["train"].values())
    assert len(set(zip(windows.recording, windows.start, strict=True))) == len(windows)
    batch = task.training_batch(windows, 0)
    names = list(LENGTHS["train"])
    for row, (recording, start) in enumerate(zip(windows.recording, windows.start, strict=True)):
        frames, classes = features(names[recording])
        at = np.clip(np.arange(start - 2, start + 3), 0, len(frames) - 1)
        np.testing.assert_array_equal(batch.inputs[0][row].numpy(), frames[at])
        assert batch.targets[row] == classes[start]


def test_epochs_differ_and_repeat(corpus: Path) -> None:
    task, other = make_task(corpus), make_task(corpus, training={"seed": 2})
    first = task.training_windows(0)
    np.testing.assert_array_equal(first.start, make_task(corpus).training_windows(0).start)
    assert (first.start != task.training_windows(1).start).any()
    assert (first.start != other.training_windows(0).start).any()


@pytest.mark.parametrize("augment", [{}, {"noise": 0.5, "gap_share": 0.2, "mix": 0.2}])
@pytest.mark.parametrize("kind", ["mlp", "lstm_utterance"])
def test_rows_of_a_shared_batch_are_those_of_the_whole(
    corpus: Path, kind: str, augment: dict[str, float]
) -> None:
    task = make_task(corpus, model={"kind": kind}, augment=augment)
    windows = task.training_windows(0)[:4]
    whole = task.training_batch(windows, 7)
    for rows in (slice(0, 2), slice(2, 4)):
        part = task.training_batch(windows, 7, rows)
        time = part.inputs[0].shape[1]
        assert torch.equal(part.inputs[0], whole.inputs[0][rows][:, :time])
        targets = whole.targets[rows]
        assert torch.equal(part.targets, targets[:, :time] if targets.ndim == 2 else targets)


def test_whole_utterances_are_padded_and_masked(corpus: Path) -> None:
    task = make_task(corpus, model={"kind": "lstm_utterance"}, training={"batch_size": 2})
    batches = [task.training_windows(0)[at : at + 2] for at in (0, 2)]
    seen = {int(r) for windows in batches for r in windows.recording}
    assert seen == {0, 1, 2, 3}
    # Sorted within the pool: the two shortest are together.
    assert {frozenset(windows.recording.tolist()) for windows in batches} == {
        frozenset({1, 2}), frozenset({0, 3})
    }  # fmt: skip
    for windows in batches:
        batch = task.training_batch(windows, 0)
        frames, n_frames = batch.inputs
        assert batch.valid is not None
        for row, recording in enumerate(windows.recording):
            wanted, classes = features(list(LENGTHS["train"])[recording])
            n = int(n_frames[row])
            assert n == len(wanted) == int(batch.valid[row].sum())
            np.testing.assert_array_equal(frames[row, :n].numpy(), wanted)
            assert not frames[row, n:].any()
            np.testing.assert_array_equal(batch.targets[row, :n].numpy(), classes)


def test_evaluation_goes_over_every_frame_once(corpus: Path) -> None:
    task = make_task(corpus, evaluation={"batch_frames": 10})
    found: dict[str, list[int]] = {}
    for name, batch in task.evaluation_batches("validation"):
        assert len(batch.targets) <= 10
        found.setdefault(name, []).extend(batch.targets.tolist())
    assert found == {name: features(name)[1].tolist() for name in LENGTHS["validation"]}


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "mlp", "batch_norm": True},
        {"kind": "lstm_window", "recurrent_units": 8, "recurrent_layers": 1, "readout": "centre"},
        {"kind": "lstm_utterance", "recurrent_units": 8, "recurrent_layers": 1},
    ],
    ids=lambda model: model["kind"],
)
def test_every_kind_learns_and_is_ranked(corpus: Path, tmp_path: Path, model: Any) -> None:
    utterances = model["kind"] == "lstm_utterance"
    training = {"batch_size": 2, "epochs": 40, "save_every_steps": 20} if utterances else {}
    task = make_task(corpus, model=model, training=training)
    reopened = open_task(task.recipe())
    assert reopened.describe() == task.describe()
    train(reopened, tmp_path / "run")
    outcome = rank_checkpoints(
        task, tmp_path / "run", tmp_path / "best", tmp_path / "cache",
        RankingConfig(resamples=100), {},
    )  # fmt: skip
    assert outcome.best["validation"]["pooled_accuracy"] > 0.8
    assert set(outcome.per_unit["unit"]) == {"v", "w"}


def test_labels_that_are_not_as_many_as_frames_are_refused(corpus: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    parts = [LabelPart(name, features(name)[1][1:]) for name in LENGTHS["train"]]
    write_label_pack(folder / "labels", "train", parts)
    with pytest.raises(StoreError, match=r"4 utterances .* \(a: 39 and 40\)"):
        make_task(folder).training_windows(0)


PRESETS = {
    "small": {"model": {"kind": "mlp", "window_frames": 3, "hidden_layers": 6, "hidden_units": 64},
              "training": {"epochs": 1}},
    "other": {"model": {"kind": "lstm_utterance"}, "training": {"epochs": 2}},
}  # fmt: skip


TINY = {"model": {"kind": "mlp", "hidden_layers": 1, "hidden_units": 1}, "training": {"epochs": 1}}


def test_a_level_is_chosen_and_overridden() -> None:
    settings = {"name": "phoneme", "preset": "small", "training": {"batch_size": 9}}
    resolved = resolve_task(PRESETS, {}, settings).task
    assert (resolved.training.epochs, resolved.training.batch_size) == (1, 9)
    assert resolve_task(PRESETS, {}, {"preset": "other"}).task.model.whole_utterances
    with pytest.raises(ConfigError, match=r"phoneme\.preset=huge.*small, other"):
        resolve_task(PRESETS, {}, {"preset": "huge"})


def test_a_matched_width_is_that_of_the_formula() -> None:
    settings = {"preset": "small", "model": {"hidden_layers": 2, "hidden_units": "matched"}}
    # n 3 (117 inputs), 6 x 64, 41 classes: 31,017 parameters; two layers of 113 have 30,890.
    assert resolve_task(PRESETS, {}, settings).task.model.hidden_units == 113

    narrow = resolve_task(PRESETS, {}, settings, n_classes=5).task.model.hidden_units
    # n 3, 6 x 64, 5 classes: 28,677 parameters; two layers of 119 have 28,922, of 118 28,561.
    assert narrow == 118


@pytest.mark.parametrize(
    ("preset", "model", "said"),
    [
        ("other", {}, r"phoneme\.model\.hidden_units=matched: lstm_utterance has no matching"),
        ("small", {"kind": "lstm_window"}, r"phoneme\.model\.hidden_units=matched: lstm_window"),
        ("small", {"hidden_layers": 400}, r"phoneme\.model\.hidden_layers=400: 400 hidden layers"),
    ],
)
def test_no_matching_width_is_named_by_what_was_typed(preset: str, model: Any, said: str) -> None:
    settings = {"preset": preset, "model": {**model, "hidden_units": "matched"}}
    with pytest.raises(ConfigError, match=said):
        resolve_task({**PRESETS, "small": TINY}, {}, settings)


def test_a_network_to_match_has_a_size_of_its_own() -> None:
    model = {"hidden_units": "matched"}
    with pytest.raises(ConfigError, match=r"phoneme\.model\.hidden_units=matched: the network to"):
        resolve_task(PRESETS, {}, {"preset": "small", "model": model}, {"model": model})
    # A level without such sizes has their defaults, two layers of 64.
    own = {"preset": "other", "model": {"kind": "mlp", **model}}
    assert resolve_task(PRESETS, {}, own).task.model.hidden_units == 64


def test_a_width_is_matched_to_the_level_of_the_reference() -> None:
    settings = {"preset": "small", "model": {"hidden_layers": 2, "hidden_units": "matched"}}
    levels = {**PRESETS, "wide": {"model": {"kind": "mlp", "hidden_layers": 2, "hidden_units": 77}}}
    found = resolve_task(levels, {}, settings, {"preset": "wide"}).task.model
    assert (found.hidden_layers, found.hidden_units) == (2, 77)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"model": {"window_frames": 4}}, "odd"), ({"training": {"pos_weight": 2}}, "pos_weight"),
     ({"model": {"batch_norm": True}, "training": {"batch_size": 1}}, "batch_size must be 2"),
     ({"training": {"source": "tfrecords"}}, "tfrecords"), ({"model": {"depth": 2}}, "depth")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolve_task(PRESETS, {}, {"preset": "small", **settings})
