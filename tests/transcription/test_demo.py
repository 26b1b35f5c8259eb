from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import mido
import numpy as np
import pytest

from amt_pipeline.audio.io import read_audio
from amt_pipeline.core.errors import ConfigError, CorpusError, StorageError
from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.transcription import demo
from amt_pipeline.transcription.demo import METADATA_NAME, make_demo_corpus
from amt_pipeline.transcription.demo_harmony import harmony, nearest
from amt_pipeline.transcription.demo_performance import Performance, perform
from amt_pipeline.transcription.demo_textures import TEXTURES
from amt_pipeline.transcription.metadata import COLUMNS

SMALL = {"seed": 3, "minutes": 0.75, "n_pieces": 6}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / METADATA_NAME).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def played(path: Path) -> tuple[list[tuple[float, float, int]], list[tuple[float, int]]]:
    """Return (onset, key release, pitch) and (time, CC64 value), in seconds."""
    now, down, notes, pedal = 0.0, {}, [], []
    for message in mido.MidiFile(path):
        now += message.time
        if message.type == "note_on":
            assert message.note not in down
            down[message.note] = now
        elif message.type == "note_off":
            notes.append((down.pop(message.note), now, message.note))
        elif message.type == "control_change":
            assert message.control == 64
            pedal.append((now, message.value))
    assert not down
    return sorted(notes), pedal


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo_corpus(tmp_path_factory.mktemp("demo") / "corpus", workers=1, **SMALL)


def test_layout_is_that_of_maestro(corpus: Path) -> None:
    rows = table(corpus)
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 6
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    assert len({row["canonical_title"] for row in rows}) == 6
    for row in rows:
        assert row["midi_filename"].startswith(f"{row['year']}/")
        audio = read_audio(corpus / row["audio_filename"])
        assert (audio.source_rate, audio.source_channels, audio.warnings) == (44100, 2, ())
        assert len(audio.samples) / 44100 == pytest.approx(float(row["duration"]), abs=1e-9)
        assert (corpus / row["midi_filename"]).is_file()
    total_s = sum(float(row["duration"]) for row in rows)
    assert 0.6 * 45 < total_s < 1.6 * 45
    listed = {row[name] for row in rows for name in ("midi_filename", "audio_filename")}
    assert set(digests(corpus)) == listed | {METADATA_NAME, "demo.json"}


def test_keys_are_playable_and_audible(corpus: Path) -> None:
    for row in table(corpus):
        notes, pedal = played(corpus / row["midi_filename"])
        assert 2 < len(notes) / float(row["duration"]) < 16
        assert all(21 <= pitch <= 108 for _, _, pitch in notes)
        assert min(release - onset for onset, release, _ in notes) >= 0.04
        for key in {pitch for _, _, pitch in notes}:
            onsets = [onset for onset, _, pitch in notes if pitch == key]
            assert (np.diff(onsets) >= 0.09).all()
        assert not pedal or pedal[-1][1] == 0
        samples = read_audio(corpus / row["audio_filename"]).samples
        assert 10 ** (-9.5 / 20) < np.abs(samples).max() < 1.0
        first = notes[0][0]
        quiet = samples[: int((first - 0.02) * 44100)]
        floor = np.sqrt((quiet.astype(np.float64) ** 2).mean())
        assert 20 * np.log10(floor) == pytest.approx(-70, abs=1)
        struck = samples[int(first * 44100) : int((first + 0.05) * 44100)]
        assert np.sqrt((struck**2).mean()) > 10 * floor


def test_same_seed_gives_same_bytes_for_any_number_of_workers(corpus: Path, tmp_path: Path) -> None:
    again = make_demo_corpus(tmp_path / "again", workers=2, **SMALL)
    assert digests(again) == digests(corpus)


def test_complete_corpus_is_reused_and_missing_pieces_are_redone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"minutes": 0.25, "n_pieces": 3, "workers": 1}
    folder = make_demo_corpus(tmp_path / "corpus", **options)
    before = digests(folder)
    made = []
    make_piece = demo.make_piece
    monkeypatch.setattr(
        demo, "make_piece", lambda piece: (made.append(piece.index), make_piece(piece))
    )
    make_demo_corpus(folder, **options)
    assert made == []
    # As after a kill: the table is not yet there, and one piece has only its MIDI file.
    (folder / METADATA_NAME).unlink()
    next(folder.glob("*/demo-001-*.flac")).unlink()
    make_demo_corpus(folder, **options)
    assert made == [1]
    assert digests(folder) == before
    make_demo_corpus(folder, seed=1, **options)
    assert made == [1, 0, 1, 2]
    other = digests(folder)
    assert set(other) == set(before)
    assert not set(other.values()) & set(before.values()) - {before[METADATA_NAME]}


def test_killed_run_leaves_no_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_piece = demo.make_piece

    def fail_at_two(piece: demo.Piece) -> None:
        if piece.index == 2:
            raise StorageError(piece.audio_path, "the disk is full")
        make_piece(piece)

    monkeypatch.setattr(demo, "make_piece", fail_at_two)
    with pytest.raises(StorageError):
        make_demo_corpus(tmp_path, minutes=0.25, n_pieces=3, workers=1)
    assert not (tmp_path / METADATA_NAME).exists()
    assert len(list(tmp_path.glob("*/*.flac"))) == 2


def test_failed_piece_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(piece: demo.Piece) -> None:
        raise CorpusError(piece.folder, "no piano")

    monkeypatch.setattr(demo, "make_piece", fail)
    with pytest.raises(CorpusError, match="no piano"):
        make_demo_corpus(tmp_path, minutes=0.25, n_pieces=3, workers=1)


