"""What the voices say and how it is aligned: text, phonemes, segments, noises."""

from __future__ import annotations

import itertools
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.phonemes import demo_voice
from amt_pipeline.phonemes.classes import ARPABET, PHONES
from amt_pipeline.phonemes.demo_noise import hiss, in_room, room_response, spoken_noise
from amt_pipeline.phonemes.demo_plan import (
    TEST_VOICES,
    TRAIN_VOICES,
    DemoConfig,
    plan_readings,
    plan_speakers,
)
from amt_pipeline.phonemes.demo_recording import record, studio
from amt_pipeline.phonemes.demo_segments import TICK, AlignedSpeech, Segment, align
from amt_pipeline.phonemes.demo_text import OPENINGS, WORD_LISTS, Writer, transcript
from amt_pipeline.phonemes.demo_voice import Spoken, Voice, speak
from amt_pipeline.phonemes.espeak_phones import arpabet

ACCENTS = sorted({name.partition("+")[0] for name in (*TRAIN_VOICES, *TEST_VOICES)})
VOICE = Voice("en-us+f3", rate=200, pitch=50, pitch_range=50)
RATE = demo_voice.SAMPLE_RATE


def phones_of(name: str, voice: str = "en-us") -> list[str]:
    return [phone for phone, _ in arpabet(name, voice)]


@pytest.mark.parametrize("accent", ACCENTS)
def test_every_word_in_every_accent_is_of_known_phones(accent: str, tmp_path: Path) -> None:
    """A name that espeak_phones does not know raises; each opening holds all 39 phones."""
    words = ", ".join(word for words in WORD_LISTS.values() for word in dict.fromkeys(words))
    *openings, rest = speak(Voice(accent, 400, 50, 50), [*OPENINGS, words], tmp_path)
    for opening in openings:
        found = {p for name, _ in opening.phonemes for p in phones_of(name, accent)}
        assert set(PHONES) <= found
    for name, _ in rest.phonemes:
        shares = [share for _, share in arpabet(name, accent)]
        assert sum(shares) == pytest.approx(1)
        assert set(phones_of(name, accent)) <= set(ARPABET.names)


def test_phonemes_are_read_as_american_or_british() -> None:
    assert phones_of("'A@") == ["AA", "R"]
    assert phones_of("'A@", "en-gb-x-rp+m4") == ["AA"]
    assert phones_of("i@3", "en-gb-scotland") == ["IH", "AH"]
    assert phones_of(",3:") == phones_of("3") == ["ER"]
    assert phones_of("@L") == ["AH", "L"]
    assert phones_of("n-") == ["AH", "N"]
    assert phones_of("t#") == phones_of("?") == ["T"]
    assert phones_of("_:") == phones_of("_") == ["SIL"]
    with pytest.raises(CorpusError, match="'Q\"' of voice en-us"):
        arpabet('Q"', "en-us")


def test_voices_of_test_are_not_those_of_training() -> None:
    folder = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    variants = [name.partition("+")[2] for name in (*TRAIN_VOICES, *TEST_VOICES)]
    # espeak-ng takes an unknown variant without a word.
    assert all((folder / name).is_file() for name in variants if name)
    assert len(set(variants)) == len(variants)
    for count in range(2, 17):
        speakers = plan_speakers(DemoConfig(speakers=count))
        assert len({speaker.name for speaker in speakers}) == count
        assert [s.split for s in speakers].count("test") == max(1, round(count / 4))


def test_plan_has_the_length_that_is_asked_for() -> None:
    config = DemoConfig(minutes=6, speakers=4, seed=1)
    for speaker in plan_speakers(config):
        readings = plan_readings(config, speaker)
        assert readings == plan_readings(config, speaker)
        assert readings[0].text in OPENINGS
        assert len({reading.recording_id for reading in readings}) == len(readings)
        assert {reading.chapter for reading in readings} == {f"{speaker.name}{n}" for n in (1, 2)}
        characters = sum(len(reading.text) for reading in readings)
        assert 50 < characters / (17 * speaker.voice.rate / 150) < 95
    assert plan_speakers(config) != plan_speakers(DemoConfig(minutes=6, speakers=4, seed=2))
    with pytest.raises(ValueError, match="less than 10 s each"):
        DemoConfig(minutes=1, speakers=12)


def test_words_are_dealt_before_any_comes_again() -> None:
    writer = Writer(derive_rng(0, "words"))
    things = WORD_LISTS["thing"]
    said = [writer._deal("thing") for _ in range(2 * len(things))]
    assert sorted(said[: len(things)]) == sorted(things) == sorted(said[len(things) :])
    text = writer.text(200)
    assert 150 < len(text) < 320
    assert transcript("At noon, the boy. My toy.") == "AT NOON THE BOY MY TOY"
    assert transcript(text).replace(" ", "").isalpha()


