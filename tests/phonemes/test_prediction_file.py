"""The answer file: order, numbering, and the warning about gaps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from amt_pipeline.core.errors import CorpusError, StoreError
from amt_pipeline.phonemes.prediction_file import (
    list_order,
    shift_warning,
    write_prediction_file,
)
from amt_pipeline.phonemes.probabilities import to_half, write_probabilities


def test_rows_follow_the_list(tmp_path):
    said = {"b": [3, 3, 1], "a": [40], "none": []}
    for name, classes in said.items():
        chances = np.full((len(classes), 41), 0.01, np.float32)
        chances[np.arange(len(classes)), classes] = 0.6
        write_probabilities(tmp_path / "out", name, to_half(chances), "key")
    path = tmp_path / "prediction.csv"
    assert write_prediction_file(path, tmp_path / "out", ["b", "none", "a"]) == 4
    assert path.read_bytes() == b"Id,Class\n0,3\n1,3\n2,1\n3,40\n"
    with pytest.raises(StoreError, match="predict_phoneme"):
        write_prediction_file(path, tmp_path / "out", ["b", "c"])
    assert path.read_bytes() == b"Id,Class\n0,3\n1,3\n2,1\n3,40\n"


def test_the_manifest_gives_the_order_of_the_list(make_libriphone, ingest):
    root = make_libriphone(test=("9-1-5", "9-1-0", "9-1-3"))
    done = ingest(root)
    assert list_order(done.manifest) == ["9-1-5", "9-1-0", "9-1-3"]
    assert done.summary["test_list"] == {"utterances": 3, "left_out": {}}
    train = done.manifest[done.manifest["split"] != "test"].sort_values("list_position")
    listed = (root / "train_split.txt").read_text().split()
    assert train["recording_id"].tolist() == listed
    with pytest.raises(CorpusError, match="ingest_librispeech"):
        list_order(pd.DataFrame({"recording_id": ["a"], "split": ["test"]}))


def test_gaps_in_the_list_are_told(make_libriphone, ingest):
    root = make_libriphone(test=("9-1-5", "9-1-0", "9-1-3"))
    (root / "feat/test/9-1-0.pt").write_bytes(b"no tensor")
    done = ingest(root)
    assert list_order(done.manifest) == ["9-1-5", "9-1-3"]
    assert done.manifest.set_index("recording_id")["list_position"]["9-1-3"] == 2
    left_out = done.summary["test_list"]["left_out"]
    text = shift_warning(left_out, done.summary["test_list"]["utterances"])
    assert left_out == {"9-1-0": 1}
    assert text.startswith("1 of 3 utterances") and "9-1-0 (line 2)" in text
    assert shift_warning({}, 3) == ""
    assert "and 2 more" in shift_warning({f"u{n}": n for n in range(7)}, 9)


def test_without_lists_places_count_within_a_split(make_speech, ingest):
    done = ingest(make_speech(), split={"test_ratio": 0.25, "train_ratio": 0.6})
    for _, rows in done.manifest.groupby("split"):
        assert sorted(rows["list_position"]) == list(range(len(rows)))
