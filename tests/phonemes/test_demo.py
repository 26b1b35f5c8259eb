"""The demo corpus on disk: both layouts, the same bytes every time, whole or resumed."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from amt_pipeline.audio.io import read_audio
from amt_pipeline.core.errors import CorpusError, StorageError
from amt_pipeline.features.mfcc import mfcc_frames
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes import demo
from amt_pipeline.phonemes.alignments import read_alignment
from amt_pipeline.phonemes.classes import ARPABET
from amt_pipeline.phonemes.config import LibrispeechConfig
from amt_pipeline.phonemes.demo import MARK_NAME, DemoConfig, make_demo_corpus
from amt_pipeline.phonemes.demo_voice import Voice
from amt_pipeline.phonemes.labels import frame_classes
from amt_pipeline.phonemes.libriphone import read_libriphone
from amt_pipeline.phonemes.librispeech import read_librispeech

SMALL = DemoConfig(minutes=0.9, speakers=3, seed=5)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "librispeech"
    return make_demo_corpus(folder, layout="librispeech", config=SMALL, workers=1)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "libriphone"
    return make_demo_corpus(folder, layout="libriphone", config=SMALL, workers=1)


def segments(path: Path) -> list[tuple[float, float, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            (float(row["start_s"]), float(row["end_s"]), row["phone"])
            for row in csv.DictReader(stream)
        ]


def test_segments_cover_the_audio_and_every_class_is_in_both_parts(speech: Path) -> None:
    for subset in ("train-clean-demo", "test-clean-demo"):
        seen = set()
        files = sorted(speech.glob(f"{subset}/*/*/*.flac"))
        for path in files:
            audio = read_audio(path, sample_rate=16000, channels=1)
            assert (audio.source_rate, audio.source_channels) == (16000, 1)
            rows = segments(speech / "alignments" / f"{path.stem}.csv")
            assert rows[0][0] == 0
            assert rows[-1][1] == len(audio.samples) / 16000
            assert all(before[1] == after[0] for before, after in itertools.pairwise(rows))
            assert all(start < end for start, end, _ in rows)
            assert rows[0][2] == rows[-1][2] == "SIL"
            seen |= {phone for _, _, phone in rows}
        assert seen == set(ARPABET.names)


def test_boundaries_agree_with_the_sound(speech: Path) -> None:
    """Hissing phones cross zero far more often than vowels; stops are silent before they burst."""
    crossings, loudness = defaultdict(list), defaultdict(list)
    for path in speech.glob("*/*/*/*.flac"):
        samples = read_audio(path, sample_rate=16000, channels=1).samples[:, 0]
        for start_s, end_s, phone in segments(speech / "alignments" / f"{path.stem}.csv"):
            piece = samples[round(start_s * 16000) : round(end_s * 16000)]
            crossings[phone].append(np.mean(np.diff(np.sign(piece)) != 0))
            third = len(piece) // 3
            loudness[phone].append(
                [np.sqrt(np.mean(part**2)) for part in (piece[:third], piece[-third:])]
            )
    rate = {phone: np.median(values) for phone, values in crossings.items()}
    vowels = [rate[phone] for phone in ("AA", "AO", "AH", "IY", "UW", "ER")]
    assert min(rate["S"], rate["SH"]) > 2 * max(vowels)
    level = {phone: np.median(values, axis=0) for phone, values in loudness.items()}
    assert level["AA"].min() > 8 * level["SIL"].max()
    for phone in ("T", "K", "CH"):
        closed, released = level[phone]
        assert released > 1.5 * closed


def test_layout_is_that_of_librispeech(speech: Path) -> None:
    reading = read_librispeech(speech, LibrispeechConfig())
    assert (reading.failures, reading.warnings) == ((), ())
    speakers = defaultdict(set)
    for one in reading.utterances:
        speakers["test" if one.split == "test" else "train"].add(one.speaker)
    assert {part: len(names) for part, names in speakers.items()} == {"train": 2, "test": 1}
    assert not speakers["train"] & speakers["test"]
    for path in speech.glob("*/*/*/*.trans.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            assert (path.parent / f"{name}.flac").is_file()
            assert text == text.upper() != ""
    table = (speech / "SPEAKERS.TXT").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in table if line[0] != ";"]
    assert [row[0] for row in rows] == sorted(speakers["train"] | speakers["test"])
    assert 0.6 < sum(float(row[3]) for row in rows) < 1.3


def test_both_layouts_hold_the_same_speech(speech: Path, course: Path) -> None:
    config, spec = LibrispeechConfig(), MfccSpec()
    listed = read_libriphone(course, config)
    assert (listed.failures, listed.warnings, listed.classes) == ((), (), ARPABET)
    heard = {one.recording_id: one for one in read_librispeech(speech, config).utterances}
    assert {one.recording_id for one in listed.utterances} == set(heard)
    for one in listed.utterances:
        audio = heard[one.recording_id]
        assert (one.split == "test") == (audio.split == "test")
        samples = read_audio(audio.audio_path, sample_rate=16000, channels=1).samples[:, 0]
        frames = torch.load(one.feature_path, weights_only=True).numpy()
        assert frames.dtype == np.float32
        assert np.array_equal(frames, mfcc_frames(samples, spec))
        read = read_alignment(audio.alignment_path, ARPABET, len(samples) / 16000)
        wanted = frame_classes(read, len(frames), spec.grid, ARPABET.silence)
        assert np.array_equal(one.classes, wanted)


def test_same_seed_gives_same_bytes_for_any_number_of_workers(
    speech: Path, course: Path, tmp_path: Path
) -> None:
    again = make_demo_corpus(tmp_path / "speech", layout="librispeech", config=SMALL, workers=2)
    assert digests(again) == digests(speech)
    again = make_demo_corpus(tmp_path / "course", layout="libriphone", config=SMALL, workers=1)
    assert digests(again) == digests(course)


def test_other_seed_gives_other_speech(course: Path, tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"seed": 6})
    other = make_demo_corpus(tmp_path, layout="libriphone", config=config, workers=1)
    tensors = [{v for k, v in digests(at).items() if ".pt" in k} for at in (course, other)]
    assert not tensors[0] & tensors[1]


def test_complete_corpus_is_reused_and_missing_files_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    make_shard = demo.make_shard
    monkeypatch.setattr(
        demo, "make_shard", lambda shard: (made.append(shard.speaker.name), make_shard(shard))
    )
    config = DemoConfig(minutes=0.5, speakers=2)
    make_demo_corpus(tmp_path, config=config, workers=1)
    before = digests(tmp_path)
    make_demo_corpus(tmp_path, config=config, workers=1)
    assert made == ["101", "102"]
    # As after a kill: the mark is not complete, and one file of the last speaker is not there.
    mark = json.loads((tmp_path / MARK_NAME).read_text())
    (tmp_path / MARK_NAME).write_text(json.dumps({**mark, "complete": False}))
    next(tmp_path.glob("*/102/*/*.trans.txt")).unlink()
    (tmp_path / "SPEAKERS.TXT").unlink()
    make_demo_corpus(tmp_path, config=config, workers=1)
    assert made == ["101", "102", "102"]
    assert digests(tmp_path) == before
    make_demo_corpus(tmp_path, layout="libriphone", config=config, workers=1)
    assert made[3:] == ["101", "102"]
    assert not list(tmp_path.rglob("*.flac"))


def test_killed_run_leaves_an_incomplete_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_shard = demo.make_shard

    def fail_at_test(shard: demo.Shard) -> None:
        if shard.speaker.split == "test":
            raise StorageError(shard.folder, "the disk is full")
        make_shard(shard)

    monkeypatch.setattr(demo, "make_shard", fail_at_test)
    with pytest.raises(StorageError, match="full"):
        make_demo_corpus(tmp_path, config=DemoConfig(minutes=0.5, speakers=2), workers=1)
    assert json.loads((tmp_path / MARK_NAME).read_text())["complete"] is False
    assert list(tmp_path.glob("train-clean-demo/101/*/*.flac"))
    assert not (tmp_path / "SPEAKERS.TXT").exists()


def test_failed_voice_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(voice: Voice, texts: list[str], scratch: Path) -> None:
        raise CorpusError(f"espeak-ng, voice {voice.name}", "it ended with code -9")

    monkeypatch.setattr(demo, "speak", fail)
    with pytest.raises(CorpusError, match="code -9"):
        make_demo_corpus(tmp_path, config=SMALL, workers=1)


def test_real_corpus_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "SPEAKERS.TXT").write_text("14 | F | train-clean-360 | 25.03 | Kristin LeMoine\n")
    with pytest.raises(CorpusError, match="not a demo"):
        make_demo_corpus(tmp_path, config=SMALL)
    assert digests(tmp_path).keys() == {"SPEAKERS.TXT"}
