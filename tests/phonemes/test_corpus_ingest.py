"""A corpus: manifest, labels, quarantine, what a second run does, a run that was cut off."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from amt_pipeline.core.errors import ConfigError, CorpusError, StorageError
from amt_pipeline.core.hashing import file_sha256
from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.features.mfcc import mfcc_frames
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes import ingest as ingestion
from amt_pipeline.phonemes.corpus_ingest import CorpusIngestion
from amt_pipeline.phonemes.label_store import read_labels
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.manifest import QUARANTINE_COLUMNS

Ingest = Callable[..., CorpusIngestion]
Make = Callable[..., Path]
TRAIN = ("1-1-0", "1-1-1", "2-1-0", "3-1-0")


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def times(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in folder.rglob("pack-*.npy")}


@pytest.fixture
def packs_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the packs that are written."""
    names: list[str] = []
    write = FrameStore.write_pack

    def noted(self: FrameStore, name: str, parts: Any) -> Any:
        names.append(name)
        return write(self, name, parts)

    monkeypatch.setattr(FrameStore, "write_pack", noted)
    return names


def test_tensors_become_frames_and_labels(
    make_libriphone: Make, ingest: Ingest, tmp_path: Path
) -> None:
    root = make_libriphone()
    done = ingest(root, pack_size=4)
    table = done.manifest.set_index("recording_id")
    assert table.index.tolist() == ["1-1-0", "1-1-1", "2-1-0", "3-1-0", "9-1-0", "9-1-1"]
    assert sorted(table["split"]) == ["test", "test", "train", "train", "train", "validation"]
    assert table["pack"].tolist() == ["pack-00000"] * 4 + ["pack-00001"] * 2
    assert table["has_labels"].tolist() == [True] * 4 + [False] * 2
    assert (table["n_frames"] == 12).all()
    assert table["duration_s"].tolist() == pytest.approx([(11 * 160 + 400) / 16000] * 6)
    store = FrameStore.open(tmp_path / "data/frames", MfccSpec())
    for name, row in table.iterrows():
        assert row["feature_sha256"] == file_sha256(row["feature_path"])
        assert row["speaker"] == str(name).split("-", maxsplit=1)[0]
        tensor = torch.load(row["feature_path"], weights_only=True)
        assert np.array_equal(store.frames(str(name))[:, :, 0], tensor.numpy())
    labels = read_labels(tmp_path / "data/labels", ["3-1-0", "1-1-0"])
    assert labels.classes.tolist() == [3] * 12 + [0] * 12
    assert done.quarantine.empty
    assert tuple(done.quarantine.columns) == QUARANTINE_COLUMNS


def test_summary_of_the_course_layout(make_libriphone: Make, ingest: Ingest) -> None:
    done = ingest(make_libriphone(test_labels=True))
    summary = json.loads(json.dumps(done.summary, allow_nan=False))
    assert (summary["corpus"], summary["layout"]) == ("libriphone", "libriphone")
    assert (summary["utterances"], summary["frames"]) == (6, 72)
    assert summary["splits"] == {"test": 2, "train": 3, "validation": 1}
    assert summary["frames_per_split"] == {"test": 24, "train": 36, "validation": 12}
    assert summary["speakers"]["test"] == 1
    assert summary["speakers_shared"]["train/test"] == 0
    assert len(summary["classes"]) == 41
    for split, n_frames in summary["frames_per_split"].items():
        assert sum(summary["class_counts"][split]) == n_frames
        assert len(summary["class_counts"][split]) == 41
    assert summary["class_counts"]["test"][:3] == [12, 12, 0]
    assert summary["majority"]["share"]["train"] == pytest.approx(1 / 3)
    name = summary["majority"]["name"]
    assert summary["classes"][summary["majority"]["class"]] == name
    assert (summary["unlabelled"], summary["quarantined"]) == (0, 0)
    assert MfccSpec.model_validate(summary["features"]) == MfccSpec()


