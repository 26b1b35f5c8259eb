"""A corpus of speech on disk, in either layout, becomes a list of utterances.

Only lists and folders are looked at here; tensors, audio and alignments are read utterance by
utterance, by worker processes (`ingest`).
"""

from __future__ import annotations

from pathlib import Path

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.phonemes.config import Layout, LibrispeechConfig
from amt_pipeline.phonemes.layouts import TRAIN_LIST, find_subsets, is_course, suggest_speech
from amt_pipeline.phonemes.libriphone import read_libriphone
from amt_pipeline.phonemes.librispeech import read_librispeech
from amt_pipeline.phonemes.utterances import CorpusReading, folder_exists
from amt_pipeline.store.manifest import file_exists

EXPECTED = (
    f"Expected the course's files ({TRAIN_LIST}, feat/train, ...) or LibriSpeech's "
    "(train-clean-100/<speaker>/<chapter>/*.flac)"
)


def read_corpus(root: str | Path, config: LibrispeechConfig) -> CorpusReading:
    """Read what a corpus folder lists, in the layout that it has.

    Args:
        root: The unpacked archive.
        config: How it is read.

    Raises:
        CorpusError: The folder cannot be used; all faults of a list are named at once.
        ConfigError: The split leaves nothing to train or validate on.
    """
    root = Path(root).expanduser().absolute()
    _require_folder(root)
    layout = find_layout(root) if config.layout == "auto" else config.layout
    if layout == "librispeech":
        return read_librispeech(root, config)
    if not file_exists(root / TRAIN_LIST):
        raise _no_train_list(root)
    return read_libriphone(root, config)


def find_layout(root: Path) -> Layout:
    """Return the layout of a corpus folder, given by its absolute path.

    Raises:
        CorpusError: There is no such folder, or it has neither layout; a corpus in it or above it
            is named.
    """
    _require_folder(root)
    if file_exists(root / TRAIN_LIST):
        return "libriphone"
    if find_subsets(root):
        return "librispeech"
    if is_course(root):
        raise _no_train_list(root)
    try:
        is_empty = not any(root.iterdir())
    except OSError as error:
        raise CorpusError(root, f"cannot be listed ({error.strerror or error})") from error
    problem = f"has neither layout: no {TRAIN_LIST}, no folder such as train-clean-100"
    if is_empty:
        problem = "the folder is empty"
    raise CorpusError(root, problem, suggest_speech(root) or EXPECTED)


def _no_train_list(root: Path) -> CorpusError:
    remedy = "It has the id of one utterance of training per line: restore it from the archive"
    if not is_course(root):
        remedy = suggest_speech(root) or EXPECTED
    return CorpusError(root / TRAIN_LIST, "no such file", remedy)


def _require_folder(root: Path) -> None:
    if folder_exists(root):
        return
    if file_exists(root):
        remedy = suggest_speech(root) or EXPECTED
        raise CorpusError(root, "is a file, not a corpus folder", remedy)
    raise CorpusError(root, "no such folder", EXPECTED)
