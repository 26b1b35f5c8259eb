"""Readers of what a corpus brings: MIDI, note text, index files, audio, a soundfont."""

from __future__ import annotations

import io
import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from mutations import BINARY, TEXT
from reader_kit import Reader, check_notes, put, require, some_notes

RATE_HZ = 8000


def midi_seeds() -> list[bytes]:
    """One track as we write it, and several tracks with everything that the reader looks at."""
    import mido

    from amt_pipeline.transcription.note_files import write_midi

    path = Path("seed.mid").absolute()
    write_midi(path, some_notes())
    seeds = [path.read_bytes()]
    keys, pedals = mido.MidiTrack(), mido.MidiTrack()
    for kind, note, velocity, channel, time in [
        ("note_on", 60, 80, 0, 0), ("note_on", 60, 90, 0, 10), ("note_on", 20, 90, 0, 0),
        ("note_off", 60, 0, 0, 40), ("note_on", 36, 100, 9, 5), ("note_on", 60, 0, 0, 10),
        ("note_on", 72, 64, 1, 30), ("note_on", 108, 64, 1, 30), ("note_off", 108, 64, 1, 0),
    ]:  # fmt: skip
        keys.append(mido.Message(kind, note=note, velocity=velocity, channel=channel, time=time))
    for value, time in ((127, 5), (0, 60), (64, 20), (63, 10)):
        pedals.append(mido.Message("control_change", control=64, value=value, time=time))
    pedals.insert(2, mido.MetaMessage("set_tempo", tempo=300_000, time=3))
    pedals.insert(0, mido.MetaMessage("track_name", name="pedal", time=0))
    pedals.insert(1, mido.Message("sysex", data=(1, 2, 3), time=1))
    pedals.insert(1, mido.MetaMessage("key_signature", key="C#m", time=1))
    for division in (96, 0xE728 - 0x10000):
        target = io.BytesIO()
        mido.MidiFile(type=1, ticks_per_beat=480, tracks=[pedals, keys]).save(file=target)
        data = target.getvalue()
        seeds.append(data[:12] + struct.pack(">h", division) + data[14:])
    return seeds


def read_midi(data: bytes) -> None:
    from amt_pipeline.transcription.midi_reading import read_midi_notes

    path = put("given.mid", data)
    for pedal in ("sustain", "ignore"):
        reading = read_midi_notes(path, pedal=pedal)  # type: ignore[arg-type]
        check_notes(reading.notes)
        require(((reading.notes.pitch >= 21) & (reading.notes.pitch <= 108)).all(), "on the piano")
        require(all("\n" not in text for text in reading.warnings), "warnings of one line")


def note_text_seeds() -> list[bytes]:
    return [
        b"0.1\t0.5\t60\n0.5\t1.25\t64\n1.0\t1.5\t108\n",
        b"OnsetTime\tOffsetTime\tMidiPitch\n0.1 0.5 60 127 # loud\n\n1e-1 1.0 61 0\n",
    ]


def read_note_text(data: bytes) -> None:
    """Read a result, and score a folder with it against a sound one in both roles."""
    from amt_pipeline.transcription import note_files
    from amt_pipeline.transcription.folder_scoring import folder_score_json, score_folders

    path = put("given/a.res", data)
    check_notes(note_files.read_note_text(path))
    put("sound/a.txt", note_text_seeds()[0])
    for one, two in (("given", "sound"), ("sound", "given"), ("given", "given")):
        score = score_folders(one, two, with_offsets=True)
        require(not score.failures, "what can be read can be scored")
        numbers = score.pieces[["precision", "recall", "f1"]].to_numpy(float)
        require(((numbers >= 0) & (numbers <= 1)).all(), "scores within 0 and 1")
        json.dumps(folder_score_json(score), allow_nan=False)


ROWS = [
    ["Frédéric Chopin", "Ballade, No. 1", "train", "2004", "2004/a.midi", "2004/a.wav", "10.5"],
    ["Bach", "Prelude", "validation", "2006", "2006/b.midi", "2006/b.wav", "7.25"],
    ["", "", "test", "", "2006/c.mid", "2006/c.wav", "1e2"],
]


