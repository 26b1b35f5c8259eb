from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amt_pipeline.core.errors import AudioError, CorpusError, MidiError
from amt_pipeline.store.manifest import (
    QUARANTINE_COLUMNS,
    SPLITS,
    Manifest,
    check_bad_fraction,
    file_exists,
    fingerprint,
    quarantine_table,
    validate_manifest,
)


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    paths = [tmp_path / f"{name}.wav" for name in "cab"]
    for path in paths:
        path.write_bytes(b"")
    return pd.DataFrame(
        {
            "recording_id": list("cab"),
            "split": list(SPLITS),
            "audio_path": [str(path) for path in paths],
            "duration_s": [1.0, 2.0, 3.0],
            "audio_sha256": ["1" * 64, "2" * 64, "3" * 64],
            "composer": ["X", "X", "Y"],
            "title": ["Sonata 1", "Sonata 2", "Sonata 1"],
        }
    )


def fault(frame: pd.DataFrame) -> str:
    with pytest.raises(CorpusError) as caught:
        validate_manifest(frame, where="corpus.csv")
    assert str(caught.value).startswith("corpus.csv: ")
    return str(caught.value)


def test_manifest_is_sorted_and_split(frame: pd.DataFrame) -> None:
    manifest = Manifest.from_frame(frame)
    assert len(manifest) == 3
    assert manifest.frame["recording_id"].tolist() == ["a", "b", "c"]
    assert manifest.split("validation")["recording_id"].tolist() == ["a"]
    assert Manifest.from_frame(frame[:1]).split("test").empty
    with pytest.raises(ValueError, match="'valid' is none of train"):
        manifest.split("valid")


def test_missing_columns(frame: pd.DataFrame) -> None:
    assert "lacks the columns split, duration_s" in fault(
        frame.drop(columns=["split", "duration_s"])
    )
    without = frame.drop(columns=["audio_path"])
    assert "lacks the columns audio_path or midi_path or feature_path" in fault(without)


def test_empty_manifest(frame: pd.DataFrame) -> None:
    assert "the corpus is empty" in fault(frame[:0])


def test_everything_wrong_is_told_at_once(frame: pd.DataFrame) -> None:
    frame["duration_s"] = frame["duration_s"].astype(object)
    frame.loc[0, ["recording_id", "split", "duration_s"]] = ["a", "valid", np.nan]
    frame.loc[2, ["duration_s", "audio_path"]] = ["long", "absent.wav"]
    text = fault(frame)
    for part in (
        "recording_id more than once: a",
        "split is none of train, validation, test: 'valid' (a)",
        "duration_s is not a number above 0: nan (a), long (b)",
        "no such file: absent.wav",
    ):
        assert part in text


