"""A stand-in for LibriSpeech that the project makes itself: espeak-ng reads made-up sentences.

Two layouts, both as they are published: `librispeech` (FLAC by speaker and chapter, transcripts,
phone alignments as csv) and `libriphone` (the course's lists, labels and feature tensors). What is
heard is the same in both. Speakers are made one by one, each spoken in a process of its own; a mark
that is completed last says what the folder holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from amt_pipeline.core.errors import CorpusError, storage_error
from amt_pipeline.core.files import read_json, remove_folder, remove_leftovers, write_json
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.core.parallel import Failure, ParallelConfig, map_items
from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.phonemes.demo_layouts import LAYOUTS, DemoLayout
from amt_pipeline.phonemes.demo_plan import (
    DemoConfig,
    Reading,
    Speaker,
    plan_readings,
    plan_speakers,
)
from amt_pipeline.phonemes.demo_recording import record, studio
from amt_pipeline.phonemes.demo_segments import AlignedSpeech, align
from amt_pipeline.phonemes.demo_voice import speak

MARK_NAME = "demo.json"
"""What the folder holds, and whether it is complete; a folder without it holds no demo."""

_VERSION = 1  # counts up when the same parameters give other files


@dataclass(frozen=True)
class Shard:
    """One speaker to be made: what one process does."""

    folder: Path
    layout: str
    seed: int
    speaker: Speaker
    readings: tuple[Reading, ...]

    @property
    def is_complete(self) -> bool:
        """Whether all files of the speaker are there."""
        files = LAYOUTS[self.layout].files(self.folder, self.speaker, self.readings)
        return all(path.is_file() for path in files)


def make_demo_corpus(
    folder: Path,
    *,
    layout: Literal["librispeech", "libriphone"] = "librispeech",
    config: DemoConfig | None = None,
    workers: int | None = None,
) -> Path:
    """Make the demo corpus, or the missing part of it; a complete one is returned at once.

    The same layout and configuration give the same bytes, however many workers make them. Others
    than those of an earlier run replace its files.

    Args:
        folder: Where the corpus goes.
        layout: As LibriSpeech is published, or as the course's files are.
        config: How much is made; None is `DemoConfig()`.
        workers: Processes; None is one per processor.

    Returns:
        `folder`.

    Raises:
        CorpusError: The folder holds a corpus that is not a demo, or espeak-ng does not work.
        StorageError: The disk refused.
    """
    folder, config, files = Path(folder), config or DemoConfig(), LAYOUTS[layout]
    plan = {speaker: tuple(plan_readings(config, speaker)) for speaker in plan_speakers(config)}
    mark = _mark(layout, config)
    is_finished = _claim(folder, mark, files)
    remove_leftovers(folder, deep=True)
    shards = [Shard(folder, layout, config.seed, *item) for item in plan.items()]
    missing = [shard for shard in shards if not shard.is_complete]
    if not missing and is_finished and all((folder / name).exists() for name in files.products):
        return folder
    write_json(folder / MARK_NAME, mark)
    local = ParallelConfig(workers=workers)
    for _, outcome in map_items(
        make_shard, missing, label="Demo speech", unit="speaker", parallel=local
    ):
        if isinstance(outcome, Failure):
            raise outcome.error
    files.finish(folder, plan)
    write_json(folder / MARK_NAME, {**mark, "complete": True})
    return folder


def make_shard(shard: Shard) -> None:
    """Speak, record and write all utterances of one speaker.

    Raises:
        CorpusError: espeak-ng does not work.
        StorageError: The disk refused.
    """
    speaker, place = shard.speaker, studio(shard.seed, shard.speaker.name)
    try:
        texts = [reading.text for reading in shard.readings]
        spoken = speak(speaker.voice, texts, shard.folder)
    except OSError as error:
        raise storage_error(shard.folder, error) from error
    recordings: list[AlignedSpeech] = []
    for number, (reading, one) in enumerate(zip(shard.readings, spoken, strict=True)):
        speech = align(one, speaker.voice.name)
        rng = derive_rng(shard.seed, "phoneme demo", "recording", reading.recording_id)
        recordings.append(record(speech, place, rng, with_noise=number == 0))
    LAYOUTS[shard.layout].write(shard.folder, speaker, shard.readings, recordings)


def _mark(layout: str, config: DemoConfig) -> dict[str, Any]:
    """Return what identifies a demo corpus, as yet incomplete."""
    contents = {"version": _VERSION, "layout": layout, **config.model_dump()}
    return {**contents, "sha256": value_sha256(contents), "complete": False}


def _claim(folder: Path, wanted: dict[str, Any], files: DemoLayout) -> bool:
    """Return whether the folder was completed for what is wanted; empty it of another demo.

    Raises:
        CorpusError: It holds a corpus that is not a demo.
        StorageError: The disk refused.
    """
    mark = folder / MARK_NAME
    if not mark.is_file():
        if any((folder / name).exists() for name in files.products):
            raise CorpusError(
                folder, "holds a corpus that is not a demo", "Choose another folder for the demo"
            )
        return False
    found = read_json(mark)
    if isinstance(found, dict) and found.get("sha256") == wanted["sha256"]:
        return found.get("complete") is True
    for layout in LAYOUTS.values():
        for name in layout.products:
            _remove(folder / name)
    return False


def _remove(path: Path) -> None:
    try:
        if path.is_dir():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
