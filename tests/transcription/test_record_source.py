"""Training from records: the same batches and losses as from frames, or a named reason why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amt_pipeline.core.errors import ConfigError, MissingPredecessorError, RecordError
from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.store.tensorflow import import_tensorflow
from amt_pipeline.store.windows import Windows
from amt_pipeline.training.checkpoints import list_checkpoints, verify_checkpoint
from amt_pipeline.training.loop import train
from amt_pipeline.transcription.record_export import ExportConfig, export_records
from amt_pipeline.transcription.tasks import FrameTask

INLINE = ParallelConfig(workers=1)
EXPORT = ExportConfig(shards=3, splits=("train",))
RECORDS = {"source": "tfrecords"}
LABELS = {
    "plus": {"sampling": "onset_plus", "end": "last_onset"},
    "onsets": {"sampling": "onset_windows"},
    "runs": {"sampling": "runs", "phase": "fixed"},
}
AUGMENT = {"transpose_semitones": 2, "equaliser_db": 3.0}
Make = Callable[..., Any]


@pytest.fixture
def task_of(frame_corpus: Any, make_config: Make, make_task: Make, tmp_path: Path) -> Make:
    """Opens a task on the shared corpus; its records are in the test's folder."""

    def make(name: str = "onset", fingerprint: str = "", **changes: Any) -> FrameTask:
        blocks = {"labels": LABELS["plus"], "model": {"label_frames": 7}, **changes}
        return make_task(make_config(name, **blocks), frame_corpus, fingerprint, tmp_path)

    return make


def equal(one: Any, two: Any) -> bool:
    pairs = zip((*one.inputs, one.targets, one.valid), (*two.inputs, two.targets, two.valid),
                strict=True)  # fmt: skip
    return all(torch.equal(a.to(b.dtype), b) for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "labels", "augment"),
    [("onset", "plus", {}), ("pitch", "onsets", AUGMENT), ("pitch", "runs", {})],
)
def test_training_from_records_is_training_from_frames(
    name: str, labels: str, augment: dict[str, Any], task_of: Make, tmp_path: Path
) -> None:
    blocks: dict[str, Any] = {"labels": LABELS[labels], "augment": augment}
    if labels != "runs":
        blocks["input"] = {"normalisation": "window"}
    settings = {"epochs": 1.3, "log_every_steps": 2}
    frames = task_of(name, training=settings, **blocks)
    export_records(frames, tmp_path, EXPORT, INLINE)
    records = task_of(name, training={**settings, **RECORDS}, **blocks)
    for epoch in (0, 1):
        windows = records.training_windows(epoch)
        assert np.array_equal(windows.start, frames.training_windows(epoch).start)
        for first in range(0, len(windows), 8):
            own = windows[first : first + 8]
            assert equal(frames.training_batch(own, 3), records.training_batch(own, 3))
    part = slice(2, 5)
    assert equal(frames.training_batch(own, 3, part), records.training_batch(own, 3, part))
    results = [train(task, tmp_path / at) for task, at in ((frames, "f"), (records, "r"))]
    assert results[0].steps > 5
    assert results[0].history == results[1].history
    assert len({row["loss"] for row in results[0].history}) > 1
    weights = [
        verify_checkpoint(list_checkpoints(tmp_path / at)[-1])["model.safetensors"]
        for at in ("f", "r")
    ]
    assert weights[0] == weights[1]


def test_run_goes_on_from_the_other_source(task_of: Make, tmp_path: Path) -> None:
    settings = {"epochs": 0.2, "save_every_steps": 5}
    export_records(task_of(), tmp_path, EXPORT, INLINE)
    train(task_of(training=settings), tmp_path / "switched")
    (tmp_path / "switched" / "training.json").unlink()
    longer = {**settings, "epochs": 0.4}
    switched = train(task_of(training={**longer, **RECORDS}), tmp_path / "switched")
    straight = train(task_of(training=longer), tmp_path / "straight")
    assert switched.history == straight.history
    assert not (tmp_path / "switched" / "previous").exists()


MISMATCHED: dict[str, tuple[dict[str, Any], str]] = {
    "sampling": (
        {"labels": {"sampling": "onset_windows"}},
        "labels.sampling: onset_plus -> onset_",
    ),
    "share": (
        {"labels": {**LABELS["plus"], "negative_fraction": 0.2}},
        "negative_fraction: 0.1 ->",
    ),
    "seed": ({"training": {**RECORDS, "seed": 7}}, "training.seed: 1 -> 7"),
    "length": ({"model": {"label_frames": 9}}, "model.label_frames: 7 -> 9"),
    "corpus": ({"fingerprint": "another"}, "corpus and features: "),
    "task": ({"name": "pitch"}, "task: onset -> pitch"),
}


