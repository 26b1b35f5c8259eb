"""Frames and labels are compared with the manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amt_pipeline.core.errors import StoreError
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.contents import check_frames, check_labels
from amt_pipeline.phonemes.label_store import LabelPart, write_label_pack
from amt_pipeline.store.frames import FrameStore, PackPart


def test_labels_are_those_of_the_manifest(tmp_path: Path) -> None:
    parts = [LabelPart("a", np.array([1, 2], np.uint8)), LabelPart("b", None)]
    digest = write_label_pack(tmp_path, "pack", parts).parts[0].sha256
    rows = pd.DataFrame({"recording_id": ["a", "b"], "label_sha256": [digest, ""]})
    check_labels(rows, tmp_path)
    for changed in (["", ""], [digest, digest], ["other", ""]):
        with pytest.raises(StoreError, match="1 utterances were made from other files"):
            check_labels(rows.assign(label_sha256=changed), tmp_path)
    with pytest.raises(StoreError, match=r"no labels of 1 utterances \(c\).*ingest_librispeech"):
        check_labels(rows.assign(recording_id=["a", "c"]), tmp_path)


def test_frames_are_those_of_the_manifest(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path, MfccSpec())
    frames = np.zeros((3, MfccSpec().bins, 1), np.float32)
    store.write_pack("pack", [PackPart("a", frames, "0" * 64)])
    rows = pd.DataFrame({"recording_id": ["a"], "feature_sha256": ["0" * 64]})
    check_frames(rows, tmp_path)
    with pytest.raises(StoreError, match=r"1 utterances were made .*\(a\).*ingest_librispeech"):
        check_frames(rows.assign(feature_sha256="1" * 64), tmp_path)
