"""Speech from espeak-ng with the time of every phoneme, made in a process of its own.

espeak-ng carries state from one utterance to the next, so only a fresh process that is asked for
the same texts in the same order repeats itself to the bit, and it must not be forked after its
start. `speak` therefore starts one child per speaker (`python -m amt_pipeline.phonemes.demo_voice
SPEC.json`), which leaves samples and events in a scratch folder. The library and its language data
come in the wheel `espeakng-loader` (GPL-3; used here as a tool).
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amt_pipeline.core.arrays import map_array
from amt_pipeline.core.errors import CorpusError, StorageError
from amt_pipeline.core.files import atomic_path, read_json, scratch_folder, write_json

SAMPLE_RATE = 22050
"""Of every espeak-ng voice, in Hz."""

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS, _PHONEME_EVENTS, _DO_NOT_EXIT = 2, 0x0001, 0x8000
_RATE, _PITCH, _RANGE = 1, 3, 4
_WORD, _PHONEME = 1, 7
_CHARACTERS, _UTF8 = 1, 1
_LEAST_ECHO = "\x011H"
"""Embedded command; some voices have an echo, which would sound on in pauses and closures."""

_SAMPLES_FILE, _EVENTS_FILE = "samples.npy", "events.json"
_DISK_REFUSED = 3
"""Exit code of the child; 1 is whatever is wrong with espeak-ng."""
_REMEDY = (
    "Install espeakng-loader as pinned in constraints.txt, or set librispeech.root to a corpus"
)


@dataclass(frozen=True)
class Voice:
    """How espeak-ng is to speak.

    Attributes:
        name: Voice and variant, for instance `en-us+f3`.
        rate: Words per minute, as espeak-ng counts them: 80 to 450.
        pitch, pitch_range: 0 to 99, 50 is the voice's own.
    """

    name: str
    rate: int
    pitch: int
    pitch_range: int


@dataclass(frozen=True)
class Spoken:
    """One text as it was spoken.

    Attributes:
        samples: `[n]` int16 at `SAMPLE_RATE`.
        phonemes: `[(espeak-ng name, first sample)]` in order; each lasts until the next.
        words: First sample of every word.
    """

    samples: NDArray[np.int16]
    phonemes: tuple[tuple[str, int], ...]
    words: tuple[int, ...]


def speak(voice: Voice, texts: Sequence[str], scratch: Path) -> list[Spoken]:
    """Speak texts in order, in a process made for it; the same call gives the same samples.

    Args:
        voice: Who speaks.
        texts: One per utterance.
        scratch: Folder in which a temporary one may be made.

    Raises:
        CorpusError: espeak-ng is not there, or does not work.
        StorageError: The disk refused the scratch files.
        OSError: It refused the scratch folder.
    """
    with scratch_folder(scratch.absolute(), "voice") as folder:
        spec = folder / "spec.json"
        write_json(spec, {"voice": vars(voice), "texts": list(texts)})
        command = [sys.executable, "-m", "amt_pipeline.phonemes.demo_voice", str(spec)]
        done = subprocess.run(
            command, env=_environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
            if done.returncode == _DISK_REFUSED:
                raise StorageError(scratch, "no room for what is spoken", lines[-1])
            raise CorpusError(f"espeak-ng, voice {voice.name}", lines[-1], _REMEDY)
        samples = np.array(map_array(folder / _SAMPLES_FILE, "int16"))
        events = read_json(folder / _EVENTS_FILE)
    ends = np.cumsum([event["n_samples"] for event in events])
    return [
        Spoken(
            samples[end - event["n_samples"] : end],
            tuple((name, first) for name, first in event["phonemes"]),
            tuple(event["words"]),
        )
        for end, event in zip(ends, events, strict=True)
    ]


def _environment() -> dict[str, str]:
    """Return an environment in which the child finds this very package."""
    ours = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


class _EventId(ctypes.Union):
    _fields_ = [
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    ]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class _Engine:
    """espeak-ng in this process. One at a time, and never twice: it keeps its state."""

    def __init__(self, voice: Voice) -> None:
        import espeakng_loader

        library = Path(espeakng_loader.get_library_path()).absolute()
        self._library: Any = ctypes.CDLL(str(library))
        # It keeps the path of its data in a short buffer, so that has to be a short path.
        os.chdir(Path(espeakng_loader.get_data_path()).parent)
        options = _PHONEME_EVENTS | _DO_NOT_EXIT
        if self._library.espeak_Initialize(_SYNCHRONOUS, 0, b".", options) != SAMPLE_RATE:
            raise OSError("espeak-ng does not find its data")
        if self._library.espeak_SetVoiceByName(voice.name.encode()):
            raise OSError("espeak-ng has no such voice")
        # Breath is noise; it starts from the time of day otherwise.
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        for parameter, value in (
            (_RATE, voice.rate),
            (_PITCH, voice.pitch),
            (_RANGE, voice.pitch_range),
        ):
            if self._library.espeak_SetParameter(parameter, value, 0):
                raise OSError(f"espeak-ng refuses {voice}")
        self._blocks: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, str, int]] = []
        self._callback = _CALLBACK(self._receive)  # kept, or it would be collected while in use
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, n_samples: int, events: Any) -> int:
        if samples and n_samples > 0:
            self._blocks.append(np.ctypeslib.as_array(samples, (n_samples,)).copy())
        position = 0
        while kind := events[position].type:  # type 0 ends the list
            if kind in (_WORD, _PHONEME):
                # Eight bytes, filled up with zeros; a word has a number there.
                name = bytes(events[position].id.string) if kind == _PHONEME else b""
                text = name.split(b"\0")[0].decode("utf-8")
                self._events.append((kind, text, int(events[position].sample)))
            position += 1
        return 0

    def say(self, text: str) -> Spoken:
        self._blocks.clear()
        self._events.clear()
        encoded = (_LEAST_ECHO + text).encode() + b"\0"
        size = ctypes.c_size_t(len(encoded))
        if self._library.espeak_Synth(encoded, size, 0, _CHARACTERS, 0, _UTF8, None, None):
            raise OSError(f"espeak-ng cannot say {text!r}")
        self._library.espeak_Synchronize()
        phonemes = tuple((name, first) for kind, name, first in self._events if kind == _PHONEME)
        words = tuple(first for kind, _, first in self._events if kind == _WORD)
        if not self._blocks or not phonemes:
            raise OSError(f"espeak-ng says nothing for {text!r}")
        return Spoken(np.concatenate(self._blocks), phonemes, words)


def main(spec: Path) -> int:
    """Speak what a specification asks for, in this process; leave the outcome beside it."""
    wanted = json.loads(spec.read_text(encoding="utf-8"))
    try:
        engine = _Engine(Voice(**wanted["voice"]))
        spoken = [engine.say(text) for text in wanted["texts"]]
    except (ImportError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    events = [
        {"n_samples": len(one.samples), "phonemes": one.phonemes, "words": one.words}
        for one in spoken
    ]
    try:
        with atomic_path(spec.parent / _SAMPLES_FILE) as path:
            np.save(path, np.concatenate([one.samples for one in spoken]))
        write_json(spec.parent / _EVENTS_FILE, events)
    except StorageError as error:
        sys.stderr.write(f"{error}\n")
        return _DISK_REFUSED
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