def test_real_corpus_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / METADATA_NAME).write_text("canonical_composer\n")
    with pytest.raises(CorpusError, match="not a demo"):
        make_demo_corpus(tmp_path, **SMALL)
    assert digests(tmp_path).keys() == {METADATA_NAME}


def test_files_that_cannot_be_removed_are_named(tmp_path: Path) -> None:
    folder = make_demo_corpus(tmp_path, minutes=0.25, n_pieces=3, workers=1)
    (folder / METADATA_NAME).unlink()
    (folder / METADATA_NAME).mkdir()
    with pytest.raises(StorageError, match=METADATA_NAME):
        make_demo_corpus(tmp_path, minutes=0.25, n_pieces=3, seed=1, workers=1)


@pytest.mark.parametrize(
    ("n_pieces", "minutes"), [(2, 1.0), (6, 0.1), (6, -1.0), (6, float("nan")), (6, float("inf"))]
)
def test_too_little_music_is_refused(tmp_path: Path, n_pieces: int, minutes: float) -> None:
    with pytest.raises(ConfigError, match="n_pieces"):
        make_demo_corpus(tmp_path, n_pieces=n_pieces, minutes=minutes)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("n_pieces", [18, 36, 60])
def test_every_split_has_every_texture_and_shares_no_piece(tmp_path: Path, n_pieces: int) -> None:
    pieces = demo._plan(tmp_path, 0, 25.0, n_pieces)
    assert len({p.title for p in pieces}) == len({p.name for p in pieces}) == n_pieces
    assert sum(p.duration_s for p in pieces) == pytest.approx(1500)
    trained = {p.program for p in pieces if p.split == "train"}
    for split in ("train", "validation", "test"):
        chosen = [p for p in pieces if p.split == split]
        assert {p.index % len(TEXTURES) for p in chosen} == set(range(len(TEXTURES)))
        assert trained & {p.program for p in chosen}
    if n_pieces == 36:
        assert len({p.key for p in pieces}) >= 20
        assert trained == {0, 1, 2, 3}


@pytest.mark.parametrize("texture", TEXTURES, ids=lambda t: t.name)
@pytest.mark.parametrize("minor", [False, True])
def test_textures_fit_their_harmony(texture: object, minor: bool) -> None:
    for seed in range(8):
        rng = derive_rng(seed, texture.name)
        meter = texture.meters[seed % len(texture.meters)]
        chords = harmony(rng, seed, minor, 2 + 3 * seed, meter)
        assert sum(c.beats for c in chords) == meter * (2 + 3 * seed)
        assert chords[-1].tones[0] == seed % 12
        notes = texture.write(rng, chords)
        assert {"melody", "inner"} <= {n.voice for n in notes}
        assert all(n.length > 0 and 0 <= n.beat < meter * (2 + 3 * seed) for n in notes)
        inside = [
            n.pitch % 12 in chord.scale
            for n in notes
            for chord in chords
            if chord.beat <= n.beat < chord.beat + chord.beats
        ]
        assert np.mean(inside) > (0.6 if texture.name == "scales" else 0.99)


def test_pedal_holds_tones_until_it_rises_or_the_key_is_struck_again() -> None:
    performance = Performance(
        onset=np.array([0, 10, 200, 300, 900]),
        release=np.array([50, 20, 250, 310, 950]),
        pitch=np.array([60, 64, 60, 67, 72]),
        velocity=np.full(5, 80),
        pedal=np.array([[30, 100], [260, 70], [280, 20], [305, 64], [940, 127]]),
        microseconds_per_beat=500_000,
    )
    # Held to the next strike; off before the pedal; held to pedal-up; the pedal never rises again.
    assert performance.sounding_end().tolist() == [200, 20, 280, 950, 950]
    assert performance.seconds(np.array([960]))[0] == pytest.approx(0.5)


def test_pieces_without_pedal_sound_as_long_as_their_keys() -> None:
    rng = derive_rng(0, "dry")
    chords = harmony(rng, 0, False, 4, 4)
    notes = TEXTURES[2].write(rng, chords)
    dry = perform(rng, notes, chords, bpm=100, phrase_beats=16, pedalled=False)
    assert len(dry.pedal) == 0
    assert np.array_equal(dry.sounding_end(), dry.release)
    wet = perform(rng, notes, chords, bpm=100, phrase_beats=16, pedalled=True)
    assert (np.diff(wet.pedal[:, 0]) >= 0).all()
    assert (wet.sounding_end() - wet.release).mean() > 100


def test_expression_moves_times_and_voices_loudness() -> None:
    rng = derive_rng(0, "expression")
    chords = harmony(rng, 0, False, 8, 4)
    notes = TEXTURES[5].write(rng, chords)
    performance = perform(rng, notes, chords, bpm=72, phrase_beats=16, pedalled=True)
    top = performance.pitch >= 70
    assert performance.velocity[top].mean() > performance.velocity[~top].mean() + 10
    assert len(set(performance.velocity.tolist())) > 15
    assert (np.diff(performance.onset) >= 0).all()
    # No grid: the places of onsets within a sixteenth of the beat are spread out.
    assert np.std(performance.onset % 240) > 40


def test_nearest_keeps_to_the_range() -> None:
    assert nearest(60, (0,), 61, 73) == 72
    assert nearest(60, (2, 10), 50, 70) == 58
