"""LibriSpeech as it is published, with phone alignments beside it.

    <subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac
    <subset>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt
    alignments/**/<id>.csv or <id>.TextGrid; or beside the audio

The prefix of a subset gives the split: `train-...`, `dev-...` (validation), `test-...`. Splits that
no subset gives are drawn from those that there are. The corpus folder may be a single subset.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.phonemes.alignments import SUFFIXES
from amt_pipeline.phonemes.classes import SILENCE, read_classes
from amt_pipeline.phonemes.config import LibrispeechConfig
from amt_pipeline.phonemes.layouts import (
    SUBSET,
    files_in,
    find_subsets,
    folders_in,
    suggest_speech,
)
from amt_pipeline.phonemes.splits import draw_splits
from amt_pipeline.phonemes.text_files import read_lines
from amt_pipeline.phonemes.utterances import (
    SAFE_ID,
    CorpusReading,
    Utterance,
    folder_exists,
    name_some,
    refuse_missing,
    speaker_and_chapter,
)

EXPECTED = "Expected folders such as train-clean-100/<speaker>/<chapter>/*.flac"
ALIGNMENTS = "alignments"
_SPLIT_OF = {"train": "train", "dev": "validation", "test": "test"}


@dataclass
class _Tree:
    """What lies in the folders.

    Attributes:
        utterances: With the split of their subset; alignments beside the audio are in `alignments`.
        transcribed: Ids of the transcripts, and the file that has each.
        alignments: Files per id.
    """

    utterances: list[Utterance]
    transcribed: dict[str, Path]
    alignments: dict[str, list[Path]]


def read_librispeech(root: Path, config: LibrispeechConfig) -> CorpusReading:
    """Look which utterances, transcripts and alignments are there; no audio is read.

    Raises:
        CorpusError: The layout is another, ids are not unique, or parts are missing and may not be.
        ConfigError: The split leaves nothing to train or validate on.
    """
    classes = read_classes(root)
    if classes.silence is None:
        raise CorpusError(root, f"its phone classes have no {SILENCE}", "Name the class of silence")
    tree = _read_tree(find_subsets(root))
    if not tree.utterances:
        problem = "has no .flac files in the layout of LibriSpeech"
        raise CorpusError(root, problem, suggest_speech(root) or EXPECTED)
    _check_ids(root, tree.utterances)
    utterances, drawn = _with_splits(tree.utterances, config)
    alignments = _alignment_files(root, config.alignments, tree)
    utterances = [
        replace(one, alignment_path=alignments.get(one.recording_id)) for one in utterances
    ]
    there = {one.recording_id for one in utterances}
    missing = [*_without_audio(tree, there), *_without_alignment(root, utterances, drawn)]
    if config.missing == "refuse":
        refuse_missing(root, missing, len(there | tree.transcribed.keys()))
    left_out = {name for name, _ in missing}
    return CorpusReading(
        "librispeech",
        utterances=tuple(one for one in utterances if one.recording_id not in left_out),
        failures=tuple(missing),
        warnings=tuple(_warnings(root, there, tree, utterances)),
        classes=classes,
        drawn=drawn,
    )


def _without_audio(tree: _Tree, there: set[str]) -> Iterable[tuple[str, CorpusError]]:
    remedy = "Restore it from the archive"
    for name, path in tree.transcribed.items():
        if name not in there:
            problem = f"no such file, but {path.name} has it"
            yield name, CorpusError(path.parent / f"{name}.flac", problem, remedy)


def _without_alignment(
    root: Path, utterances: list[Utterance], drawn: Sequence[str]
) -> Iterable[tuple[str, CorpusError]]:
    """Yield utterances that lack an alignment; those of a published test part may."""
    needed = [one for one in utterances if one.split != "test" or "test" in drawn]
    lacking = [one for one in needed if one.alignment_path is None]
    if len(lacking) == len(needed):
        remedy = (
            "Put <id>.csv or <id>.TextGrid into a folder and name it: librispeech.alignments=..."
        )
        if folder_exists(root.parent / ALIGNMENTS):
            remedy = f"Did you mean {root.parent}? It has the folder {ALIGNMENTS}"
        problem = f"no alignment of its {len(needed)} utterances was found"
        raise CorpusError(root, problem, remedy)
    remedy = "Align it, or leave it out"
    for one in lacking:
        yield one.recording_id, CorpusError(one.source_path, "has no alignment", remedy)


def _read_tree(subsets: list[Path]) -> _Tree:
    tree = _Tree([], {}, {})
    for subset in subsets:
        match = SUBSET.fullmatch(subset.name)
        split = _SPLIT_OF[match["part"].lower()] if match else "train"
        for speaker in folders_in(subset):
            for chapter in folders_in(speaker):
                for path in files_in(chapter):
                    _sort_in(path, split, tree)
    return tree


def _sort_in(path: Path, split: str, tree: _Tree) -> None:
    suffix = path.suffix.lower()
    if suffix == ".flac":
        tree.utterances.append(Utterance(path.stem, split, audio_path=path))
    elif suffix in SUFFIXES:
        tree.alignments.setdefault(path.stem, []).append(path)
    elif path.name.endswith(".trans.txt"):
        for line in read_lines(path):
            name = line.text.split(maxsplit=1)[0]
            if not SAFE_ID.fullmatch(name):
                where = f"{path} line {line.number}"
                raise CorpusError(where, f"{name[:40]!r} is no id of an utterance")
            tree.transcribed[name] = path


def _check_ids(root: Path, utterances: list[Utterance]) -> None:
    names = Counter(one.recording_id for one in utterances)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        problem = f"has {len(twice)} utterances more than once: {', '.join(twice)}"
        raise CorpusError(root, problem, "Keep one file of each")
    elsewhere = []
    for one in utterances:
        folders = (one.source_path.parent.parent.name, one.source_path.parent.name)
        if speaker_and_chapter(one.recording_id) != folders or not SAFE_ID.fullmatch(
            one.recording_id
        ):
            elsewhere.append(str(one.source_path))
    if elsewhere:
        problem = f"{len(elsewhere)} files have another name than their folders say: "
        remedy = "Files are <speaker>/<chapter>/<speaker>-<chapter>-<number>.flac"
        raise CorpusError(root, problem + ", ".join(elsewhere), remedy)


def _with_splits(
    utterances: list[Utterance], config: LibrispeechConfig
) -> tuple[list[Utterance], tuple[str, ...]]:
    """Return the utterances with their splits, and which splits had to be drawn.

    What the training subsets are is shared out where there is no validation or no test subset. If
    there is no training subset, the validation subsets take its place, and then those of test.
    """
    given = {one.split for one in utterances}
    pool_split = next(split for split in ("train", "validation", "test") if split in given)
    wanted = [name for name in ("validation", "test") if name not in given or name == pool_split]
    if not wanted:
        return utterances, ()
    pool = [one for one in utterances if one.split == pool_split]
    names, speakers = [one.recording_id for one in pool], [one.speaker for one in pool]
    drawn = draw_splits(names, speakers, config.split, wanted=wanted)
    shared_out = [replace(one, split=drawn.get(one.recording_id, one.split)) for one in utterances]
    return shared_out, ("train", *wanted)


def _alignment_files(root: Path, folder: str | None, tree: _Tree) -> dict[str, Path]:
    """Return the alignment of each utterance that has one.

    Raises:
        CorpusError: The folder is not there, or an utterance has several.
    """
    place = root / Path(folder).expanduser() if folder else root / ALIGNMENTS
    if folder and not folder_exists(place):
        raise CorpusError(place, "no such folder", "Correct librispeech.alignments")
    found: dict[str, list[Path]] = {} if folder else tree.alignments
    for parent, folders, names in os.walk(place):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                found.setdefault(path.stem, []).append(path)
    ids = {one.recording_id for one in tree.utterances}
    several = [", ".join(map(str, files)) for name, files in found.items() if len(files) > 1
               and name in ids]  # fmt: skip
    if several:
        problem = f"{len(several)} utterances have several alignments: {'; '.join(several)}"
        raise CorpusError(root, problem, "Keep one of each, or name a folder")
    return {name: files[0] for name, files in found.items() if name in ids}


def _warnings(
    root: Path, there: set[str], tree: _Tree, utterances: list[Utterance]
) -> Iterable[str]:
    unwritten = there - tree.transcribed.keys()
    if unwritten:
        yield (
            f"{len(unwritten)} utterances in {root} are in no transcript (they are used all the "
            f"same): {name_some(unwritten)}"
        )
    unlabelled = [one.recording_id for one in utterances if one.alignment_path is None
                  and one.split == "test"]  # fmt: skip
    if unlabelled:
        yield f"{len(unlabelled)} test utterances have no alignment: {name_some(unlabelled)}"
