"""A corpus of speech on disk, in either layout, becomes a list of utterances.

Only lists and folders are looked at here; tensors, audio and alignments are read utterance by
utterance, by worker processes (`ingest`).
"""

from __future__ import annotations

from pathlib import Path

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.phonemes.config import Layout, LibrispeechConfig
from amt_pipeline.phonemes.libriphone import TRAIN_LIST, read_libriphone
from amt_pipeline.phonemes.librispeech import find_subsets, read_librispeech
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
    layout = find_layout(root) if config.layout == "auto" else config.layout
    _require_folder(root)
    return (
        read_libriphone(root, config) if layout == "libriphone" else read_librispeech(root, config)
    )


def find_layout(root: Path) -> Layout:
    """Return the layout of a corpus folder.

    Raises:
        CorpusError: There is no such folder, or it has neither layout.
    """
    _require_folder(root)
    layout = _layout_of(root)
    if layout is not None:
        return layout
    if folder_exists(root / "feat"):
        remedy = "The course's files have it beside the folder feat"
        raise CorpusError(root / TRAIN_LIST, "no such file", remedy)
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        raise CorpusError(root, f"cannot be listed ({error.strerror or error})") from error
    inside = [path for path in entries if folder_exists(path) and _layout_of(path)]
    if inside:
        problem = f"has no {TRAIN_LIST} and no subset of LibriSpeech"
        raise CorpusError(root, problem, f"It is one folder deeper: {inside[0]}")
    raise CorpusError(root, "has neither layout" if entries else "the folder is empty", EXPECTED)


def _layout_of(root: Path) -> Layout | None:
    if file_exists(root / TRAIN_LIST):
        return "libriphone"
    return "librispeech" if find_subsets(root) else None


def _require_folder(root: Path) -> None:
    if not folder_exists(root):
        problem = "is a file, not a corpus folder" if file_exists(root) else "no such folder"
        raise CorpusError(root, problem, EXPECTED)