def test_same_call_speaks_the_same_samples(tmp_path: Path) -> None:
    texts = ["Her toy, at noon.", "The same words.", "The same words."]
    first, again = (speak(VOICE, texts, tmp_path) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.samples, other.samples)
        assert (one.phonemes, one.words) == (other.phonemes, other.words)
        starts = [start for _, start in one.phonemes]
        assert starts == sorted(starts)
        assert starts[-1] <= len(one.samples)
    assert len(first[0].words) == 4
    assert not any(tmp_path.iterdir())


def test_missing_voice_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="voice nobody: espeak-ng has no such voice"):
        speak(Voice("nobody", 150, 50, 50), ["Hello."], tmp_path)


def test_missing_library_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "espeakng_loader.py").write_text("raise ImportError('no wheel for this machine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CorpusError, match="no wheel for this machine") as caught:
        speak(VOICE, ["Hello."], tmp_path)
    assert "Install espeakng-loader" in caught.value.remedy


def spoken(*phonemes: tuple[str, float, float]) -> Spoken:
    """Make speech of (name, seconds of sound, seconds of silence after it)."""
    parts, events = [], []
    for name, sound_s, silence_s in phonemes:
        events.append((name, sum(map(len, parts))))
        parts.append(np.full(round(sound_s * RATE), 9000, np.int16))
        parts.append(np.zeros(round(silence_s * RATE), np.int16))
    return Spoken(np.concatenate(parts), tuple(events), (0, events[1][1]))


def test_closures_belong_to_the_stop_after_them() -> None:
    aligned = align(
        spoken(("'aI", 0.1, 0.05), ("t", 0.04, 0), ("_:", 0, 0.2), ("p", 0.1, 0)), "en-us"
    )
    assert [one.phone for one in aligned.segments] == ["AY", "T", "SIL", "P"]
    assert [one.first for one in aligned.segments] == pytest.approx([0, 1600, 3040, 6240], abs=TICK)


def test_segments_cover_everything_and_none_is_empty() -> None:
    # The L has no time of its own; the r-coloured vowel has an R after it already.
    aligned = align(spoken(("'OI", 0.2, 0), ("l", 0, 0), ("A@", 0.1, 0), ("r-", 0.05, 0)), "en-us")
    assert [one.phone for one in aligned.segments] == ["OY", "L", "AA", "R"]
    assert aligned.segments[0].n_samples == pytest.approx(0.65 * 3200, abs=TICK)
    assert aligned.segments[3].n_samples == pytest.approx(0.04 * 16000 + 800, abs=TICK)
    edges = [(one.first, one.end) for one in aligned.segments]
    assert edges[0][0] == 0
    assert edges[-1][1] == len(aligned.samples)
    assert all(end == first for (_, end), (first, _) in itertools.pairwise(edges))
    assert all(edge % TICK == 0 for pair in edges for edge in pair)


def test_noise_comes_between_words_and_moves_what_follows() -> None:
    tone = np.sin(np.arange(16000) * 0.3).astype(np.float32) / 2
    segments = (Segment("AA", 0, 8000), Segment("S", 8000, 16000))
    speech = AlignedSpeech(tone, segments, word_starts=(8000,))
    place = studio(0, "somebody")
    recording = record(speech, place, derive_rng(0, "noise"), with_noise=True)
    phones = [one.phone for one in recording.segments]
    assert phones == ["SIL", "AA", "SIL", "SPN", "SIL", "S", "SIL"]
    lengths = {one.phone: one.n_samples for one in recording.segments}
    assert lengths["AA"] == lengths["S"] == 8000
    assert recording.segments[-1].end == len(recording.samples)
    assert 0.3 < np.abs(recording.samples).max() < 1

    def loudness(number: int) -> float:
        one = recording.segments[number]
        return float(np.sqrt(np.mean(recording.samples[one.first : one.end] ** 2)))

    assert loudness(1) > 5 * loudness(0)
    assert loudness(3) > 2 * loudness(0)
    again = record(speech, place, derive_rng(0, "noise"), with_noise=True)
    assert np.array_equal(again.samples, recording.samples)


def test_noises_and_rooms_differ_and_are_scaled() -> None:
    noises = [spoken_noise(derive_rng(seed, "noise"), 4000) for seed in range(12)]
    for sound in noises:
        assert np.isfinite(sound).all()
        assert np.sqrt(np.mean(sound**2)) == pytest.approx(1, rel=1e-3)
        assert abs(sound[0]) < 0.1
    crossings = [np.mean(np.diff(np.sign(sound)) != 0) for sound in noises]
    assert min(crossings) < 0.08 < 0.25 < max(crossings)  # hums and breaths
    assert np.std(hiss(derive_rng(0, "hiss"), 50_000, 0.8)) == pytest.approx(1, rel=0.1)
    click = np.zeros(4000, np.float32)
    click[1000] = 1
    heard = [in_room(click, room_response(derive_rng(seed, "room"))) for seed in (0, 1)]
    assert not np.allclose(*heard)
    for sound in heard:
        assert len(sound) == 4000
        assert np.abs(sound).argmax() == 1000
        assert 0 < np.sum(sound[1100:] ** 2) < 0.2 * np.sum(sound**2)
