from __future__ import annotations

import json

import pytest

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.files import write_json
from amt_pipeline.transcription.folder_scoring import folder_score_json, score_folders
from amt_pipeline.transcription.note_files import write_midi, write_res
from amt_pipeline.transcription.notes import Notes

TRUTH = Notes.from_arrays([0.5, 1.0, 1.5, 2.0], [0.9, 1.4, 1.9, 2.5], [60, 64, 67, 72])
HALF = Notes.from_arrays([0.51, 1.0, 5.0, 6.0], [0.6, 1.1, 5.1, 6.1], [60, 64, 67, 72])


@pytest.fixture
def folders(tmp_path):
    res, labels = tmp_path / "res", tmp_path / "labels"
    write_res(res / "a.res", TRUTH)
    write_res(res / "b.res", HALF)
    write_res(res / "extra.res", HALF)
    write_res(labels / "a.txt", TRUTH)
    write_midi(labels / "2004" / "b.midi", TRUTH)
    write_res(labels / "missed.txt", TRUTH)
    (labels / "maestro.csv").write_text("not,notes\n")
    (labels / ".tmp-c.txt").write_text("half written")
    return res, labels


def test_files_meet_by_name_text_or_midi(folders):
    result = score_folders(*folders)
    assert result.pieces["recording_id"].tolist() == ["a", "b"]
    assert result.pieces["f1"].tolist() == [1.0, 0.5]
    assert result.summary["onset/f1"] == 0.75
    assert result.only_results == ["extra.res"]
    assert result.only_labels == ["missed.txt"]


def test_json_has_pieces_and_mean(folders, tmp_path):
    value = folder_score_json(score_folders(*folders))
    write_json(tmp_path / "scores.json", value)
    again = json.loads((tmp_path / "scores.json").read_text())
    assert [row["recording_id"] for row in again["pieces"]] == ["a", "b"]
    assert again["pieces"][1]["precision"] == 0.5
    assert again["mean"]["f1"] == 0.75
    assert again["mean"]["f1_low"] <= 0.75 <= again["mean"]["f1_high"]
    assert again["settings"]["onset_tolerance_s"] == 0.05
    assert again["only_labels"] == ["missed.txt"]
    assert "mean_with_offsets" not in again


def test_what_is_not_known_is_null(tmp_path):
    write_res(tmp_path / "res" / "a.res", Notes.empty())
    write_res(tmp_path / "labels" / "a.txt", TRUTH)
    value = folder_score_json(score_folders(tmp_path / "res", tmp_path / "labels"))
    assert value["pieces"][0]["median_deviation_ms"] is None
    assert value["mean"]["f1"] == 0.0
    assert value["mean"]["f1_low"] is None


def test_offsets_are_scored_on_demand(folders):
    value = folder_score_json(score_folders(*folders, with_offsets=True, onset_tolerance_s=0.005))
    assert value["pieces"][0]["f1_with_offsets"] == 1.0
    # 10 ms late is too late for 5 ms, and the other match ends 0.3 s early.
    assert value["pieces"][1]["f1"] == 0.25
    assert value["mean_with_offsets"]["f1"] == 0.5


def test_worker_processes_give_the_same(folders):
    assert score_folders(*folders, workers=2).summary == score_folders(*folders).summary


def test_nothing_in_common_is_an_error(tmp_path):
    write_res(tmp_path / "res" / "a.res", TRUTH)
    write_res(tmp_path / "labels" / "b.txt", TRUTH)
    with pytest.raises(UserError, match="no result"):
        score_folders(tmp_path / "res", tmp_path / "labels")


def test_a_missing_folder_is_named(folders, tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such folder"):
        score_folders(folders[0], tmp_path / "nowhere")


def test_two_files_of_one_name_are_ambiguous(folders):
    write_res(folders[0] / "a.tsv", TRUTH)
    write_res(folders[0] / "a.txt", TRUTH)
    result = score_folders(*folders)
    assert "only one can count" in str(result.failures["a"])
    assert result.pieces["recording_id"].tolist() == ["b"]


def test_of_a_text_and_a_midi_side_by_side_the_text_counts(tmp_path):
    write_res(tmp_path / "res" / "a.res", TRUTH)
    write_midi(tmp_path / "res" / "a.mid", Notes.empty())
    write_res(tmp_path / "labels" / "a.txt", TRUTH)
    assert score_folders(tmp_path / "res", tmp_path / "labels").summary["onset/f1"] == 1.0


@pytest.mark.parametrize("workers", [1, 2])
def test_broken_files_are_named_and_do_not_stop_the_others(folders, workers):
    (folders[0] / "a.res").write_text("0.5\tsoon\t60\n")
    (folders[0] / "missed.res").write_text("what?\n")
    result = score_folders(*folders, workers=workers)
    assert result.pieces["recording_id"].tolist() == ["b"]
    assert result.summary["onset/f1"] == 0.5
    assert list(result.failures) == ["a", "missed"]
    assert folder_score_json(result)["failed"][0] == {
        "recording_id": "a",
        "file": f"{folders[0] / 'a.res'}, line 1",
        "reason": "'soon' is not a number",
        "remedy": "Correct that line, or leave the file out",
    }


def test_where_no_pair_can_be_scored_there_is_no_mean(folders):
    for name in "ab":
        (folders[0] / f"{name}.res").write_text("what?\n")
    result = score_folders(*folders)
    assert (result.pieces, result.summary, result.n_scored) == (None, {}, 0)
    value = folder_score_json(result)
    assert (value["pieces"], value["mean"], len(value["failed"])) == ([], {}, 2)