def test_audio_becomes_frames_and_labels(make_speech: Make, ingest: Ingest, tmp_path: Path) -> None:
    root = make_speech({"train-clean-5": ("1-5-0", "2-5-0"), "dev-clean": ("3-5-0",),
                        "test-clean": ("4-5-0",)})  # fmt: skip
    (root / "alignments/4-5-0.csv").unlink()
    spec = MfccSpec(delta_axis="time")
    done = ingest(root, spec=spec)
    table = done.manifest.set_index("recording_id")
    assert table["split"].to_dict() == {
        "1-5-0": "train", "2-5-0": "train", "3-5-0": "validation", "4-5-0": "test",
    }  # fmt: skip
    assert table["has_labels"].tolist() == [True, True, True, False]
    assert table["alignment_path"].tolist()[3] == table["label_sha256"].tolist()[3] == ""
    assert (table["duration_s"] == 0.5).all()
    assert (table["n_frames"] == 1 + (8000 - 400) // 160).all()
    store = FrameStore.open(tmp_path / "data/frames", spec)
    samples, _ = soundfile.read(table.loc["2-5-0", "audio_path"], dtype="float32")
    assert np.array_equal(store.frames("2-5-0")[:, :, 0], mfcc_frames(samples, spec))
    labels = read_labels(tmp_path / "data/labels", ["2-5-0"]).classes
    assert labels.tolist() == [0] * 10 + [4] * 20 + [0] * 18
    assert done.summary["unlabelled"] == 1
    assert done.summary["split"]["drawn"] == []


def test_second_run_does_nothing(
    make_libriphone: Make,
    ingest: Ingest,
    tmp_path: Path,
    packs_made: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    root = make_libriphone()
    first = ingest(root, pack_size=2)
    assert "0 unchanged, 0 quarantined" in caplog.text
    before, times_before = files(tmp_path / "data"), times(tmp_path / "data")
    again = ingest(root, pack_size=2)
    assert "6 unchanged" in caplog.text
    assert packs_made == ["pack-00000", "pack-00001", "pack-00002"]
    assert (files(tmp_path / "data"), times(tmp_path / "data")) == (before, times_before)
    assert again.manifest.equals(first.manifest)
    assert again.summary == first.summary


def test_another_split_or_a_touched_file_makes_no_pack_again(
    make_libriphone: Make, ingest: Ingest, packs_made: list[str]
) -> None:
    root = make_libriphone()
    first = ingest(root, pack_size=2)
    os.utime(root / "feat/train/1-1-0.pt", ns=(1, 1))
    other = ingest(root, pack_size=2, split={"seed": 3, "train_ratio": 0.5})
    assert len(packs_made) == 3
    assert not other.manifest["split"].equals(first.manifest["split"])
    assert other.summary["fingerprint"] != first.summary["fingerprint"]


@pytest.mark.parametrize("what", ["tensor", "labels", "frames file", "labels file", "index"])
def test_what_changed_is_made_again(
    make_libriphone: Make, ingest: Ingest, tmp_path: Path, packs_made: list[str], what: str
) -> None:
    root = make_libriphone()
    first = ingest(root, pack_size=2)
    before = files(tmp_path / "data")
    packs_made.clear()
    if what == "tensor":
        torch.save(torch.ones(12, 39), root / "feat/train/2-1-0.pt")
    elif what == "labels":
        path = root / "train_labels.txt"
        path.write_text(path.read_text().replace("2-1-0 2", "2-1-0 7"))
    elif what == "frames file":
        (path,) = (tmp_path / "data/frames").rglob("pack-00001.npy")
        path.write_bytes(path.read_bytes()[:-1])
    elif what == "labels file":
        path = tmp_path / "data/labels/pack-00001.npy"
        path.write_bytes(path.read_bytes()[:-1] + b"\x05")
    else:
        path = tmp_path / "data/labels/pack-00001.json"
        path.write_text(path.read_text().replace('"stamp"', '"stump"'))
    again = ingest(root, pack_size=2)
    assert packs_made == ["pack-00001"]
    assert ingest(root, pack_size=2).manifest.equals(again.manifest)
    assert packs_made == ["pack-00001"]
    if what in ("tensor", "labels"):
        assert again.summary["fingerprint"] != first.summary["fingerprint"]
    else:
        assert files(tmp_path / "data") == before


def test_an_alignment_that_changed_is_read_again(
    make_speech: Make, ingest: Ingest, tmp_path: Path
) -> None:
    root = make_speech()
    first = ingest(root)
    path = root / "alignments/2-5-0.csv"
    path.write_text(path.read_text().replace("AH0", "K"))
    again = ingest(root)
    changed = first.manifest["label_sha256"] != again.manifest["label_sha256"]
    assert again.manifest["recording_id"][changed].tolist() == ["2-5-0"]
    assert set(read_labels(tmp_path / "data/labels", ["2-5-0"]).classes) == {0, 21}
    assert again.summary["fingerprint"] != first.summary["fingerprint"]
    # Other names of the same classes give other numbers, though no file of an utterance changed.
    (root / "phone_classes.txt").write_text("0 K\n1 AH\n2 SIL\n")
    ingest(root)
    assert set(read_labels(tmp_path / "data/labels", ["2-5-0"]).classes) == {0, 2}


def test_a_run_that_was_cut_off_goes_on_where_it_was(
    make_libriphone: Make,
    ingest: Ingest,
    tmp_path: Path,
    packs_made: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = make_libriphone()
    expected = ingest(root, into="whole", pack_size=2)
    packs_made.clear()
    write = ingestion.write_label_pack

    def cut_off(folder: Path, name: str, parts: Any) -> Any:
        if name == "pack-00001":
            raise KeyboardInterrupt  # its frames are written, its labels are not
        return write(folder, name, parts)

    monkeypatch.setattr(ingestion, "write_label_pack", cut_off)
    with pytest.raises(KeyboardInterrupt):
        ingest(root, pack_size=2)
    monkeypatch.setattr(ingestion, "write_label_pack", write)
    done = ingest(root, pack_size=2)
    assert packs_made == ["pack-00000", "pack-00001", "pack-00001", "pack-00002"]
    assert done.manifest.equals(expected.manifest)
    assert files(tmp_path / "data") == files(tmp_path / "whole")


def test_packs_of_a_former_corpus_are_removed(
    make_libriphone: Make, make_speech: Make, ingest: Ingest, tmp_path: Path
) -> None:
    ingest(make_libriphone(), pack_size=1)
    done = ingest(make_speech(), pack_size=4)
    assert set(times(tmp_path / "data")) == {"pack-00000.npy"}
    store = FrameStore.open(tmp_path / "data/frames")
    assert [len(store.frames(name)) for name in done.manifest["recording_id"]] == [48] * 4


def test_number_of_workers_does_not_matter(
    make_speech: Make, ingest: Ingest, tmp_path: Path
) -> None:
    root = make_speech({"train-clean-5": [f"{n}-5-0" for n in range(6)]})
    one = ingest(root, into="one", pack_size=2)
    two = ingest(root, into="two", pack_size=2, parallel=ParallelConfig(workers=2))
    assert one.manifest.equals(two.manifest)
    assert one.summary == two.summary
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_bad_utterances_are_quarantined_and_come_back(
    make_libriphone: Make, ingest: Ingest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_libriphone(train=[f"1-1-{number}" for number in range(6)])
    good = (root / "feat/train/1-1-2.pt").read_bytes()
    (root / "feat/train/1-1-2.pt").write_bytes(good[:200])
    labels = root / "train_labels.txt"
    labels.write_text(labels.read_text().replace("1-1-4 4", "1-1-4 41", 1))
    done = ingest(root, pack_size=4, split={"train_ratio": 0.5})
    rows = {row.recording_id: row for row in done.quarantine.itertuples()}
    assert set(rows) == {"1-1-2", "1-1-4"}
    assert rows["1-1-2"].path == str(root / "feat/train/1-1-2.pt")
    assert "cut short" in str(rows["1-1-2"].reason)
    assert rows["1-1-4"].path == f"{labels} line 5 (1-1-4)"
    assert "no class from 0 to 40: '41' (frame 0)" in str(rows["1-1-4"].reason)
    assert done.manifest["recording_id"].tolist() == [
        "1-1-0", "1-1-1", "1-1-3", "1-1-5", "9-1-0", "9-1-1",
    ]  # fmt: skip
    assert done.summary["quarantined"] == 2
    assert "Quarantined 1-1-2" in caplog.text
    assert "Quarantined 1-1-4" in caplog.text
    assert "2 of 8 utterances were left out" in caplog.text
    again = ingest(root, pack_size=4, split={"train_ratio": 0.5})
    assert again.quarantine.equals(done.quarantine)
    assert again.manifest.equals(done.manifest)
    (root / "feat/train/1-1-2.pt").write_bytes(good)
    restored = ingest(root, pack_size=4, split={"train_ratio": 0.5})
    assert set(restored.quarantine["recording_id"]) == {"1-1-4"}
    store = FrameStore.open(tmp_path / "data/frames")
    assert len(store.frames("1-1-2")) == len(store.frames("1-1-0")) == 12


@pytest.mark.parametrize("n_labels", [0, 11, 13])
def test_labels_that_are_not_as_many_as_frames(
    make_libriphone: Make, ingest: Ingest, n_labels: int
) -> None:
    root = make_libriphone()
    path = root / "train_labels.txt"
    lines = path.read_text().splitlines()
    lines[0] = " ".join(["1-1-0", *["0"] * n_labels])
    path.write_text("\n".join(lines))
    (row,) = ingest(root).quarantine.itertuples()
    assert row.recording_id == "1-1-0"
    assert row.path == str(root / "feat/train/1-1-0.pt")
    assert row.reason == f"has {n_labels} labels for 12 frames"


@pytest.mark.parametrize("n_labels", [0, 11, 13])
def test_test_labels_that_are_not_as_many_as_frames_are_left_out(
    make_libriphone: Make, ingest: Ingest, n_labels: int, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_libriphone(test_labels=True)
    path = root / "test_labels.txt"
    lines = path.read_text().splitlines()
    lines[1] = " ".join(["9-1-1", *["0"] * n_labels])
    path.write_text("\n".join(lines))
    with caplog.at_level("WARNING"):
        done = ingest(root)
    assert done.quarantine.empty
    table = done.manifest.set_index("recording_id")
    assert table.loc[["9-1-0", "9-1-1"], "has_labels"].tolist() == [True, False]
    said = f"{path} line 2 (9-1-1) has {n_labels} labels for 12 frames: it counts as unlabelled"
    assert said in caplog.text
    assert said in table.loc["9-1-1", "warnings"]


def test_too_many_bad_utterances_stop_the_run_but_lose_nothing(
    make_libriphone: Make, ingest: Ingest, packs_made: list[str]
) -> None:
    root = make_libriphone()
    (root / "feat/train/1-1-0.pt").write_bytes(b"")
    with pytest.raises(CorpusError) as refused:
        ingest(root, max_bad_fraction=0.1, pack_size=2)
    text = str(refused.value)
    assert "1 of 6 utterances cannot be used, at most 10.0% may" in text
    assert "1-1-0.pt: empty file" in text
    assert "librispeech.max_bad_fraction" in text
    assert len(packs_made) == 3
    assert len(ingest(root, max_bad_fraction=0.2, pack_size=2).manifest) == 5
    assert len(packs_made) == 3


def test_a_split_without_usable_utterances(make_libriphone: Make, ingest: Ingest) -> None:
    root = make_libriphone()
    table = ingest(root).manifest
    (name,) = table["recording_id"][table["split"] == "validation"]
    (root / f"feat/train/{name}.pt").write_bytes(b"")
    with pytest.raises(CorpusError, match="no utterance for validation can be used"):
        ingest(root)


def test_missing_files_are_refused_or_quarantined(make_libriphone: Make, ingest: Ingest) -> None:
    root = make_libriphone()
    (root / "feat/test/9-1-1.pt").unlink()
    with pytest.raises(CorpusError, match="9-1-1: no such file"):
        ingest(root)
    done = ingest(root, missing="quarantine")
    assert done.quarantine["recording_id"].tolist() == ["9-1-1"]


def test_tensors_are_taken_as_they_are(make_libriphone: Make, ingest: Ingest) -> None:
    root = make_libriphone()
    with pytest.raises(ConfigError, match=r"not with delta_axis=time \(they have coefficient\)"):
        ingest(root, spec=MfccSpec(delta_axis="time"))
    with pytest.raises(ConfigError, match=r"mel_bands=40 \(they have 23\), coefficients=12"):
        ingest(root, spec=MfccSpec(mel_bands=40, coefficients=12))


def test_the_same_utterance_in_two_splits_is_leakage(make_libriphone: Make, ingest: Ingest) -> None:
    root = make_libriphone()
    shutil.copy(root / "feat/train/1-1-0.pt", root / "feat/test/9-1-0.pt")
    with pytest.raises(CorpusError, match=r"same feature_sha256 in two splits \(leakage\)"):
        ingest(root)


def test_speakers_of_test_in_training_are_told(
    make_libriphone: Make, ingest: Ingest, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_libriphone(train=[f"{n}-1-0" for n in range(8)], test=("0-2-0", "1-2-0", "99-1-0"))
    done = ingest(root, split={"by": "speaker", "train_ratio": 0.9})
    n_shared = done.summary["speakers_shared"]["train/test"]
    assert n_shared >= 1
    assert f"{n_shared} speakers are in training and in test" in caplog.text
    assert done.summary["speakers_shared"]["train/validation"] == 0


def test_ids_that_name_no_speaker_are_fine(make_libriphone: Make, ingest: Ingest) -> None:
    done = ingest(make_libriphone(train=("a", "b", "c"), test=("d",)))
    assert (done.manifest["speaker"] == "").all()
    assert done.summary["speakers"] == {"test": 0, "train": 0, "validation": 0}


def test_a_full_disk_is_named(
    make_libriphone: Make, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("labels", "the disk is full")

    monkeypatch.setattr(ingestion, "write_label_pack", full)
    with pytest.raises(StorageError, match="the disk is full"):
        ingest(make_libriphone())


AUDIO: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (lambda path: path.write_bytes(b"") and None, "empty file"),
    "text": (lambda path: path.write_text("text") and None, "not audio that can be decoded"),
    "short": (lambda path: soundfile.write(path, np.zeros(399), 16000), "has 399 samples, less"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-900]) and None, "cut short"),
    "long": (
        lambda path: soundfile.write(path, np.zeros(901 * 1000), 1000),
        "lasts 901 s: an utterance has at most 900 s",
    ),
}


@pytest.mark.parametrize("name", AUDIO)
def test_bad_audio_is_quarantined(make_speech: Make, ingest: Ingest, name: str) -> None:
    root = make_speech()
    path = root / "train-clean-5/1/5/1-5-0.flac"
    AUDIO[name][0](path)
    (row,) = ingest(root).quarantine.itertuples()
    assert (row.recording_id, row.path) == ("1-5-0", str(path))
    assert AUDIO[name][1] in str(row.reason)


def test_bad_alignments_are_quarantined(make_speech: Make, ingest: Ingest) -> None:
    root = make_speech()
    path = root / "alignments/1-5-0.csv"
    path.write_text("start_s,end_s,phone\n0,0.6,zz\n")
    (row,) = ingest(root).quarantine.itertuples()
    assert (row.recording_id, row.path) == ("1-5-0", str(path))
    assert "unknown phone (line 2: 'zz'); beyond the end of the audio (0.500 s)" in str(row.reason)


def test_odd_audio_is_read_with_a_word(
    make_speech: Make, ingest: Ingest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_speech({"train-clean-5": [f"{n}-5-0" for n in range(5)]})
    wave = 0.1 * np.sin(np.arange(24000) / 10)
    folder = root / "train-clean-5"
    soundfile.write(folder / "0/5/0-5-0.flac", np.zeros(8000), 16000)
    soundfile.write(folder / "1/5/1-5-0.flac", np.stack([wave, -wave], 1)[:8000], 16000)
    soundfile.write(folder / "2/5/2-5-0.flac", wave[:4000], 8000)
    soundfile.write(folder / "3/5/3-5-0.flac", np.tile(wave[:24000, None], (1, 6)), 48000)
    done = ingest(root)
    warnings = done.manifest.set_index("recording_id")["warnings"]
    assert warnings["0-5-0"] == "silent"
    assert warnings["1-5-0"] == "the channels are in opposite phase: their mean is silent"
    assert warnings["2-5-0"].endswith("resampled from 8000 to 16000 Hz")
    assert warnings["3-5-0"] == "6 channels mixed to their mean; resampled from 48000 to 16000 Hz"
    assert warnings["4-5-0"] == ""
    assert "0-5-0: silent" in caplog.text
    store = FrameStore.open(tmp_path / "data/frames")
    assert all(np.isfinite(store.frames(name)).all() for name in warnings.index)


def test_a_file_that_changes_while_it_is_read(
    make_libriphone: Make, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_libriphone()
    read = ingestion.read_utterance

    def meddled(one: Any, *rest: Any) -> Any:
        found = read(one, *rest)
        if one.recording_id == "1-1-0":
            torch.save(torch.zeros(12, 39), one.feature_path)
        return found

    monkeypatch.setattr(ingestion, "read_utterance", meddled)
    (row,) = ingest(root).quarantine.itertuples()
    assert (row.recording_id, row.reason) == ("1-1-0", "changed while it was read")
