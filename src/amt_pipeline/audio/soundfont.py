"""Piano tones from the General MIDI soundfont that the installed pretty_midi package bundles.

Reads the part of the SoundFont 2.04 specification that sampled pianos use: key zones, loops, root
key and tuning, attenuation, pan, volume envelope, low-pass cut-off. Modulators, LFOs, velocity
splits and preset-level offsets are left out; the bundled pianos have none that matter. It exists
because symusic 0.5.9, the one synthesiser that installs without system packages, ignores root keys,
envelopes and velocities of this file: its A4 sounds at 1656 Hz.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amt_pipeline.core.errors import AudioError

PIANO_PROGRAMS = (0, 1, 2, 3)
"""General MIDI programs: mellow grand, bright grand, electric grand, honky-tonk."""

MIN_RATE_HZ, MAX_RATE_HZ = 400, 192_000
"""Sample rates that are played; SoundFont 2.04, section 7.10, asks for 400 to 50000 Hz."""
MAX_GAIN = 100.0
"""No zone is amplified by more: the specification knows attenuation only."""

# Generators of SoundFont 2.04, section 8.1.2.
_CUTOFF, _ENVELOPE_TO_CUTOFF, _PAN, _HOLD, _DECAY, _RELEASE = 8, 11, 17, 35, 36, 38
_INSTRUMENT, _KEYS, _ATTENUATION, _COARSE, _FINE, _SAMPLE = 41, 43, 48, 51, 52, 53
_LOOPS, _ROOT = 54, 58


@dataclass(frozen=True)
class Zone:
    """One sample and how it is played over a range of keys.

    Attributes:
        keys: Lowest and highest MIDI pitch.
        wave: float32 `[n]`, full scale 1.
        wave_rate: Sample rate of `wave` in Hz.
        loop: First sample of the loop and the one behind its last; None plays once.
        root_pitch: MIDI pitch, with its fraction, at which `wave` sounds at `wave_rate`.
        gain: Linear.
        pan: -1 (left) to 1 (right).
        hold_s: Time at full level before the decay.
        decay_s: Time in which a held tone would fall by 100 dB.
        release_s: Time in which a released tone would fall by 100 dB.
        cutoff_hz: Low-pass cut-off at full velocity.
    """

    keys: tuple[int, int]
    wave: NDArray[np.float32]
    wave_rate: int
    loop: tuple[int, int] | None
    root_pitch: float
    gain: float
    pan: float
    hold_s: float
    decay_s: float
    release_s: float
    cutoff_hz: float

    def held_tone(self, pitch: int, duration_s: float, sample_rate: int) -> NDArray[np.float32]:
        """Return the tone of a key that is never released, float32 `[duration]`, unfiltered."""
        import soxr

        ratio = 2.0 ** ((pitch - self.root_pitch) / 12)
        needed = int(duration_s * self.wave_rate * ratio) + 64
        wave = self.wave
        if self.loop is not None and needed > self.loop[1]:
            start, stop = self.loop
            turns = -(-(needed - stop) // (stop - start))
            wave = np.concatenate([wave[:stop], np.tile(wave[start:stop], turns)])
        tone = soxr.resample(wave[:needed], self.wave_rate * ratio, sample_rate)
        length = round(duration_s * sample_rate)
        tone = np.pad(tone[:length], (0, max(0, length - len(tone))))
        falling_s = np.maximum(np.arange(length) / sample_rate - self.hold_s, 0.0)
        level = self.gain * 10.0 ** (-5.0 * falling_s / self.decay_s)
        return np.asarray(tone * level, dtype=np.float32)


@functools.cache
def piano_zones(program: int) -> tuple[Zone, ...]:
    """Return the zones of one of `PIANO_PROGRAMS`; several may sound for one key.

    Raises:
        AudioError: The installed pretty_midi has no readable soundfont.
        ValueError: The program is no piano.
    """
    if program not in PIANO_PROGRAMS:
        raise ValueError(f"program {program} is none of {PIANO_PROGRAMS}")
    source = files("pretty_midi") / "TimGM6mb.sf2"
    remedy = "Reinstall pretty_midi==0.2.11.post0"
    try:
        data = source.read_bytes()
    except OSError as error:
        raise AudioError(str(source), "not a readable soundfont", remedy) from error
    return parse_piano(data, program, where=str(source), remedy=remedy)


def parse_piano(data: bytes, program: int, *, where: str, remedy: str = "") -> tuple[Zone, ...]:
    """Return the zones of a piano in the bytes of a soundfont.

    Args:
        data: The whole soundfont.
        program: Program of bank 0.
        where: Named in the error.
        remedy: Named in the error.

    Raises:
        AudioError: The soundfont is damaged, or lacks the program.
    """
    try:
        zones = tuple(_read_zones(_chunks(data), program))
        if not all(map(_is_playable, zones)) or not zones:
            raise ValueError("no zones, or one that cannot be played")
    except (KeyError, IndexError, OverflowError, struct.error, ValueError) as error:
        raise AudioError(where, "not a readable soundfont", remedy) from error
    return zones


def _is_playable(zone: Zone) -> bool:
    """Tell whether a zone's numbers are within what playing it takes."""
    start, stop = zone.loop or (0, len(zone.wave))
    pitched = 0 <= zone.root_pitch <= 256 and MIN_RATE_HZ <= zone.wave_rate <= MAX_RATE_HZ
    return pitched and 0 <= start < stop <= len(zone.wave) and zone.gain <= MAX_GAIN