def csv_seeds() -> list[bytes]:
    from amt_pipeline.transcription.metadata import COLUMNS

    lines = [
        ",".join(f'"{cell}"' if "," in cell else cell for cell in row) for row in [COLUMNS, *ROWS]
    ]
    return ["\n".join(lines).encode() + b"\n", "\r\n".join(lines).encode("utf-8-sig")]


def json_seeds() -> list[bytes]:
    from amt_pipeline.transcription.metadata import COLUMNS

    records: list[dict[str, Any]] = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
    for record in records:
        record["duration"] = float(record["duration"])
    columns = {name: {str(i): row[name] for i, row in enumerate(records)} for name in COLUMNS}
    return [json.dumps(value, indent=1).encode() for value in (records, columns)]


def read_index(suffix: str, data: bytes) -> None:
    from amt_pipeline.core.errors import UserError
    from amt_pipeline.store.manifest import SPLITS, fingerprint
    from amt_pipeline.transcription.corpus import read_corpus
    from amt_pipeline.transcription.metadata import COLUMNS, read_maestro_metadata

    _make_corpus(suffix)
    path = put(f"corpus-{suffix}/maestro-v1.0.0.{suffix}", data)
    try:
        read_corpus(path.parent, missing="refuse")
    except UserError as error:
        str(error).encode()
    table = read_maestro_metadata(path)
    require(list(table.columns) == list(COLUMNS) and len(table), "columns and rows")
    require(np.isfinite(table["duration"]).all() and (table["duration"] > 0).all(), "durations")
    require(table["split"].isin(SPLITS).all(), "splits")
    require(str(table["year"].dtype) == "Int64", "years")
    for name in (*table["midi_filename"], *table["audio_filename"]):
        require(not Path(name).is_absolute() and ".." not in Path(name).parts, "inside the corpus")
    reading = read_corpus(path.parent, missing="quarantine", allow_shared_pieces=True)
    require(reading.manifest["recording_id"].is_unique, "unique ids")
    require(all(Path(p).is_file() for p in reading.manifest["audio_path"]), "files are there")
    fingerprint(reading.manifest)
    for table in (reading.manifest, reading.quarantine):
        table.to_parquet("stored.parquet", index=False)


@cache
def _make_corpus(suffix: str) -> None:
    for row in ROWS:
        put(f"corpus-{suffix}/{row[4]}", b"")
        put(f"corpus-{suffix}/{row[5]}", b"")


AUDIO_FORMATS = {
    "wav": [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "MS_ADPCM"), ("WAVEX", "PCM_24")],
    "flac": [("FLAC", "PCM_16"), ("FLAC", "PCM_24")],
    "ogg": [("OGG", "VORBIS"), ("OGG", "OPUS")],
    "mp3": [("MP3", "MPEG_LAYER_III")],
    "rare audio": [("AIFF", "PCM_16"), ("W64", "PCM_16"), ("CAF", "ALAC_16"), ("AU", "ULAW"),
                   ("RF64", "PCM_16"), ("SVX", "PCM_16"), ("NIST", "PCM_16"), ("VOC", "PCM_16"),
                   ("MAT5", "PCM_16"), ("PAF", "PCM_16"), ("SDS", "PCM_16"), ("XI", "DPCM_16"),
                   ("MPC2K", "PCM_16"), ("IRCAM", "PCM_16"), ("HTK", "PCM_16"), ("AVR", "PCM_16"),
                   ("PVF", "PCM_16"), ("WVE", "ALAW")],
}  # fmt: skip


