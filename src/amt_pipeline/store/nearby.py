"""Which folder a user may have meant who named one above or below a corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.core.wording import some_of

LEVELS_ABOVE = 3
"""How far up is looked: LibriSpeech's chapters lie three folders below the corpus."""

N_SHOWN = 3


def suggest_corpus(root: Path, is_corpus: Callable[[Path], bool]) -> str:
    """Return the corpora beside a folder as a question, `Did you mean <folder>?`; else nothing.

    Args:
        root: Absolute path of what was named: a folder that is no corpus, or a file.
        is_corpus: Tells whether a folder looks like one. It may raise `OSError` or `CorpusError`
            for a folder that it cannot look at, which then is none.
    """
    inside = list(_that_are(_folders(root), is_corpus))
    above = _that_are(root.parents[:LEVELS_ABOVE], is_corpus)
    found = inside or list(islice(above, 1))
    names = some_of([str(path) for path in found], most=N_SHOWN, separator=" or ")
    return f"Did you mean {names}?" if names else ""


def _that_are(paths: Iterable[Path], is_corpus: Callable[[Path], bool]) -> Iterator[Path]:
    for path in paths:
        try:
            if is_corpus(path):
                yield path
        except (OSError, CorpusError):
            continue


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []
