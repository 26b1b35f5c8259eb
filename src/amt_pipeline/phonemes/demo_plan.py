"""Who says what in the demo corpus: everything that is decided before anyone speaks.

Speakers differ in voice, not only in rate and pitch, and the voices of the test part are none of
those of the training part. All follows from the configuration, so that any part can be made alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.phonemes.demo_text import Writer
from amt_pipeline.phonemes.demo_voice import Voice

TRAIN_VOICES = (
    "en-us",
    "en-us+f1",
    "en-gb-scotland+m3",
    "en-us+f3",
    "en-us+m1",
    "en-gb-x-rp+f2",
    "en-us+m7",
    "en-us+f5",
    "en-gb-x-rp+m4",
    "en-us+steph",
    "en-us+adam",
    "en-us+m8",
)
TEST_VOICES = ("en-us+f4", "en-gb-x-rp+m6", "en-us+m2", "en-gb-scotland+linda")

_FEMALE = ("f1", "f2", "f3", "f4", "f5", "steph", "linda")
_FIRST_SPEAKER = 101
_CHAPTERS = 2
_CHARACTERS_PER_S = 17.0  # of text, spoken at 150 words per minute
_UTTERANCE_S = (2.5, 6.5)
_AROUND_S = 1.1  # of an utterance: silence before and after it, and a noise in every other one
_SHORTEST_SPEAKER_S = 10.0


class DemoConfig(BaseModel):
    """How much demo corpus is made.

    Attributes:
        minutes: Length of all utterances together, about.
        speakers: How many share it, a quarter of them for test.
        seed: Of everything that is left to chance.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    minutes: float = Field(18.0, gt=0, le=24 * 60)
    speakers: int = Field(12, ge=2, le=len(TRAIN_VOICES) + len(TEST_VOICES))
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _enough_for_all(self) -> Self:
        if self.minutes * 60 < self.speakers * _SHORTEST_SPEAKER_S:
            raise ValueError(
                f"minutes={self.minutes:g} leaves {self.speakers} speakers less than "
                f"{_SHORTEST_SPEAKER_S:g} s each"
            )
        return self


@dataclass(frozen=True)
class Speaker:
    """One reader.

    Attributes:
        name: A number, as LibriSpeech has it.
        split: train or test.
        sex: F or M, as the voice means it.
        voice: How espeak-ng speaks for this reader.
        minutes: How long this reader reads, about.
    """

    name: str
    split: Literal["train", "test"]
    sex: Literal["F", "M"]
    voice: Voice
    minutes: float


@dataclass(frozen=True)
class Reading:
    """One utterance to be made: its id `<speaker>-<chapter>-<number>`, and what is said."""

    recording_id: str
    text: str

    @property
    def chapter(self) -> str:
        """The chapter it belongs to."""
        return self.recording_id.split("-")[1]


def plan_speakers(config: DemoConfig) -> list[Speaker]:
    """Return the readers, those of the training part first."""
    n_test = max(1, round(config.speakers / 4))
    voices = [
        *(("train", name) for name in TRAIN_VOICES[: config.speakers - n_test]),
        *(("test", name) for name in TEST_VOICES[:n_test]),
    ]
    return [
        _speaker(config, str(_FIRST_SPEAKER + index), split, name)
        for index, (split, name) in enumerate(voices)
    ]


def plan_readings(config: DemoConfig, speaker: Speaker) -> list[Reading]:
    """Return the utterances of a reader, in the order of reading."""
    texts = list(_texts(config, speaker))
    size = -(-len(texts) // _CHAPTERS)
    readings = []
    for index, text in enumerate(texts):
        chapter, number = divmod(index, size)
        name = f"{speaker.name}-{speaker.name}{chapter + 1}-{number:04d}"
        readings.append(Reading(name, text))
    return readings


def _texts(config: DemoConfig, speaker: Speaker) -> Iterator[str]:
    """Yield texts until the reader has read for long enough, an opening with all phones first."""
    rng = derive_rng(config.seed, "phoneme demo", "text", speaker.name)
    writer = Writer(rng)
    rate = _CHARACTERS_PER_S * speaker.voice.rate / 150
    text = writer.opening()
    left_s = speaker.minutes * 60
    while True:
        yield text
        left_s -= len(text) / rate + _AROUND_S
        if left_s < _UTTERANCE_S[0]:
            return
        wanted_s = min(rng.uniform(*_UTTERANCE_S), left_s) - _AROUND_S
        text = writer.text(round(wanted_s * rate))


def _speaker(config: DemoConfig, name: str, split: str, voice: str) -> Speaker:
    rng = derive_rng(config.seed, "phoneme demo", "speaker", name)
    return Speaker(
        name=name,
        split="test" if split == "test" else "train",
        sex="F" if voice.partition("+")[2] in _FEMALE else "M",
        voice=Voice(
            voice,
            rate=int(rng.integers(115, 166)),
            pitch=int(rng.integers(40, 61)),
            pitch_range=int(rng.integers(35, 71)),
        ),
        minutes=config.minutes / config.speakers,
    )
