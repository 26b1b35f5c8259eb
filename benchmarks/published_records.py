"""Windows as TFRecords in the published layout, written and read with TensorFlow.

Float spectra and integer labels, flattened, in numbered shards; read by tf.data.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from amt_pipeline.store.tensorflow import import_tensorflow
from amt_pipeline.store.windows import Windows
from amt_pipeline.transcription.tasks import FrameTask


def write_records(folder: Path, task: FrameTask, shards: int) -> int:
    """Write the windows of an epoch in shards as published; return the bytes on disk."""
    tf = import_tensorflow()
    folder.mkdir()
    windows = task.training_windows(0)
    for shard in range(shards):
        with tf.io.TFRecordWriter(str(folder / f"{shard:04d}.tfrecord")) as writer:
            rows = np.arange(shard, len(windows), shards)
            for spectrum, grades in zip(*_published(task, windows[rows]), strict=True):
                feature = {
                    "spec": tf.train.Feature(float_list=tf.train.FloatList(value=spectrum)),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=grades)),
                }
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
    return sum(path.stat().st_size for path in folder.iterdir())


def _published(task: FrameTask, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Return flattened spectra [n, bins x frames x channels] and grades [n, labels]."""
    frames, grades = task.examples("train", windows)
    spectra = np.asarray(frames, np.float32).transpose(0, 2, 1, 3)
    return tuple(  # type: ignore[return-value]
        values.reshape(len(windows), math.prod(values.shape[1:])) for values in (spectra, grades)
    )


def read_records(folder: Path, task: FrameTask, batch: int, shuffle_buffer: int = 0) -> Any:
    """Return a tf.data set of `(spectra [n, bins, frames, channels], labels [n, frames, 88])`."""
    tf = import_tensorflow()
    length, spec = task.config.model.label_frames, task.config.features
    shape = (spec.bins, length + 2 * task.context_frames, spec.channels)
    features = {
        "spec": tf.io.FixedLenFeature(shape, tf.float32),
        "label": tf.io.FixedLenFeature((length, 88), tf.int64),
    }
    files = tf.data.Dataset.list_files(
        str(folder / "*.tfrecord"), shuffle=shuffle_buffer > 0, seed=0
    )
    records = files.interleave(tf.data.TFRecordDataset, cycle_length=16, block_length=4)
    if shuffle_buffer:
        records = records.shuffle(shuffle_buffer, seed=0).repeat()
    batches = records.batch(batch).map(partial(tf.io.parse_example, features=features))
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    return batches.map(lambda found: (found["spec"], found["label"])).with_options(options)
