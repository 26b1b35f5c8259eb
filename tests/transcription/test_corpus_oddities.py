"""Every kind of broken or odd file in one corpus: refused with a reason, or read with a word."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import soundfile

Make = Callable[..., Any]


def wav(path: Path, samples: np.ndarray, rate_hz: int = 16000, subtype: str = "FLOAT") -> None:
    soundfile.write(path, samples, rate_hz, subtype=subtype, format="WAV")


def tone(n: int = 8000, channels: int = 2) -> np.ndarray:
    one = 0.3 * np.sin(2 * np.pi * 440 / 16000 * np.arange(n))
    return np.repeat(one[:, None], channels, axis=1).astype(np.float32)


def with_value(value: float) -> np.ndarray:
    samples = tone()
    samples[4000:4100] = value
    return samples


def midi(path: Path, *messages: mido.Message, division: int = 480) -> None:
    file = mido.MidiFile(type=0, ticks_per_beat=division)
    file.tracks.append(mido.MidiTrack(messages))
    file.save(path)


def on(note: int, time: int = 0, velocity: int = 64) -> mido.Message:
    return mido.Message("note_on", note=note, velocity=velocity, time=time)


def off(note: int, time: int = 0) -> mido.Message:
    return mido.Message("note_off", note=note, time=time)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])


def zero_division(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[12:14] = b"\0\0"
    path.write_bytes(data)


REFUSED: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "empty audio": ("flac", lambda p: p.write_bytes(b""), "empty file"),
    "text as audio": ("flac", lambda p: p.write_text("no music"), "not audio that can be"),
    "cut audio": ("flac", cut, "cut short"),
    "half a header": ("flac", lambda p: p.write_bytes(p.read_bytes()[:20]), "not audio|cut short"),
    "not a number": ("flac", lambda p: wav(p, with_value(np.nan)), "100 of 8000 samples are not"),
    "infinity": ("flac", lambda p: wav(p, with_value(np.inf)), "not finite"),
    "no samples": ("flac", lambda p: wav(p, tone(0)), "holds no samples"),
    "empty MIDI": ("midi", lambda p: p.write_bytes(b""), "empty"),
    "text as MIDI": ("midi", lambda p: p.write_text("no music"), "not a MIDI file"),
    "cut MIDI": ("midi", cut, "ends inside a track"),
    "no ticks": ("midi", zero_division, "division|ticks"),
    "other performance": ("midi", lambda p: midi(p, on(60, 48000), off(60, 9)), "has a note at 50"),
}


def test_bad_recordings_are_quarantined_and_the_rest_goes_on(
    make_corpus: Make, ingest: Make, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    root = make_corpus(pieces=len(REFUSED) + 2, seconds=0.5)
    wanted = {}
    for number, (suffix, harm, reason) in enumerate(REFUSED.values()):
        path = root / "2004" / f"piece-{number}.{suffix}"
        harm(path)
        wanted[f"piece-{number}"] = reason
    done = ingest(root, max_bad_fraction=0.9)
    assert done.manifest["recording_id"].tolist() == ["piece-12", "piece-13"]
    found = {row.recording_id: (row.path, row.reason) for row in done.quarantine.itertuples()}
    assert found.keys() == wanted.keys()
    for name, reason in wanted.items():
        path, found_reason = found[name]
        assert Path(path).parent == root / "2004"
        assert Path(path).stem == name
        assert re.search(reason, found_reason), found_reason
        assert f"Quarantined {name}: {path}: {found_reason}" in caplog.text
    assert done.summary["quarantined"] == len(REFUSED)
    assert "12 of 14 recordings were left out" in caplog.text
    assert not list((tmp_path / "data").rglob(".tmp-*"))


VALID: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "mono at 8 kHz": ("flac", lambda p: wav(p, tone(4000, 1), 8000), "source rate 8000 Hz"),
    "silence": ("flac", lambda p: wav(p, 0 * tone()), "silent"),
    "six channels": ("flac", lambda p: wav(p, tone(channels=6)), "6 channels mixed"),
    "opposite phase": ("flac", lambda p: wav(p, tone() * [1, -1]), "opposite phase"),
    "too loud": ("flac", lambda p: wav(p, tone() * 100), "above full scale"),
    "no notes": ("midi", lambda p: midi(p, mido.Message("control_change", control=64)), "no notes"),
    "outside the piano": ("midi", lambda p: midi(p, on(12), on(60), off(12, 9), off(60)), "1 note"),
    "no length": ("midi", lambda p: midi(p, on(60, 9), off(60), on(62), off(62, 9)), "1 note with"),
    "never let go": ("midi", lambda p: midi(p, on(60, 9), on(62, 9), off(62, 9)), "never let go"),
    "24 bit": ("flac", lambda p: wav(p, tone(), subtype="PCM_24"), ""),
}


def test_odd_recordings_are_read_with_a_word_on_each(
    make_corpus: Make, ingest: Make, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    root = make_corpus(pieces=len(VALID), seconds=0.5)
    for number, (suffix, change, _) in enumerate(VALID.values()):
        change(root / "2004" / f"piece-{number}.{suffix}")
    done = ingest(root)
    assert done.quarantine.empty
    table = done.manifest.set_index("recording_id")
    for number, (_, _, warning) in enumerate(VALID.values()):
        assert warning in table.loc[f"piece-{number}", "warnings"]
        frames = np.load(tmp_path / "data" / "frames" / "recordings" / f"piece-{number}.npy")
        assert np.isfinite(frames).all()
    assert "piece-1: silent" in caplog.text
    assert table.loc["piece-5", "n_notes"] == 0
