"""Which utterances are trained on together, over several epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.grouping import POOL_BATCHES, pooled_by_length
from amt_pipeline.phonemes.label_store import LabelPart, write_label_pack
from amt_pipeline.phonemes.task_config import PhonemeTaskConfig
from amt_pipeline.phonemes.tasks import PhonemeTask
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.packs import PackPart
from amt_pipeline.training.stream import WindowStream

SPEC, BATCH = MfccSpec(), 4
LENGTHS = derive_rng(0, "lengths").permutation(np.arange(5, 42))  # 37 utterances: no multiple of 4


def open_task(folder: Path) -> PhonemeTask:
    names = [f"u{number:02d}" for number in range(len(LENGTHS))]
    frames = [np.zeros((n, SPEC.bins, 1), np.float32) for n in LENGTHS]
    store = FrameStore.create(folder / "frames", SPEC)
    store.write_pack("all", [PackPart(n, f, n) for n, f in zip(names, frames, strict=True)])
    classes = [np.zeros(n, np.uint8) for n in LENGTHS]
    labels = [LabelPart(n, c) for n, c in zip(names, classes, strict=True)]
    write_label_pack(folder / "labels", "all", labels)
    training: dict[str, Any] = {"epochs": 4, "batch_size": BATCH, "learning_rate": 0.01}
    config = {"features": SPEC, "model": {"kind": "lstm_utterance"}, "training": training}
    return PhonemeTask(
        PhonemeTaskConfig.model_validate(config),
        store_folder=folder / "frames",
        labels_folder=folder / "labels",
        splits={"train": names},
        n_classes=2,
        data_fingerprint="zeros",
    )


def padding(lengths: list[npt.NDArray[np.int64]]) -> float:
    rows = sum(len(batch) * batch.max() for batch in lengths)
    return 1 - sum(int(batch.sum()) for batch in lengths) / float(rows)


def test_batches_stay_sorted_where_epochs_do_not_end_with_one(tmp_path: Path) -> None:
    stream = WindowStream(open_task(tmp_path))
    n = len(LENGTHS)
    for epoch in range(4):
        steps = range(-(-epoch * n // BATCH), (epoch + 1) * n // BATCH)
        batches = [LENGTHS[stream.batch(step).recording] for step in steps]
        # One pool holds them all, so a batch of the epoch is four neighbours by length.
        assert all(np.ptp(batch) == BATCH - 1 for batch in batches)
    everything = [LENGTHS[stream.batch(step).recording] for step in range(n)]  # four epochs
    assert sorted(np.concatenate(everything)) == sorted(np.tile(LENGTHS, BATCH))
    # In every batch, those that two epochs share among them.
    assert padding(everything) < 0.1


@pytest.mark.parametrize("begun", [0, 1, 3])
@pytest.mark.parametrize("n", [0, 1, 3, 4, BATCH * POOL_BATCHES + 1, 150])
def test_every_utterance_is_there_once(n: int, begun: int) -> None:
    n_frames = derive_rng(1, n).integers(1, 500, n)
    order = pooled_by_length(n_frames, BATCH, np.random.default_rng(2), begun)
    assert sorted(order) == list(range(n))
    np.testing.assert_array_equal(
        order, pooled_by_length(n_frames, BATCH, np.random.default_rng(2), begun)
    )
