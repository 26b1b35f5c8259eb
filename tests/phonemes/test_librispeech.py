"""LibriSpeech's tree: subsets and splits, transcripts, alignments wherever they lie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amt_pipeline.core.errors import ConfigError, CorpusError
from amt_pipeline.phonemes.config import LibrispeechConfig
from amt_pipeline.phonemes.corpus import find_layout, read_corpus
from amt_pipeline.phonemes.librispeech import read_librispeech
from amt_pipeline.phonemes.utterances import CorpusReading

Make = Callable[..., Path]
TRAIN = tuple(f"{speaker}-5-{number}" for speaker in range(5) for number in range(4))
DEV, TEST = ("50-1-0", "51-1-0"), ("60-1-0", "61-1-0", "62-1-0")


def read(root: Path, **settings: Any) -> CorpusReading:
    return read_librispeech(root, LibrispeechConfig.model_validate(settings))


def counts(reading: CorpusReading) -> dict[str, int]:
    return dict(Counter(one.split for one in reading.utterances))


def test_subsets_give_the_splits(make_speech: Make) -> None:
    root = make_speech({"train-clean-100": TRAIN, "dev-clean": DEV, "test-other": TEST})
    (root / "SPEAKERS.TXT").write_text("; who is who\n")
    (root / "BOOKS").mkdir()
    reading = read(root)
    assert counts(reading) == {"train": 20, "validation": 2, "test": 3}
    assert (reading.layout, reading.drawn, reading.warnings) == ("librispeech", (), ())
    one = reading.utterances[0]
    assert (one.recording_id, one.speaker, one.chapter) == ("50-1-0", "50", "1")
    assert one.audio_path == root / "dev-clean/50/1/50-1-0.flac"
    assert one.alignment_path == root / "alignments/50-1-0.csv"


def test_several_subsets_of_a_split(make_speech: Make) -> None:
    train = {"train-clean-100": TRAIN[:8], "train-other-500": TRAIN[8:]}
    root = make_speech({**train, "dev-clean": DEV, "dev-other": TEST, "test-clean": ("70-1-0",)})
    assert counts(read(root)) == {"train": 20, "validation": 5, "test": 1}


@pytest.mark.parametrize(
    ("subsets", "expected", "drawn"),
    [
        ({"train-clean-5": TRAIN}, {"train": 14, "validation": 4, "test": 2},
         ("train", "validation", "test")),
        ({"dev-clean": TRAIN}, {"train": 14, "validation": 4, "test": 2},
         ("train", "validation", "test")),
        ({"test-clean": TRAIN}, {"train": 14, "validation": 4, "test": 2},
         ("train", "validation", "test")),
        ({"train-clean-5": TRAIN, "dev-clean": DEV}, {"train": 18, "validation": 2, "test": 2},
         ("train", "test")),
        ({"train-clean-5": TRAIN, "test-clean": TEST}, {"train": 16, "validation": 4, "test": 3},
         ("train", "validation")),
        ({"dev-clean": TRAIN, "test-clean": TEST}, {"train": 16, "validation": 4, "test": 3},
         ("train", "validation")),
    ],
)  # fmt: skip
def test_splits_that_no_subset_gives_are_drawn(
    make_speech: Make, subsets: dict[str, Any], expected: dict[str, int], drawn: tuple[str, ...]
) -> None:
    reading = read(make_speech(subsets), split={"train_ratio": 0.8})
    assert counts(reading) == expected
    assert reading.drawn == drawn


def test_the_corpus_may_be_one_subset(make_speech: Make) -> None:
    root = make_speech({"train-clean-5": TRAIN})
    (root / "alignments").rename(root / "train-clean-5/alignments")
    reading = read(root / "train-clean-5")
    assert {one.recording_id for one in reading.utterances} == set(TRAIN)
    assert all(one.alignment_path for one in reading.utterances)
    (root / "train-clean-5").rename(root / "speech")
    assert counts(read(root / "speech"))["train"] == 17


def test_alignments_may_lie_elsewhere(make_speech: Make, tmp_path: Path) -> None:
    root = make_speech()
    elsewhere = tmp_path / "mfa" / "train-clean-5" / "1"
    elsewhere.mkdir(parents=True)
    for path in (root / "alignments").iterdir():
        path.rename(elsewhere / path.name)
    (elsewhere / "._1-5-0.csv").write_text("of a Mac")
    (elsewhere / "99-9-9.csv").write_text("of another subset")
    with pytest.raises(CorpusError, match="no alignment of its 4 utterances was found"):
        read(root)
    for folder in (str(tmp_path / "mfa"), "../mfa"):
        assert all(one.alignment_path for one in read(root, alignments=folder).utterances)
    with pytest.raises(CorpusError, match=r"mfb: no such folder. Correct librispeech.alignments"):
        read(root, alignments="../mfb")


def test_alignments_beside_the_audio(make_speech: Make) -> None:
    root = make_speech()
    for path in list((root / "alignments").iterdir()):
        speaker, chapter, _ = path.stem.split("-")
        path.rename(root / "train-clean-5" / speaker / chapter / f"{path.stem}.TextGrid")
    reading = read(root)
    assert {one.alignment_path.suffix for one in reading.utterances if one.alignment_path} == {
        ".TextGrid"
    }


def test_two_alignments_of_one_utterance_are_refused(make_speech: Make) -> None:
    root = make_speech()
    (root / "alignments/deep").mkdir()
    (root / "alignments/deep/1-5-0.TextGrid").write_text("")
    with pytest.raises(CorpusError, match=r"1 utterances have several alignments: .*1-5-0.csv, "):
        read(root)


def test_missing_parts_are_named_at_once(make_speech: Make) -> None:
    root = make_speech()
    (root / "alignments/1-5-0.csv").unlink()
    (root / "train-clean-5/2/5/2-5-0.flac").unlink()
    with pytest.raises(CorpusError) as refused:
        read(root)
    for part in ("2 of 4", "2-5-0: no such file, but 2-5.trans.txt has it", "1-5-0: has no align"):
        assert part in str(refused.value)
    reading = read(root, missing="quarantine")
    assert {name for name, _ in reading.failures} == {"1-5-0", "2-5-0"}
    assert {one.recording_id for one in reading.utterances} == {"3-5-0", "4-5-0"}


def test_a_published_test_part_may_have_no_alignments(make_speech: Make) -> None:
    root = make_speech({"train-clean-5": TRAIN, "test-clean": TEST})
    for name in TEST:
        (root / f"alignments/{name}.csv").unlink()
    reading = read(root)
    assert counts(reading)["test"] == 3
    assert reading.warnings == ("3 test utterances have no alignment: 60-1-0, 61-1-0, 62-1-0",)


def test_audio_without_a_transcript_is_used(make_speech: Make) -> None:
    root = make_speech()
    (root / "train-clean-5/1/5/1-5.trans.txt").unlink()
    reading = read(root)
    assert len(reading.utterances) == 4
    assert "1 utterances in" in reading.warnings[0]
    assert reading.warnings[0].endswith("are in no transcript (they are used all the same): 1-5-0")


def test_files_in_the_wrong_place_are_refused(make_speech: Make) -> None:
    root = make_speech()
    wrong = root / "train-clean-5/2/5/1-5-9.flac"
    (root / "train-clean-5/1/5/1-5-0.flac").rename(wrong)
    with pytest.raises(CorpusError, match="1 files have another name than their folders say"):
        read(root)
    (root / "dev-clean/2/5").mkdir(parents=True)
    (root / "dev-clean/2/5/2-5-0.flac").write_bytes(b"")
    wrong.unlink()
    with pytest.raises(CorpusError, match="has 1 utterances more than once: 2-5-0"):
        read(root)


def test_transcripts_that_are_none(make_speech: Make) -> None:
    root = make_speech()
    (root / "train-clean-5/1/5/1-5.trans.txt").write_text("1-5-0 A\n../../x B\n")
    with pytest.raises(CorpusError, match=r"1-5.trans.txt line 2: '../../x' is no id"):
        read(root)
    (root / "train-clean-5/1/5/1-5.trans.txt").write_bytes(b"1-5-0 \xff\n")
    with pytest.raises(CorpusError, match=r"1-5.trans.txt: its encoding is not utf-8"):
        read(root)


def test_classes_need_silence(make_speech: Make) -> None:
    root = make_speech()
    (root / "phone_classes.txt").write_text("0 AH\n1 K\n")
    with pytest.raises(CorpusError, match="its phone classes have no SIL"):
        read(root)


def test_split_by_speaker_needs_several(make_speech: Make) -> None:
    by_speaker = {"by": "speaker", "train_ratio": 0.6}
    reading = read(make_speech({"train-clean-5": TRAIN}), split=by_speaker)
    splits: dict[str, set[str]] = {}
    for one in reading.utterances:
        splits.setdefault(one.speaker, set()).add(one.split)
    assert len(splits) == 5
    assert all(len(found) == 1 for found in splits.values())
    with pytest.raises(ConfigError, match="1 speakers"):
        read(make_speech({"train-clean-5": ("1-1-0", "1-1-1")}, name="one"), split=by_speaker)


def test_layouts_are_told_apart(make_speech: Make, make_libriphone: Make, tmp_path: Path) -> None:
    speech, course = make_speech(), make_libriphone()
    assert (find_layout(speech), find_layout(course)) == ("librispeech", "libriphone")
    assert find_layout(speech / "train-clean-5") == "librispeech"
    assert read_corpus(course, LibrispeechConfig()).layout == "libriphone"
    assert read_corpus(speech, LibrispeechConfig(layout="librispeech")).layout == "librispeech"


def test_a_corpus_of_the_course_without_its_list_is_told_to_restore_it(
    make_libriphone: Make,
) -> None:
    course = make_libriphone()
    (course / "train_split.txt").unlink()
    for layout in ("auto", "libriphone"):
        config = LibrispeechConfig.model_validate({"layout": layout})
        with pytest.raises(CorpusError, match=r"train_split\.txt: no such file\. .* archive$"):
            read_corpus(course, config)


@pytest.mark.parametrize(
    ("below", "problem"),
    [
        ("LibriSpeech/alignments", "has neither layout"),
        ("LibriSpeech/train-clean-5/1", "has neither layout"),
        ("LibriSpeech/train-clean-5/1/5", "has neither layout"),
        ("libriphone/feat", "has no .flac files"),
        ("libriphone/feat/train", "has neither layout"),
        ("libriphone/train_split.txt", "is a file, not a corpus folder"),
        ("LibriSpeech/train-clean-5", "no alignment of its 4 utterances"),
    ],
)
def test_a_folder_within_a_corpus_names_the_corpus(
    make_speech: Make, make_libriphone: Make, tmp_path: Path, below: str, problem: str
) -> None:
    roots = {path.name: path for path in (make_speech(), make_libriphone())}
    meant = roots[Path(below).parts[0]]
    with pytest.raises(CorpusError, match=re.escape(problem)) as refused:
        read_corpus(tmp_path / below, LibrispeechConfig())
    assert refused.value.remedy.startswith(f"Did you mean {meant}?")


@pytest.mark.parametrize("layout", ["auto", "libriphone", "librispeech"])
def test_a_folder_above_corpora_names_them_and_no_others(
    make_speech: Make, make_libriphone: Make, tmp_path: Path, layout: str
) -> None:
    speech, course = make_speech(), make_libriphone()
    # Of another kind: its parts are called as LibriSpeech's are, but hold no speech.
    for name in ("music/train/cello", "music/2004"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.flac").write_text("")
    with pytest.raises(CorpusError) as refused:
        read_corpus(tmp_path, LibrispeechConfig.model_validate({"layout": layout}))
    assert refused.value.remedy == f"Did you mean {speech} or {course}?"


@pytest.mark.parametrize(
    ("name", "layout", "problem"),
    [
        ("empty", "auto", "the folder is empty"),
        ("empty", "libriphone", "train_split.txt: no such file"),
        ("empty", "librispeech", "has no .flac files"),
        ("other", "auto", "has neither layout"),
        ("other", "librispeech", "has no .flac files"),
        ("other/file", "auto", "is a file, not a corpus folder"),
        ("other/file", "libriphone", "is a file, not a corpus folder"),
        ("absent", "auto", "no such folder"),
        ("absent", "librispeech", "no such folder"),
    ],
)
def test_folders_that_are_no_corpus(tmp_path: Path, name: str, layout: str, problem: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("")
    with pytest.raises(CorpusError, match=re.escape(problem)):
        read_corpus(tmp_path / name, LibrispeechConfig.model_validate({"layout": layout}))