def audio_seeds(kind: str) -> list[bytes]:
    """A twentieth of a second in each encoding, mono or stereo as it takes."""
    rng, seeds = np.random.default_rng(0), []
    for number, (container, encoding) in enumerate(AUDIO_FORMATS[kind]):
        channels = 1 + number % 2 if container not in ("SDS", "XI", "WVE", "HTK") else 1
        wave = 0.1 * rng.standard_normal((RATE_HZ // 20, channels)).astype(np.float32)
        target = io.BytesIO()
        try:
            soundfile.write(target, wave, RATE_HZ, format=container, subtype=encoding)
        except (soundfile.LibsndfileError, ValueError):
            continue  # this build of libsndfile does not write it
        seeds.append(target.getvalue())
    if kind == "wav":  # of unknown length, as written to a pipe
        seeds.append(seeds[0][:40] + b"\xff\xff\xff\xff" + seeds[0][44:])
    return [seed for seed in seeds if _opens(seed)]


def _opens(seed: bytes) -> bool:
    from amt_pipeline.audio.io import read_audio
    from amt_pipeline.core.errors import AudioError

    try:
        read_audio(put("seed.audio", seed), sample_rate=RATE_HZ)
    except AudioError:
        return False
    return True


def read_audio(data: bytes) -> None:
    """Read a file as the ingestion does: resampled, block by block."""
    from amt_pipeline.audio.decoding import MAX_DURATION_S
    from amt_pipeline.audio.io import audio_info, stream_audio

    path = put("given.audio", data)
    info = audio_info(path)
    require(info.frames > 0 and info.sample_rate > 0 and info.channels > 0, "a header")
    for rate_hz, channels in ((44100, 2), (RATE_HZ, 1)):
        stream, seen = stream_audio(path, sample_rate=rate_hz, channels=channels), 0
        for block in stream:
            require(block.dtype == np.float32 and block.shape[1] == channels, "a block")
            require(np.isfinite(block).all(), "finite samples")
            seen += len(block)
        require(seen == stream.n_samples, "counted samples")
        require(stream.duration_s <= MAX_DURATION_S + 1, "a length within bounds")


@cache
def _soundfont() -> bytes:
    """A soundfont of one piano with two looped samples, one for each half of the keyboard."""
    wave = (8000 * np.sin(np.arange(60) / 5)).astype("<i2").tobytes()
    sample = struct.pack("<20sIIIIIBbHH", b"tone", 0, 60, 10, 50, RATE_HZ, 60, 3, 0, 1)
    end = struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    tables = {
        b"phdr": struct.pack("<20sHHHIII", b"Piano", 0, 0, 0, 0, 0, 0)
        + struct.pack("<20sHHHIII", b"EOP", 0, 0, 1, 0, 0, 0),
        b"pbag": struct.pack("<HHHH", 0, 0, 1, 0),
        b"pgen": struct.pack("<HhHh", 41, 0, 0, 0),
        b"inst": struct.pack("<20sH20sH", b"Piano", 0, b"EOI", 2),
        b"ibag": struct.pack("<HHHHHH", 0, 0, 3, 0, 6, 0),
        b"igen": struct.pack("<14h", 43, 60 << 8, 54, 1, 53, 0, 43, 127 << 8 | 61, 36, -2000, 53, 0,
                             0, 0),
        b"shdr": sample + sample + end,
    }  # fmt: skip

    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    presets = b"".join(chunk(name, body) for name, body in tables.items())
    lists = chunk(b"LIST", b"sdta" + chunk(b"smpl", wave)) + chunk(b"LIST", b"pdta" + presets)
    return chunk(b"RIFF", b"sfbk" + lists)


def read_soundfont(data: bytes) -> None:
    from amt_pipeline.audio.soundfont import parse_piano

    zones = parse_piano(data, 0, where="given.sf2")
    require(len(zones) > 0, "zones")
    for zone in zones[:20]:
        tone = zone.held_tone(60, 0.1, RATE_HZ)
        require(tone.dtype == np.float32 and tone.shape == (RATE_HZ // 10,), "a tone")
        require(np.isfinite(tone).all(), "a finite tone")


READERS = {
    "midi": Reader(midi_seeds, read_midi, BINARY),
    "note text": Reader(note_text_seeds, read_note_text, TEXT),
    "index csv": Reader(csv_seeds, lambda data: read_index("csv", data), TEXT),
    "index json": Reader(json_seeds, lambda data: read_index("json", data), TEXT),
    **{
        kind: Reader(lambda kind=kind: audio_seeds(kind), read_audio, BINARY)  # type: ignore[misc]
        for kind in AUDIO_FORMATS
    },
    "soundfont": Reader(lambda: [_soundfont()], read_soundfont, BINARY),
}
