"""How the corpus of the phonemes is read: where it is, which layout it has, how it is split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from amt_pipeline.phonemes.demo_plan import DemoConfig

Layout = Literal["libriphone", "librispeech"]
Missing = Literal["refuse", "quarantine"]

TRAIN_RATIO, DEMO_TRAIN_RATIO = 0.95, 0.85
"""Shares for training where `split.train_ratio` is null."""


class SplitConfig(BaseModel):
    """How utterances are shared out where the corpus does not say it itself.

    Attributes:
        by: `utterance` shuffles utterances, as the course does: a speaker may be in training and
            validation. `speaker` never puts one into both.
        train_ratio: Share of the utterances for training, of those that are not for test; null is
            the course's 0.95 (0.85 of the demo corpus, of which 5 % would be 6 utterances).
        test_ratio: Share for test, where the corpus has no test part (`layout: librispeech`).
        seed: Of the shuffling; 1213 is the course's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["utterance", "speaker"] = "utterance"
    train_ratio: float = Field(TRAIN_RATIO, gt=0, lt=1)
    test_ratio: float = Field(0.1, ge=0, lt=1)
    seed: int = Field(1213, ge=0)

    @field_validator("train_ratio", mode="before")
    @classmethod
    def _usual_share(cls, value: object) -> object:
        return TRAIN_RATIO if value is None else value


class LibrispeechConfig(BaseModel):
    """Where the corpus is, and how it is read.

    Attributes:
        root: Folder of the corpus; null makes the demo corpus.
        layout: `libriphone` is the course's (three lists, one tensor per utterance), `librispeech`
            the published one (FLAC by speaker and chapter) with phone alignments; `auto` looks.
        alignments: Folder of alignments (csv, TextGrid) for `librispeech`, absolute or inside
            `root`; null looks in `<root>/alignments` and beside the audio.
        split: How utterances are shared out.
        missing: Listed utterances whose file, labels or alignment are not there: `refuse` the
            corpus or `quarantine` them.
        max_bad_fraction: Largest share of utterances that may end in quarantine.
        pack_size: Utterances that share a file of frames, and are one item of parallel work.
        demo: The demo corpus.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str | None = None
    layout: Literal["auto", "libriphone", "librispeech"] = "auto"
    alignments: str | None = None
    split: SplitConfig = SplitConfig()
    missing: Missing = "refuse"
    max_bad_fraction: float = Field(0.05, ge=0, le=1)
    pack_size: int = Field(128, ge=1, le=10_000)
    demo: DemoConfig = DemoConfig()

    @classmethod
    def of_parameters(cls, values: Mapping[str, Any]) -> LibrispeechConfig:
        """Return the configuration of the parameters `librispeech`.

        Raises:
            ValidationError: One is unknown or ill-typed.
        """
        config = cls.model_validate(values)
        if config.root is None and values.get("split", {}).get("train_ratio") is None:
            split = config.split.model_copy(update={"train_ratio": DEMO_TRAIN_RATIO})
            return config.model_copy(update={"split": split})
        return config