def _chunks(data: bytes) -> dict[str, bytes]:
    """Return the leaf chunks of a soundfont's three lists, by name."""
    found: dict[str, bytes] = {}
    for name, body in _walk(data, 12, len(data)):
        if name == "LIST":
            found.update(_walk(body, 4, len(body)))
    return found


def _walk(data: bytes, place: int, stop: int) -> Iterator[tuple[str, bytes]]:
    while place + 8 <= stop:
        name, size = struct.unpack_from("<4sI", data, place)
        yield name.decode("ascii", "replace"), data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2


def _read_zones(chunks: dict[str, bytes], program: int) -> Iterator[Zone]:
    presets = list(struct.iter_unpack("<20sHHHIII", chunks["phdr"]))
    instruments = list(struct.iter_unpack("<20sH", chunks["inst"]))
    headers = list(struct.iter_unpack("<20sIIIIIBbHH", chunks["shdr"]))
    samples = np.frombuffer(chunks["smpl"], "<i2")
    preset = [p[1:3] for p in presets[:-1]].index((program, 0))
    for layer in _bags(chunks, "p", presets[preset][3], presets[preset + 1][3]):
        instrument = layer[_INSTRUMENT]
        first, behind = instruments[instrument][1], instruments[instrument + 1][1]
        for generators in _bags(chunks, "i", first, behind):
            yield _zone(generators, headers[generators[_SAMPLE]], samples)


def _bags(
    chunks: dict[str, bytes], level: str, first: int, behind: int
) -> Iterator[dict[int, int]]:
    """Yield the generators of each bag, its global bag's (the first without a target) applied."""
    target = _INSTRUMENT if level == "p" else _SAMPLE
    bags = [bag[0] for bag in struct.iter_unpack("<HH", chunks[f"{level}bag"])]
    amounts = list(struct.iter_unpack("<Hh", chunks[f"{level}gen"]))
    common: dict[int, int] = {}
    for bag in range(first, behind):
        generators = {**common, **dict(amounts[bags[bag] : bags[bag + 1]])}
        if target in generators:
            yield generators
        elif bag == first:
            common = generators


def _zone(generators: dict[int, int], header: tuple[Any, ...], samples: NDArray[np.int16]) -> Zone:
    _, start, stop, loop_start, loop_stop, rate, header_root, correction, _, _ = header
    keys = generators.get(_KEYS, 127 << 8)
    root = generators.get(_ROOT, -1)
    tuning = generators.get(_COARSE, 0) + (generators.get(_FINE, 0) + correction) / 100
    cutoff = generators.get(_CUTOFF, 13500) + generators.get(_ENVELOPE_TO_CUTOFF, 0)
    wave = samples[start:stop].astype(np.float32) / np.float32(32768)
    silent = _silent_start(wave, rate)
    shift = start + silent
    return Zone(
        keys=(keys & 0xFF, keys >> 8 & 0xFF),
        wave=wave[silent:],
        wave_rate=rate,
        loop=(loop_start - shift, loop_stop - shift) if generators.get(_LOOPS, 0) & 1 else None,
        root_pitch=(root if root >= 0 else header_root) - tuning,
        gain=10 ** (-generators.get(_ATTENUATION, 0) / 200),
        pan=generators.get(_PAN, 0) / 500,
        hold_s=_timecents(generators.get(_HOLD, -12000)),
        decay_s=_timecents(generators.get(_DECAY, -12000)),
        release_s=_timecents(generators.get(_RELEASE, -12000)),
        cutoff_hz=8.176 * 2.0 ** (cutoff / 1200),
    )


def _silent_start(wave: NDArray[np.float32], rate: int) -> int:
    """Return how many samples pass before the hammer is heard.

    Bass samples start up to 6 ms early, 11 ms when transposed down: as much as a frame of labels.
    """
    level = np.abs(wave)
    heard = int(np.argmax(level > 0.1 * level[: rate // 20].max()))
    return max(0, heard - rate // 2000)


def _timecents(value: int) -> float:
    return float(2.0 ** (value / 1200))