@pytest.mark.parametrize("case", MISMATCHED)
def test_export_for_other_settings_is_refused_with_both_named(
    case: str, task_of: Make, tmp_path: Path
) -> None:
    export_records(task_of(), tmp_path, EXPORT, INLINE)
    changes, message = MISMATCHED[case]
    task = task_of(**{"training": RECORDS, **changes})
    with pytest.raises(RecordError, match=message) as refused:
        task.training_batch(task.training_windows(0)[:2], 0)
    assert "kedro run --pipelines export_tfrecords" in refused.value.remedy


def test_widening_is_free_and_labels_follow_it(task_of: Make, tmp_path: Path) -> None:
    export_records(task_of(), tmp_path, EXPORT, INLINE)
    for widening in (0, 2):
        labels = {**LABELS["plus"], "widening": widening}
        frames, records = task_of(labels=labels), task_of(labels=labels, training=RECORDS)
        windows = frames.training_windows(0)[:50]
        assert equal(frames.training_batch(windows, 0), records.training_batch(windows, 0))


def test_missing_and_damaged_exports_are_named(task_of: Make, tmp_path: Path) -> None:
    def start(**changes: Any) -> None:
        task = task_of(training=RECORDS, **changes)
        task.training_batch(task.training_windows(0)[:2], 0)

    with pytest.raises(MissingPredecessorError, match="holds no complete export") as refused:
        start()
    assert "export_tfrecords" in refused.value.remedy
    export_records(task_of(), tmp_path, ExportConfig(splits=("test",)), INLINE)
    with pytest.raises(RecordError, match="train is not among them"):
        start()
    export_records(task_of(), tmp_path, EXPORT, INLINE)
    start()
    shard, held = tmp_path / "train" / "0001.tfrecord", tmp_path / "train" / "windows.npz"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(RecordError, match=r"0001\.tfrecord: has \d+ bytes, written were"):
        start()
    shard.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    with pytest.raises(RecordError, match=r"0001\.tfrecord: record \d+ is damaged"):
        start()
    shard.unlink()
    with pytest.raises(RecordError, match=r"0001\.tfrecord: is missing"):
        start()
    shard.write_bytes(whole)
    held.write_bytes(held.read_bytes()[:-1])
    with pytest.raises(RecordError, match=r"windows\.npz: is of another export, or damaged"):
        start()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "format": 2}))
    with pytest.raises(RecordError, match=r"manifest\.json: is no manifest .*\(1 faults\)"):
        start()
    (tmp_path / "manifest.json").write_text(json.dumps({"task": "onset"}))
    with pytest.raises(RecordError, match=r"manifest\.json: is no manifest"):
        start()


