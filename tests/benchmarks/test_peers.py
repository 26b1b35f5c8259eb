"""The comparison with published systems, as far as it goes without them."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import peer_runs
import peers
import pytest
import soundfile
from peer_runs import OURS, PEERS, Piece, Run, System
from transcribers import write_piece, write_transcriber

from amt_pipeline.core.errors import CorpusError, UserError
from amt_pipeline.core.files import write_json
from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.transcription.model_folder import ModelFolder
from amt_pipeline.transcription.note_files import read_notes, write_midi
from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.run import transcribe_files
from amt_pipeline.transcription.transcribe import TranscriptionConfig


def first_notes(count: int) -> Notes:
    """The first of four notes."""
    onset_s = np.array([0.1, 0.4, 0.7, 1.0])[:count]
    return Notes.from_arrays(onset_s, onset_s + 0.2, np.array([60, 62, 64, 65])[:count])


NOTES = first_notes(4)
COPYIST = """
import shutil, sys
sys.path.insert(0, {scripts!r})
from timing import serve

def load(threads, model):
    print("loading")
    if model is not None:
        raise SystemExit("this system has no use for " + model.name)
    return lambda audio, midi: shutil.copy({midi!r}, midi)

serve(load, ())
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus like MAESTRO: five test pieces of 1 to 5 s, one for training."""
    folder = tmp_path / "corpus"
    (folder / "2004").mkdir(parents=True)
    rows = ["canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration"]
    for number in range(6):
        split, length_s = ("test", number + 1) if number < 5 else ("train", 1)
        soundfile.write(folder / f"2004/p{number}.wav", np.zeros((8000 * length_s, 2)), 8000)
        write_midi(folder / f"2004/p{number}.midi", NOTES)
        files = f"2004/p{number}.midi,2004/p{number}.wav"
        rows.append(f"Nobody,Piece {number},{split},2004,{files},{length_s}")
    (folder / "maestro-v3.0.0.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def copyist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    """A system in an environment of its own that writes the same notes for every file."""
    scripts, python = tmp_path / "scripts", tmp_path / "envs" / "copyist" / "bin" / "python"
    scripts.mkdir()
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    write_midi(tmp_path / "all.mid", first_notes(3))
    text = COPYIST.format(scripts=str(peer_runs.SCRIPTS), midi=str(tmp_path / "all.mid"))
    (scripts / "copyist_notes.py").write_text(text)
    monkeypatch.setattr(peer_runs, "SCRIPTS", scripts)
    monkeypatch.setattr(peer_runs, "ENVIRONMENTS", tmp_path / "envs")
    return System("copyist", "the copyist", 1)


def runs_of(folder: Path, seconds: Sequence[float]) -> dict[int, list[Run]]:
    return {n: [Run(folder, s / n, s, 1.0, 100.0, {"it": "1"}) for s in seconds] for n in (1, 2)}


@pytest.mark.parametrize(
    ("limit", "expected"), [(9, "p0 p1 p2 p3 p4"), (2, "p0 p2"), (3, "p0 p1 p3"), (1, "p0")]
)
def test_test_pieces_are_chosen_evenly(corpus: Path, limit: int, expected: str) -> None:
    chosen = peer_runs.choose_pieces(corpus, limit)
    assert [piece.name for piece in chosen] == expected.split()
    assert [piece.duration_s for piece in chosen] == [int(n[1]) + 1 for n in expected.split()]
    assert all(piece.midi == corpus / f"2004/{piece.name}.midi" for piece in chosen)


def test_corpus_without_test_split_is_named(corpus: Path) -> None:
    index = corpus / "maestro-v3.0.0.csv"
    index.write_text(index.read_text().replace(",test,", ",validation,"))
    with pytest.raises(CorpusError, match="no recording in its test split"):
        peer_runs.choose_pieces(corpus, 3)


def test_systems_see_audio_under_the_name_of_its_piece(corpus: Path, tmp_path: Path) -> None:
    piece = Piece("plain", corpus / "2004/p3.wav", corpus / "2004/p3.midi", 4.0)
    (linked,) = peer_runs.link_pieces([piece], tmp_path / "links")
    assert linked.audio.name == "plain.wav"
    assert linked.audio.read_bytes() == piece.audio.read_bytes()
    assert (linked.name, linked.midi, linked.duration_s) == ("plain", piece.midi, 4.0)


def test_missing_environment_is_named_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peer_runs, "ENVIRONMENTS", tmp_path)
    assert not any(peer_runs.is_installed(peer) for peer in PEERS)
    said = capsys.readouterr().out
    assert "basic-pitch: not installed: benchmarks/peers/setup.sh basic_pitch" in said
    assert said.count("not installed") == len(PEERS)


def test_systems_take_turns_and_are_scored(
    corpus: Path, tmp_path: Path, copyist: System, capfd: pytest.CaptureFixture[str]
) -> None:
    pieces = peer_runs.choose_pieces(corpus, 2)
    assert peer_runs.is_installed(copyist)
    runs = peer_runs.run_all([copyist], pieces, tmp_path, {}, most_turns=2)
    assert {threads: len(found) for threads, found in runs[copyist].items()} == {1: 1, 2: 1}
    run = runs[copyist][2][0]
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "p0.mid",
        "p2.mid",
        "seconds.json",
    ]
    assert run.wall_s > 0
    # Three of four notes were found, none made up.
    assert peers.mean_f1(run.folder, pieces) == pytest.approx(6 / 7)
    assert capfd.readouterr().out.count("the copyist, threads") == 2


def test_failing_system_is_named_with_its_last_words(
    corpus: Path, tmp_path: Path, copyist: System, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = peer_runs.choose_pieces(corpus, 1)
    weights: dict[str, Path | None] = {"copyist": tmp_path / "weights.pth"}
    # The others' figures are worth having.
    assert peer_runs.run_all([copyist], pieces, tmp_path, weights, most_turns=1) == {}
    assert re.search(
        r"the copyist: left out: .*copyist_notes\.py: ended with 1: .* weights\.pth",
        capsys.readouterr().err,
    )


def test_failure_of_ours_ends_the_comparison(
    corpus: Path, tmp_path: Path, copyist: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_runs, "OURS", copyist)
    pieces = peer_runs.choose_pieces(corpus, 1)
    weights: dict[str, Path | None] = {"copyist": tmp_path / "weights.pth"}
    with pytest.raises(UserError, match="this system has no use for"):
        peer_runs.run_all([copyist], pieces, tmp_path, weights, most_turns=1)


def test_answer_is_read_piece_by_piece(tmp_path: Path) -> None:
    pieces = [Piece(name, Path(), Path(), 1.0) for name in ("a", "b")]
    files = {name: {"wall_s": 1.5, "cpu_s": 2.0} for name in ("a", "b", "c")}
    answer = {"load_s": 3, "peak_mb": None, "versions": {"it": "1"}, "files": files}
    write_json(tmp_path / "seconds.json", answer)
    run = peer_runs.read_run(tmp_path, pieces)
    assert run == Run(tmp_path, 3.0, 4.0, 3.0, None, {"it": "1"})


@pytest.mark.parametrize("text", [None, "{", "[]", '{"files": {"a": {"wall_s": 1}}}'])
def test_answer_that_is_none_is_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "seconds.json").write_text(text)
    with pytest.raises(UserError, match=r"seconds\.json: is no answer about these pieces"):
        peer_runs.read_run(tmp_path, [Piece("a", Path(), Path(), 1.0)])


def test_notes_of_some_pieces_only_are_not_scored(corpus: Path, tmp_path: Path) -> None:
    pieces = peer_runs.choose_pieces(corpus, 2)
    assert peers.mean_f1(tmp_path, pieces) is None
    write_midi(tmp_path / "p0.mid", NOTES)
    with pytest.raises(UserError, match=r"p2\.mid: was not written, though others were"):
        peers.mean_f1(tmp_path, pieces)
    write_midi(tmp_path / "p2.mid", NOTES)
    assert peers.mean_f1(tmp_path, pieces) == 1.0


def test_report_compares_every_peer_with_ours(corpus: Path, tmp_path: Path) -> None:
    pieces = peer_runs.choose_pieces(corpus, 2)  # 4 s
    for name, notes in (("ours", NOTES), ("basic_pitch", first_notes(2)), ("kong", None)):
        (tmp_path / name).mkdir()
        for piece in pieces if notes is not None else ():
            write_midi(tmp_path / name / f"{piece.name}.mid", notes)
    seconds = {OURS: [1.0, 2.0, 4.0], PEERS[0]: [3.0, 3.0, 4.0], PEERS[2]: [8.0]}
    runs = {system: runs_of(tmp_path / system.name, s) for system, s in seconds.items()}
    results = peers.report(runs, pieces)
    claims = [r for r in results if isinstance(r, peers.Claim)]
    assert [(c.theirs, c.clock, c.ratio, c.target) for c in claims] == [
        ("basic-pitch", "cpu", 1.5, 1.0),
        ("basic-pitch", "wall", 1.5, 1.0),
        ("Kong et al.", "cpu", 4.0, None),
        ("Kong et al.", "wall", 4.0, None),
    ]
    assert (claims[0].ours_rate, claims[1].ours_rate) == (2.0, 4.0)
    values = {r.name: r.value for r in results if isinstance(r, peers.Figure)}
    assert values["ours, note F1"] == 1.0
    assert values["note F1, ours above basic-pitch"] == pytest.approx(1 / 3)
    assert values["basic-pitch, CPU, 1 thread"] == 0.75
    assert "Kong et al., note F1" not in values


def test_our_script_gives_the_notes_of_amt_transcribe(tmp_path: Path) -> None:
    audio, models = tmp_path / "piece.flac", tmp_path / "models"
    write_piece(audio, 1.5)
    write_transcriber(models, "cpu", {})
    thresholds = {"onset": 0.18, "pitch": 0.01}  # low enough for untrained networks
    joint = {"model": ModelFolder.open(models).key, **thresholds}
    write_json(models / "transcription/joint.json", joint)
    piece = Piece("piece", audio, tmp_path / "piece.midi", 1.5)
    run = peer_runs.run_once(OURS, [piece], tmp_path / "run", audio, 1, models)
    transcribe_files(
        [audio],
        models_folder=models,
        out_folder=tmp_path / "out",
        thresholds=thresholds,
        config=TranscriptionConfig(save_probabilities=False),
        parallel=ParallelConfig(workers=1),
    )
    assert len(read_notes(run.folder / "piece.mid")) > 0
    assert (run.folder / "piece.mid").read_bytes() == (tmp_path / "out/piece.mid").read_bytes()


def test_environments_are_pinned_with_our_torch() -> None:
    constraints = (peer_runs.FOLDER.parent / "constraints.txt").read_text()
    ours = re.search(r"^torch==\S+", constraints, re.MULTILINE)
    assert ours is not None
    for peer in PEERS:
        lines = (peer_runs.SCRIPTS / f"{peer.name}.txt").read_text().splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins)
        assert [line for line in pins if line.startswith("torch==")] in ([], [ours.group()])
        assert (peer_runs.SCRIPTS / f"{peer.name}_notes.py").is_file()
