"""The course's lists: what is read, what is refused, and what is an utterance's own failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from amt_pipeline.core.errors import ConfigError, CorpusError
from amt_pipeline.phonemes.classes import ARPABET
from amt_pipeline.phonemes.config import LibrispeechConfig
from amt_pipeline.phonemes.course_lists import read_id_list, read_label_list
from amt_pipeline.phonemes.libriphone import read_libriphone
from amt_pipeline.phonemes.utterances import CorpusReading

Make = Callable[..., Path]
CONFIG = LibrispeechConfig()
QUARANTINE = LibrispeechConfig(missing="quarantine")


def by_name(reading: CorpusReading) -> dict[str, str]:
    return {one.recording_id: one.split for one in reading.utterances}


def test_lists_become_utterances(make_libriphone: Make) -> None:
    root = make_libriphone()
    reading = read_libriphone(root, CONFIG)
    assert (reading.layout, reading.drawn) == ("libriphone", ("train", "validation"))
    assert (reading.failures, reading.warnings) == ((), ())
    assert reading.classes == ARPABET
    first = reading.utterances[0]
    assert first.recording_id == "1-1-0"
    assert first.feature_path == root / "feat/train/1-1-0.pt"
    assert first.classes is not None
    assert first.classes.tolist() == [0] * 12
    assert (first.speaker, first.chapter) == ("1", "1")
    splits = by_name(reading)
    assert sorted(splits.values()) == ["test", "test", "train", "train", "train", "validation"]
    assert splits["9-1-0"] == "test"
    assert all(one.classes is None for one in reading.utterances if one.split == "test")


def test_labels_of_the_test_list_are_read_when_there(make_libriphone: Make) -> None:
    reading = read_libriphone(make_libriphone(test_labels=True), CONFIG)
    assert all(one.classes is not None for one in reading.utterances)


def test_names_of_classes_widen_or_narrow_the_labels(make_libriphone: Make) -> None:
    root = make_libriphone()
    (root / "phone_classes.txt").write_text("0 SIL\n1 A\n2 B\n")
    reading = read_libriphone(root, CONFIG)
    assert reading.classes.names == ("SIL", "A", "B")
    ((name, error),) = reading.failures
    assert name == "3-1-0"
    assert "labels that are no class from 0 to 2: '3' (frame 0), '3' (frame 1)" in str(error)


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf1-1-0\r\n\r\n  \r\n\n1-1-1", b"1-1-0\r1-1-1\r"])
def test_line_ends_blank_lines_and_byte_order_marks_are_fine(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "train_split.txt"
    path.write_bytes(data)
    assert read_id_list(path) == ["1-1-0", "1-1-1"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a\nb\n\na\n", r"ids more than once: 'a' \(lines 1, 4\)"),
        ("a\n../b\n/c\n", r"no id: '../b' \(line 2\), '/c' \(line 3\)"),
        ("a b\n", r"no id: 'a b' \(line 1\)"),
        (".hidden\n", "no id"),
        ("\n\n", "is empty"),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "train_split.txt"
    path.write_text(text)
    with pytest.raises(CorpusError, match=problem) as refused:
        read_id_list(path)
    assert str(path) in str(refused.value)


def test_an_id_in_both_lists_is_leakage(make_libriphone: Make) -> None:
    root = make_libriphone(test=("9-1-0", "1-1-0"))
    with pytest.raises(CorpusError, match=r"test_split.txt: has 1 ids .* \(leakage\): 1-1-0"):
        read_libriphone(root, CONFIG)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ("5 41 -1", "line 2 (b): labels that are no class from 0 to 40: '41' (frame 1), '-1' (f"),
        ("5 x", "line 2 (b): labels that are no class from 0 to 40: 'x' (frame 1)"),
        ("1_0 +3 \u0663 1.0", "'1_0' (frame 0), '+3' (frame 1), '\u0663' (frame 2), ..."),
        ("9" * 5000, "labels that are no class"),
    ],
)
def test_labels_that_are_no_class(tmp_path: Path, labels: str, problem: str) -> None:
    path = tmp_path / "train_labels.txt"
    path.write_text(f"a 0 40\nb {labels}\nc\t1\t2\n", encoding="utf-8")
    found = read_label_list(path, ARPABET)
    assert found["a"].classes is not None
    assert found["a"].classes.tolist() == [0, 40]
    assert found["c"].classes is not None
    assert found["c"].classes.tolist() == [1, 2]
    assert found["b"].classes is None
    assert problem in str(found["b"].error)
    assert len(str(found["b"].error)) < 400


def test_an_id_labelled_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train_labels.txt"
    path.write_text("a 1\nb 1\na 1\n")
    with pytest.raises(CorpusError, match=r"more than once: 'a' \(lines 1, 3\)"):
        read_label_list(path, ARPABET)


def test_ids_without_files_are_all_named_at_once(make_libriphone: Make) -> None:
    root = make_libriphone()
    (root / "feat/train/1-1-1.pt").unlink()
    (root / "feat/test/9-1-1.pt").unlink()
    with pytest.raises(CorpusError) as refused:
        read_libriphone(root, CONFIG)
    for part in ("2 of 6 utterances", "1-1-1: no such file", "9-1-1: no such file", "quarantine"):
        assert part in str(refused.value)
    reading = read_libriphone(root, QUARANTINE)
    assert [name for name, _ in reading.failures] == ["1-1-1", "9-1-1"]
    assert "1-1-1" not in by_name(reading)


def test_of_very_many_missing_files_the_log_names_all(
    make_libriphone: Make, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"1-1-{number:03d}" for number in range(300)]
    root = make_libriphone(train=names)
    for one in names[1:]:
        (root / f"feat/train/{one}.pt").unlink()
    with pytest.raises(CorpusError, match=r"299 of 302 utterances lack .* and 289 more") as refused:
        read_libriphone(root, CONFIG)
    assert len(str(refused.value)) < 3000
    assert len(caplog.messages) == 299
    assert caplog.messages[-1].startswith("1-1-299: no such file")


def test_what_is_left_out_does_not_change_the_split(make_libriphone: Make) -> None:
    root = make_libriphone(train=[f"1-1-{number}" for number in range(20)])
    before = by_name(read_libriphone(root, CONFIG))
    (root / "feat/train/1-1-7.pt").unlink()
    after = by_name(read_libriphone(root, QUARANTINE))
    assert after == {name: split for name, split in before.items() if name != "1-1-7"}


def test_ids_without_labels_are_missing_too(make_libriphone: Make) -> None:
    root = make_libriphone(test_labels=True)
    path = root / "train_labels.txt"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("1-1-1")))
    with pytest.raises(CorpusError, match=r"1 of 6 .* 1-1-1: has no labels"):
        read_libriphone(root, CONFIG)
    assert len(read_libriphone(root, QUARANTINE).utterances) == 5


def test_labels_of_the_test_list_may_be_missing_or_wrong(make_libriphone: Make) -> None:
    root = make_libriphone(test=("9-1-0", "9-1-1", "9-1-2"), test_labels=True)
    path = root / "test_labels.txt"
    first, second, _ = path.read_text().splitlines()
    path.write_text(f"{first}\n\n{second.replace(' 1', ' 41', 1)}\n")
    reading = read_libriphone(root, CONFIG)
    assert reading.failures == ()
    labelled = {
        u.recording_id: u.classes is not None for u in reading.utterances if u.split == "test"
    }
    assert labelled == {"9-1-0": True, "9-1-1": False, "9-1-2": False}
    absent, wrong = reading.warnings
    assert f"{path} has no labels for 1 of 3 utterances" in absent
    assert absent.endswith("9-1-2")
    assert wrong.startswith(f"{path} line 3 (9-1-1): labels that are no class")
    assert wrong.endswith("counts as unlabelled")


def test_files_and_labels_in_no_list_are_told(make_libriphone: Make) -> None:
    root = make_libriphone()
    for number in range(7):
        (root / f"feat/train/5-5-{number}.pt").write_bytes(b"")
    (root / "feat/test/.hidden.pt").write_bytes(b"")
    (root / "feat/test/notes.txt").write_bytes(b"")
    with (root / "train_labels.txt").open("a") as stream:
        stream.write("8-8-8 1 2 3\n")
    reading = read_libriphone(root, CONFIG)
    assert len(reading.utterances) == 6
    tensors, labels = reading.warnings
    assert "7 tensors in" in tensors
    assert tensors.endswith("are left out: 5-5-0, 5-5-1, 5-5-2, 5-5-3, 5-5-4, ...")
    assert labels.endswith("train_labels.txt labels 1 ids that the list lacks: 8-8-8")


@pytest.mark.parametrize("name", ["train_split.txt", "test_split.txt", "train_labels.txt"])
def test_a_missing_list_is_named(make_libriphone: Make, name: str) -> None:
    root = make_libriphone()
    (root / name).unlink()
    with pytest.raises(CorpusError, match=f"{name}: no such file"):
        read_libriphone(root, CONFIG)


def test_a_folder_without_any_tensor_is_named_once(make_libriphone: Make) -> None:
    root = make_libriphone()
    (root / "feat").rename(root / "features")
    with pytest.raises(CorpusError, match=r"has none of the 4 tensors that train_split.txt lists"):
        read_libriphone(root, QUARANTINE)


def test_too_few_utterances_to_split(make_libriphone: Make) -> None:
    with pytest.raises(ConfigError, match="leave none for train"):
        read_libriphone(make_libriphone(train=("1-1-0",)), CONFIG)


def test_split_by_speaker(make_libriphone: Make) -> None:
    config = LibrispeechConfig.model_validate({"split": {"by": "speaker", "train_ratio": 0.5}})
    splits = by_name(read_libriphone(make_libriphone(), config))
    assert splits["1-1-0"] == splits["1-1-1"]
    assert {"train", "validation"} <= set(splits.values())
