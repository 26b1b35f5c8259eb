"""`amt` on a finished run, as a person uses it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from amt_pipeline.commands import app

OUT = "07_model_output/transcription"


def amt(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="session")
def held_out_piece(whole_run: Path) -> tuple[str, Path]:
    """Id and audio file of a piece of the test split."""
    manifest = pd.read_parquet(whole_run / "03_primary/maestro/manifest.parquet")
    row = manifest[manifest["split"] == "test"].iloc[0]
    return row["recording_id"], Path(row["audio_path"])


def test_transcribe_gives_the_notes_of_the_pipeline(
    whole_run: Path, held_out_piece: tuple[str, Path], tmp_path: Path
) -> None:
    name, audio = held_out_piece
    code, out, _ = amt("transcribe", audio, "-o", tmp_path, "--models", whole_run / "06_models")
    assert code == 0
    assert f"{name}.mid" in out
    expected = (whole_run / OUT / f"{name}.res").read_text()
    assert (tmp_path / f"{name}.res").read_text() == expected


def test_transcribe_takes_folders_and_names_what_it_cannot_read(
    whole_run: Path,
    held_out_piece: tuple[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, audio = held_out_piece
    folder = tmp_path / "audio"
    folder.mkdir()
    shutil.copy(audio, folder)
    (folder / "broken.wav").write_text("no audio")
    monkeypatch.setenv("AMT_MODELS", str(whole_run / "06_models"))
    code, out, err = amt("transcribe", folder, "-o", tmp_path / "notes", "--workers", 1)
    assert code == 1
    assert f"{name}.mid" in out
    assert "1 of 2 not transcribed" in err
    assert not (tmp_path / "notes" / "broken.res").exists()


def test_models_are_found_beside_and_above(
    whole_run: Path,
    held_out_piece: tuple[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AMT_MODELS", raising=False)
    (tmp_path / "data").symlink_to(whole_run)
    below = tmp_path / "deep" / "down"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert amt("transcribe", held_out_piece[1], "-o", tmp_path / "notes")[0] == 0
    monkeypatch.chdir("/")
    code, _, err = amt("transcribe", held_out_piece[1], "-o", tmp_path / "notes")
    assert (code, "no trained model here" in err) == (1, True)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--models", "nowhere", "nowhere: no such models folder"),
        ("--onset-threshold", "1.5", "--onset-threshold: Input should be less than 1"),
        ("--device", "tpu", "--device: String should match"),
    ],
)
def test_wrong_options_are_named(
    whole_run: Path, tmp_path: Path, option: str, value: str, message: str
) -> None:
    models = ["--models", whole_run / "06_models"] if option != "--models" else []
    code, _, err = amt("transcribe", "a.wav", "-o", tmp_path, *models, option, value)
    assert (code, message in err) == (1, True)


def test_score_agrees_with_the_pipeline(whole_run: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    manifest = pd.read_parquet(whole_run / "03_primary/maestro/manifest.parquet")
    for path in manifest.loc[manifest["split"] == "test", "midi_path"]:
        shutil.copy(path, labels)
    (labels / "unmatched.txt").write_text("0.5\t1.0\t60\n")
    file = tmp_path / "scores.json"
    code, out, err = amt("score", "-r", whole_run / OUT, "-l", labels, "--json", file)
    assert code == 0
    assert "unmatched.txt" in err
    scores = json.loads(file.read_text())
    summary = json.loads((whole_run / "08_reporting/transcription/summary.json").read_text())
    assert scores["mean"]["f1"] == pytest.approx(summary["onset/f1"], abs=1e-12)
    assert {"recording_id", "precision", "recall", "f1"} <= scores["pieces"][0].keys()
    assert f"{summary['onset/f1']:.4f}" in out


def test_score_names_every_file_it_cannot_read(tmp_path: Path) -> None:
    good, bad = "0.5\t1.0\t60\n", "0.5\tsoon\t60\n"
    for name, result, label in (("a", good, good), ("b", bad, good), ("c", good, bad)):
        for folder, text in (("notes", result), ("labels", label)):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{name}.txt").write_text(text)
    file = tmp_path / "scores.json"
    score = ("score", "-r", tmp_path / "notes", "-l", tmp_path / "labels", "--json", file)
    code, out, err = amt(*score)
    assert code == 1
    assert out.splitlines()[-1] == "   1.0000    1.0000    1.0000  mean of 1 of 3"
    mend = "line 1: 'soon' is not a number. Correct that line, or leave the file out"
    assert [line for line in err.splitlines() if line.startswith("Error: ")] == [
        f"Error: {tmp_path / 'notes' / 'b.txt'}, {mend}",
        f"Error: {tmp_path / 'labels' / 'c.txt'}, {mend}",
    ]
    assert err.splitlines()[-1] == "2 of 3 pairs not scored, see above"
    assert [row["recording_id"] for row in json.loads(file.read_text())["failed"]] == ["b", "c"]
    (tmp_path / "notes" / "a.txt").write_text(bad)
    code, out, err = amt(*score)
    assert (code, out, "3 of 3 pairs not scored" in err) == (1, "", True)


def test_rank_writes_table_and_picture(whole_run: Path, tmp_path: Path) -> None:
    events = whole_run / "06_models/onset/events"
    code, out, _ = amt("rank", events, "--tag", "train/f1", "-o", tmp_path)
    assert code == 0
    table = pd.read_csv(tmp_path / "ranking.csv")
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    assert str(table["step"][0]) in out
    assert (tmp_path / "ranking.png").read_bytes().startswith(b"\x89PNG")
    loss = amt("rank", events, "--tag", "train/loss", "--lower-is-better", "-o", tmp_path)
    assert loss[0] == 0
    values = pd.read_csv(tmp_path / "ranking.csv").iloc[:, 2]
    assert values.is_monotonic_increasing


def test_rank_lists_the_tags_when_there_are_several(whole_run: Path) -> None:
    code, _, err = amt("rank", whole_run / "06_models/onset/events")
    assert (code, "train/loss" in err) == (1, True)


def test_demo_makes_a_corpus_and_says_how_to_use_it(tmp_path: Path) -> None:
    code, out, _ = amt("demo", tmp_path / "demo", "--minutes", 0.6, "--pieces", 6)
    assert code == 0
    assert f"maestro.root={tmp_path / 'demo'}" in out
    assert len(pd.read_csv(tmp_path / "demo" / "maestro-v3.0.0.csv")) == 6


def test_results_of_a_former_test_split_go(whole_run: Path, tmp_path: Path) -> None:
    from amt_pipeline.transcription.run import remove_others

    target = tmp_path / "notes"
    shutil.copytree(whole_run / OUT, target)
    (target / "mine.res").write_text("not one of ours\n")
    names = sorted(path.stem for path in (target / "items").glob("*.json"))
    assert remove_others(target, names[1:]) == names[:1]
    assert {path.stem for path in target.glob("*.res")} == {*names[1:], "mine"}
