"""What a folder of speech looks like: the course's files, LibriSpeech's, or neither.

Looks at names only. Used to tell the layouts apart, and to guess which folder was meant where the
one that was named is no corpus.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.phonemes.utterances import folder_exists
from amt_pipeline.store.manifest import file_exists
from amt_pipeline.store.nearby import suggest_corpus

TRAIN_LIST, TEST_LIST = "train_split.txt", "test_split.txt"
TRAIN_LABELS, TEST_LABELS = "train_labels.txt", "test_labels.txt"
SUBSET = re.compile(r"(?P<part>train|dev|test)(?:-.*)?", re.IGNORECASE)


def find_subsets(root: Path) -> list[Path]:
    """Return the subsets of a corpus folder, by name; the folder itself where it is one.

    Raises:
        CorpusError: The folder cannot be listed.
    """
    return _named_subsets(root) or ([root] if _holds_speech(root) else [])


def is_course(root: Path) -> bool:
    """Tell whether a folder has anything of the course's layout."""
    lists = (TRAIN_LIST, TEST_LIST, TRAIN_LABELS)
    return any(file_exists(root / name) for name in lists) or folder_exists(root / "feat")


def suggest_speech(root: Path) -> str:
    """Return which corpus of speech may have been meant, as a question; nothing if there is none.

    Args:
        root: Absolute path of what is none.
    """

    def is_corpus(path: Path) -> bool:
        # A folder `train` is in corpora of other kinds, too: there has to be speech within.
        named = is_course(path) or any(_holds_speech(subset) for subset in _named_subsets(path))
        # Above, all files of all neighbours would be looked at for a subset with another name.
        return named or (path.parent == root and _holds_speech(path))

    return suggest_corpus(root, is_corpus)


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, by name, without hidden ones.

    Raises:
        CorpusError: It cannot be listed.
    """
    return _listing(folder)[0]


def files_in(folder: Path) -> list[Path]:
    """Return the files in a folder, by name, without hidden ones.

    Raises:
        CorpusError: It cannot be listed.
    """
    return _listing(folder)[1]


def _named_subsets(root: Path) -> list[Path]:
    return [path for path in folders_in(root) if SUBSET.fullmatch(path.name)]


def _holds_speech(subset: Path) -> bool:
    # Other corpora have FLAC two folders deep, too: the names have to be LibriSpeech's.
    return any(
        path.suffix.lower() == ".flac" and path.name.startswith(f"{speaker.name}-{chapter.name}-")
        for speaker in folders_in(subset)
        for chapter in folders_in(speaker)
        for path in files_in(chapter)
    )


def _listing(folder: Path) -> tuple[list[Path], list[Path]]:
    try:
        with os.scandir(folder) as entries:
            found = sorted((e.name, e.is_dir()) for e in entries if not e.name.startswith("."))
    except OSError as error:
        problem = f"cannot be listed ({error.strerror or error})"
        raise CorpusError(folder, problem, "Check its permissions") from error
    folders = [folder / name for name, is_folder in found if is_folder]
    return folders, [folder / name for name, is_folder in found if not is_folder]
