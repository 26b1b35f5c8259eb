"""What the engine is given: batches, masks, evaluation, fingerprints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from amt_pipeline.core.errors import ConfigError, StoreError
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.windows import Windows
from amt_pipeline.training.loop import train
from amt_pipeline.transcription.augment import draw_variation, vary_frames, vary_keys
from amt_pipeline.transcription.tasks import BATCH_FRAMES, FrameTask

Make = Callable[..., Any]


@pytest.fixture
def task_of(frame_corpus: Any, make_config: Make, make_task: Make) -> Callable[..., FrameTask]:
    """Opens a task on the shared corpus."""

    def open_task(name: str = "pitch", **changes: Any) -> FrameTask:
        return make_task(make_config(name, **changes), frame_corpus)

    return open_task


def test_batch_holds_the_frames_around_its_labels(task_of: Make, frame_corpus: Any) -> None:
    task = task_of("pitch")
    name = frame_corpus.splits["train"][1]
    frames, notes = frame_corpus.frames[name], frame_corpus.notes[name]
    batch = task.training_batch(Windows(np.array([1, 1]), np.array([100, -10])), step=0)
    windows, peak = batch.inputs
    around = task.build_network().context_frames
    assert windows.shape == (2, 31 + 2 * around, 88, 2)
    assert windows.dtype == torch.float16
    assert np.array_equal(windows[0].numpy(), frames[100 - around : 131 + around])
    assert not windows[1, : 10 + around].any()
    assert np.array_equal(windows[1, 10 + around :].numpy(), frames[: 21 + around])
    assert peak.tolist() == pytest.approx(np.tile(frames.max(axis=(0, 1)), (2, 1)))
    struck = task.config.features.grid.frames_of(notes.onset_s)
    for position in range(31):
        near = {int(p) - 21 for f, p in zip(struck, notes.pitch, strict=True)
                if abs(f - 100 - position) <= 1}  # fmt: skip
        assert set(batch.targets[0, position].nonzero()[:, 0].tolist()) == near


@pytest.mark.parametrize("name", ["onset", "pitch"])
def test_frames_outside_the_labelled_ones_do_not_count(
    name: str, task_of: Make, frame_corpus: Any
) -> None:
    task = task_of(name, labels={"end": "last_onset"})
    last = frame_corpus.notes[frame_corpus.splits["train"][0]].onset_s[-1]
    end = int(task.config.features.grid.frames_of(last)) + 1
    batch = task.training_batch(Windows(np.array([0, 0]), np.array([-3, end - 20])), step=0)
    assert batch.valid is not None
    valid = batch.valid[..., 0] if name == "pitch" else batch.valid
    assert valid.shape == (2, 31)
    assert valid[0].nonzero()[:, 0].tolist() == list(range(3, 31))
    assert valid[1].nonzero()[:, 0].tolist() == list(range(20))
    assert batch.valid.expand_as(batch.targets).shape == batch.targets.shape


def test_epochs_are_shuffled_and_repeatable(task_of: Make) -> None:
    task = task_of("onset")
    first, again, next_epoch = (task.training_windows(epoch) for epoch in (0, 0, 1))
    assert np.array_equal(first.start, again.start)
    assert len(first) == len(next_epoch)
    assert not np.array_equal(first.start, next_epoch.start)
    unshuffled = task.open_split("train")[1].training_windows(31, seed=1, epoch=0)
    pairs = [sorted(zip(w.recording, w.start, strict=True)) for w in (first, unshuffled)]
    assert pairs[0] == pairs[1]
    assert first.start.tolist() != unshuffled.start.tolist()


@pytest.mark.parametrize("name", ["onset", "pitch"])
def test_augmentation_moves_frames_and_keys_together(name: str, task_of: Make) -> None:
    augment = {"transpose_semitones": 3, "gain_db": 2.0}
    plain, task = task_of(name), task_of(name, augment=augment)
    windows = plain.training_windows(0)[:8]
    before, after = plain.training_batch(windows, 5), task.training_batch(windows, 5)
    drawn = draw_variation(task.config.augment, batch_size=8, bins=88, seed=1, step=5)
    assert drawn.semitones.any()
    assert torch.equal(after.inputs[0], vary_frames(before.inputs[0], drawn, 1))
    wanted = before.targets if name == "onset" else vary_keys(before.targets, drawn)
    assert torch.equal(after.targets, wanted)
    assert not torch.equal(task.training_batch(windows, 6).inputs[0], after.inputs[0])


@pytest.mark.parametrize("name", ["onset", "pitch"])
@pytest.mark.parametrize("batch_frames", [1, 100, 100000, None])
def test_evaluation_meets_every_frame_once(
    name: str, batch_frames: int | None, task_of: Make, frame_corpus: Any
) -> None:
    task = task_of(name, evaluation={"batch_frames": batch_frames})
    counted: dict[str, int] = {}
    positives: dict[str, int] = {}
    for unit, batch in task.evaluation_batches("train"):
        assert len(batch.targets) <= max(1, (batch_frames or max(BATCH_FRAMES.values())) // 31)
        mask = batch.valid.expand_as(batch.targets)
        counted[unit] = counted.get(unit, 0) + int(mask.sum())
        positives[unit] = positives.get(unit, 0) + int(batch.targets[mask].sum())
    _, labels = task.open_split("train")
    keys = 1 if name == "onset" else 88
    assert list(counted) == frame_corpus.splits["train"]
    assert list(counted.values()) == [375 * keys, 375 * keys]
    everything = Windows(np.array([0, 1]), np.array([0, 0]))
    grades = labels.onset_grades if name == "onset" else labels.pitch_grades
    truth = labels.positive(grades(everything, 375)).reshape(2, -1).sum(axis=1)
    assert list(positives.values()) == truth.tolist()


def test_evaluation_as_the_reference_does_it(task_of: Make, frame_corpus: Any) -> None:
    each = task_of("onset", evaluation={"stride_frames": 1}, model={"label_frames": 7})
    (unit,) = frame_corpus.splits["validation"]
    batches = [batch for name, batch in each.evaluation_batches("validation") if name == unit]
    # Windows start at every frame: frame t lies in min(t + 1, 7) of them.
    assert sum(int(b.valid.sum()) for b in batches) == 375 * 7 - sum(range(7))
    centred = task_of("pitch", evaluation={"frames": "onset_windows"}, model={"label_frames": 7})
    n_windows = sum(len(batch.targets) for _, batch in centred.evaluation_batches("validation"))
    grid = centred.config.features.grid
    assert n_windows == len(set(grid.frames_of(frame_corpus.notes[unit].onset_s)))


def test_network_sees_scaled_windows(task_of: Make) -> None:
    task = task_of("onset")
    batch = task.training_batch(task.training_windows(0)[:3], 0)
    network = task.build_network().eval()
    with torch.inference_mode():
        logits = task.forward(network, batch)
        scaled = task.config.input.apply(*batch.inputs, "cqt")
        assert torch.equal(logits, network(scaled))
    assert logits.shape == batch.targets.shape
    assert 0 < float(scaled.max()) <= 1


@pytest.mark.parametrize("name", ["onset", "pitch"])
def test_frames_on_the_device_train_the_same_network(
    name: str, task_of: Make, tmp_path: Path
) -> None:
    histories = []
    for resident in ("never", "always"):
        training = {"resident": resident, "device": "cpu", "epochs": 1, "log_every_steps": 1}
        augment = {"transpose_semitones": 2, "gain_db": 1.0}
        task = task_of(name, training=training, augment=augment)
        files = task.training_source()
        histories.append(train(task, tmp_path / resident).history)
        assert task.training_source() is files
    assert len(histories[0]) > 3
    assert histories[0] == histories[1]


def test_fingerprint_follows_data_and_features(
    make_frame_corpus: Make, make_config: Make, make_task: Make, frame_corpus: Any
) -> None:
    config = make_config("onset")
    one = make_task(config, frame_corpus, "corpus one").fingerprint()
    assert one == make_task(make_config("pitch"), frame_corpus, "corpus one").fingerprint()
    assert one != make_task(config, frame_corpus, "corpus two").fingerprint()
    other = config.features.model_copy(update={"dtype": "float32"})
    elsewhere = make_frame_corpus(spec=other)
    changed = make_config("onset", features=other.model_dump())
    assert one != make_task(changed, elsewhere, "corpus one").fingerprint()


def test_description_is_json_without_the_engine(task_of: Make) -> None:
    described = task_of("pitch").describe()
    assert json.loads(json.dumps(described)) == described
    assert described["model"]["kind"] == "harmonic"
    assert {"training", "evaluation"}.isdisjoint(described)


def test_store_on_another_grid_is_refused_with_both_named(
    frame_corpus: Any, make_config: Make, make_task: Make
) -> None:
    with pytest.raises(StoreError) as refused:
        make_task(make_config("onset", features={"hop_samples": 512}), frame_corpus)
    assert "16000 Hz, hop 256" in str(refused.value)
    assert "16000 Hz, hop 512" in str(refused.value)
    assert "ingest" in refused.value.remedy


def test_missing_recordings_and_note_tables_are_named(
    make_frame_corpus: Make, make_config: Make, make_task: Make
) -> None:
    corpus = make_frame_corpus()
    corpus.splits["validation"] = ["nobody"]
    (corpus.notes_folder / "piece-3.parquet").unlink()
    (corpus.notes_folder / "piece-0.parquet").write_bytes(b"PAR1 cut")
    task = make_task(make_config("onset"), corpus)
    with pytest.raises(StoreError, match=r"nobody\.npy: is not in the store"):
        task.open_split("validation")
    with pytest.raises(StoreError, match=r"piece-3\.parquet: no such note table"):
        task.open_split("test")
    with pytest.raises(StoreError, match=r"piece-0\.parquet: cannot be read"):
        task.open_split("train")
    assert list(task.evaluation_batches("nosuch")) == []


WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "pitch network for onsets": ("onset", {"model": {"kind": "harmonic"}}, "not a network of"),
    "onset network for pitch": ("pitch", {"model": {"kind": "onset"}}, "not a network of the task"),
    "transposed mel": (
        "onset",
        {"features": FeatureSpec(kind="log_mel").model_dump(), "augment": {"gain_db": 1}}
        | {"augment": {"transpose_semitones": 1}},
        "needs features.kind=cqt",
    ),
    "transposed thirds of tones": (
        "onset",
        {"features": {"bins_per_octave": 18}, "augment": {"transpose_semitones": 1}},
        "whole bins per semitone",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_settings_that_contradict_each_other_are_refused(case: str, make_config: Make) -> None:
    name, changes, message = WRONG[case]
    with pytest.raises(ValidationError, match=message):
        make_config(name, **changes)


def test_network_that_does_not_fit_is_refused_before_data_is_looked_at(make_config: Make) -> None:
    with pytest.raises(ConfigError, match="pitch_conv has 5 convolution widths, got 2"):
        make_config("pitch", model={"kind": "pitch_conv"})