def test_of_very_much_the_first_is_told_and_the_log_has_all(
    frame: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    many = pd.concat([frame] * 200, ignore_index=True)
    many["recording_id"] = [f"r{number}" for number in range(len(many))]
    many["audio_path"] = [f"absent-{number // 2}.wav" for number in range(len(many))]
    text = fault(many)
    assert "no such file: absent-0.wav, " in text
    assert "and 590 more, which the log names" in text
    assert "the same audio_path in two splits (leakage): absent-0.wav is in" in text
    assert len(text) < 3000
    assert "no such file: absent-299.wav" in caplog.messages
    assert any("(leakage): absent-299.wav is in" in line for line in caplog.messages)


@pytest.mark.parametrize("duration", [0, -1.0, np.inf, None, "3"])
def test_durations(frame: pd.DataFrame, duration: object) -> None:
    frame["duration_s"] = [1, 2, duration]
    assert "duration_s is not a number above 0" in fault(frame.astype({"duration_s": object}))


def test_empty_id_and_row_without_files(frame: pd.DataFrame) -> None:
    frame.loc[0, "recording_id"] = None
    frame.loc[1, "audio_path"] = None
    text = fault(frame)
    assert "a recording_id is empty" in text
    assert "no file at all for a" in text


def test_any_kind_of_file_will_do(frame: pd.DataFrame) -> None:
    frame["feature_path"] = frame["audio_path"]
    frame["audio_path"] = [None, "", np.nan]
    assert len(Manifest.from_frame(frame)) == 3
    frame["feature_path"] = [None, *frame["feature_path"][1:]]
    assert "no file at all for" in fault(frame)


def test_a_folder_is_not_a_recording(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.loc[0, "audio_path"] = str(tmp_path)
    assert f"no such file: {tmp_path}" in fault(frame)


@pytest.mark.parametrize("column", ["audio_path", "audio_sha256"])
def test_leakage_of_recordings(frame: pd.DataFrame, column: str) -> None:
    frame.loc[1, column] = frame.loc[0, column]
    expected = f"the same {column} in two splits (leakage): {frame.loc[0, column]} is in train (c)"
    assert f"{expected}, validation (a)" in fault(frame)
    frame.loc[1, "split"] = "train"
    validate_manifest(frame)


def test_hashes_that_are_not_known_yet_are_not_equal(frame: pd.DataFrame) -> None:
    frame["audio_sha256"] = ["", "", None]
    assert len(Manifest.from_frame(frame)) == 3
    frame["audio_sha256"] = "ab" * 32
    assert "the same audio_sha256 in two splits" in fault(frame)


def test_leakage_of_pieces(frame: pd.DataFrame) -> None:
    frame["composer"] = ["X", "Y", "X"]
    text = fault(frame)
    assert "the piece in two splits (leakage): X, Sonata 1 is in train (c), test (b)" in text
    assert "allow_shared_pieces" in text
    validate_manifest(frame, allow_shared_pieces=True)
    assert len(Manifest.from_frame(frame, allow_shared_pieces=True)) == 3


def test_pieces_without_a_title_are_not_known(frame: pd.DataFrame) -> None:
    frame["composer"], frame["title"] = "X", ["", " ", None]
    assert len(Manifest.from_frame(frame)) == 3
    frame["title"] = "Sonata"
    assert "the piece in two splits" in fault(frame)


def test_fingerprint_depends_on_ids_splits_and_contents_only(frame: pd.DataFrame) -> None:
    print_ = fingerprint(frame)
    assert len(print_) == 64
    assert Manifest.from_frame(frame).fingerprint() == print_
    elsewhere = frame.assign(audio_path="/elsewhere", title="T", duration_s=9.0)[::-1]
    assert fingerprint(elsewhere) == print_
    others = [
        frame.assign(recording_id=["c", "a", "d"]),
        frame.assign(split=["train", "train", "test"]),
        frame.assign(audio_sha256="0" * 64),
        frame.drop(columns="audio_sha256"),
        frame[:2],
    ]
    assert len({print_, *map(fingerprint, others)}) == 6


def test_quarantine_table() -> None:
    failures = [
        ("b", MidiError("b.mid", "is cut off", "Replace it")),
        ("a", AudioError(Path("a.wav"), "is empty")),
    ]
    table = quarantine_table(failures)
    assert tuple(table.columns) == QUARANTINE_COLUMNS
    assert table.to_numpy().tolist() == [
        ["a", "a.wav", "is empty", ""],
        ["b", "b.mid", "is cut off", "Replace it"],
    ]
    assert tuple(quarantine_table([]).columns) == QUARANTINE_COLUMNS
    assert quarantine_table([]).empty


@pytest.mark.parametrize(
    ("n_bad", "n_all", "fraction"), [(0, 0, 0.0), (0, 10, 0.0), (1, 10, 0.1), (9, 10, 1.0)]
)
def test_few_bad_recordings_are_borne(n_bad: int, n_all: int, fraction: float) -> None:
    check_bad_fraction(n_bad, n_all, fraction)


@pytest.mark.parametrize(
    ("n_bad", "n_all", "fraction"), [(1, 10, 0.0), (2, 10, 0.1), (10, 10, 1.0)]
)
def test_too_many_bad_recordings_stop(n_bad: int, n_all: int, fraction: float) -> None:
    with pytest.raises(CorpusError, match=f"{n_bad} of {n_all} recordings cannot be used"):
        check_bad_fraction(n_bad, n_all, fraction)


def test_the_first_reasons_are_shown() -> None:
    with pytest.raises(CorpusError, match=r"at most 5\.0% may: r0; r1; r2; and 2 more\. See the"):
        check_bad_fraction(5, 9, 0.05, reasons=[f"r{n}" for n in range(5)], where="maestro")
    with pytest.raises(CorpusError, match=r"may: only\. See"):
        check_bad_fraction(1, 9, 0.05, reasons=["only"])


def test_file_that_cannot_be_looked_at(tmp_path: Path) -> None:
    assert not file_exists(tmp_path / ("x" * 300))
    assert not file_exists(tmp_path)


def test_speakers_in_two_splits(frame: pd.DataFrame) -> None:
    frame["speaker"] = ["1", "1", "2"]
    validate_manifest(frame)
    with pytest.raises(CorpusError) as refused:
        Manifest.from_frame(frame, allow_shared_speakers=False)
    assert "the speaker in two splits (leakage): 1 is in train (c), validation (a)" in str(
        refused.value
    )
    frame["speaker"] = ["1", "", ""]
    validate_manifest(frame, allow_shared_speakers=False)


def test_labels_count_for_the_fingerprint_but_not_as_leakage(frame: pd.DataFrame) -> None:
    without = fingerprint(frame)
    frame["label_sha256"] = "0" * 64
    validate_manifest(frame)
    assert fingerprint(frame) != without
    other = frame.assign(label_sha256=["0" * 64, "0" * 64, "1" * 64])
    assert fingerprint(other) != fingerprint(frame)


def test_the_parameter_of_too_many_bad_is_named() -> None:
    with pytest.raises(CorpusError, match=r"or raise librispeech\.max_bad_fraction"):
        check_bad_fraction(1, 2, 0.1, parameter="librispeech.max_bad_fraction")