def test_window_that_no_record_holds_is_named(task_of: Make, tmp_path: Path) -> None:
    export_records(task_of(), tmp_path, EXPORT, INLINE)
    task = task_of(training=RECORDS)
    good = task.training_windows(0)[:1]
    bad = Windows(np.array([0, 9]), np.array([9999, 0]))
    with pytest.raises(RecordError, match="lacks 2 of the windows"):
        task.training_batch(Windows.concatenate([good, bad]), 0)


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "moving runs": ({"labels": {"sampling": "runs"}, "training": RECORDS},
                    "training.source", "Use onset.labels.phase=fixed"),
    "folder of frames": ({"training": {"records_folder": "x"}},
                         "training.records_folder", "Use onset.training.source=tfrecords"),
    "unknown peak": ({"training": {**RECORDS, "records_folder": "x"}},
                     "input.normalisation", "Use onset.input.normalisation=window"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_records_cannot_serve_are_refused(case: str, make_config: Make) -> None:
    changes, where, remedy = REFUSED[case]
    with pytest.raises(ConfigError) as refused:
        make_config("onset", **changes)
    assert (refused.value.where, refused.value.remedy[: len(remedy)]) == (where, remedy)


def test_task_without_a_folder_of_records_says_so(
    make_config: Make, make_task: Make, frame_corpus: Any
) -> None:
    config = make_config("onset", labels=LABELS["plus"], training=RECORDS)
    with pytest.raises(ConfigError, match="there is no folder of records"):
        make_task(config, frame_corpus).training_batch(Windows(np.zeros(1), np.zeros(1)), 0)


@pytest.fixture
def outside(tmp_path: Path, task_of: Make) -> Callable[..., tuple[FrameTask, Any, Any]]:
    """Writes records as others do, and opens a task that trains from them."""

    def make(
        name: str = "pitch", *, key: str = "label", label: Any = None, ending: str = ".tfrecords",
        n_floats: int | None = None, **labels: Any,
    ) -> tuple[FrameTask, Any, Any]:  # fmt: skip
        tf = import_tensorflow()
        folder = tmp_path / "elsewhere"
        folder.mkdir(exist_ok=True)
        training = {**RECORDS, "records_folder": str(folder)}
        task = task_of(name, training=training, labels={**LABELS["plus"], **labels},
                       input={"normalisation": "window"})  # fmt: skip
        size, rng = 7 + 2 * task.context_frames, np.random.default_rng(0)
        spectra = rng.random((6, n_floats or 88 * size * 2), np.float32)
        grades = rng.integers(0, 4, (6, 7 * 88 if name == "pitch" else 7))
        grades = grades if label is None else np.full_like(grades, label)
        for number in range(2):
            with tf.io.TFRecordWriter(str(folder / f"part-{number}{ending}")) as writer:
                for row in range(3 * number, 3 * number + 3):
                    feature = {
                        "spec": tf.train.Feature(float_list=tf.train.FloatList(value=spectra[row])),
                        key: tf.train.Feature(int64_list=tf.train.Int64List(value=grades[row])),
                        "file": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"])),
                    }
                    features = tf.train.Features(feature=feature)
                    writer.write(tf.train.Example(features=features).SerializeToString())
        return task, spectra, grades

    return make


@pytest.mark.parametrize(
    ("name", "key", "ending"),
    [("pitch", "pitch_label", ".tfrecords"), ("onset", "label", ".tfrecord"),
     ("pitch", "frame_label", ".tfrecord")],
)  # fmt: skip
def test_records_made_elsewhere_are_all_trained_on(
    name: str, key: str, ending: str, outside: Make, tmp_path: Path
) -> None:
    task, spectra, grades = outside(name, key=key, ending=ending)
    # As a writer that was killed leaves it.
    (tmp_path / "elsewhere" / f".tmp-part-2{ending}").write_bytes(b"half")
    orders = [task.training_windows(epoch).start.tolist() for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(6))
    batch = task.training_batch(task.training_windows(0), 0)
    for row, at in enumerate(orders[0]):
        spectrum = spectra[at].reshape(88, -1, 2).transpose(1, 0, 2)
        assert np.array_equal(batch.inputs[0][row].numpy(), spectrum)
        shape = (7, 88) if name == "pitch" else (7,)
        assert np.array_equal(batch.targets[row].numpy(), grades[at].reshape(shape) >= 2)
    assert batch.valid.all()
    assert batch.valid.expand_as(batch.targets).shape == batch.targets.shape
    assert train(task, tmp_path / "run").windows == 6
    assert {unit for unit, _ in task.evaluation_batches("validation")} == {"piece-2"}


def test_data_of_a_run_are_known_by_what_records_hold(outside: Make, task_of: Make) -> None:
    task, _, _ = outside(label=2)
    first = task.fingerprint()
    assert first != task_of("pitch").fingerprint()
    assert outside(label=2)[0].fingerprint() == first
    assert outside(label=3)[0].fingerprint() != first
    assert task_of("pitch", training=RECORDS).fingerprint() == task_of("pitch").fingerprint()


OUTSIDE: dict[str, tuple[dict[str, Any], str]] = {
    "spectrum": ({"n_floats": 100}, "record 0 holds 100 numbers under 'spec', expected"),
    "other network": ({"name": "onset", "label": 9}, "record 0 holds 9 to 9 under 'label'"),
    "label key": ({"key": "labels"}, "has labels under none of label, pitch_label, frame_label"),
    "no files": ({"ending": ".records"}, "holds no record files"),
    "binary": ({"label": 1}, "labels.widening: 1 counts labels from 2 up, .* go up to 1. Use"),
    "silent": ({"label": 0, "widening": 2}, "go up to 0. Write records that have labels"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_records_that_do_not_fit_are_named(case: str, outside: Make) -> None:
    settings, message = OUTSIDE[case]
    task, _, _ = outside(**settings)
    with pytest.raises((RecordError, ConfigError), match=message):
        task.training_windows(0)


def test_missing_folder_of_records_is_named(task_of: Make, tmp_path: Path) -> None:
    training = {**RECORDS, "records_folder": str(tmp_path / "nowhere")}
    task = task_of(training=training, input={"normalisation": "window"})
    with pytest.raises(RecordError, match=r"nowhere: cannot be read \(No such file"):
        task.training_windows(0)
