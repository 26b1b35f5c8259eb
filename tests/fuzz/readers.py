"""All readers of foreign bytes, by name."""

from __future__ import annotations

import readers_corpus
import readers_models
import readers_phonemes
import readers_store
from reader_kit import Reader

READERS: dict[str, Reader] = {
    **readers_corpus.READERS,
    **readers_store.READERS,
    **readers_models.READERS,
    **readers_phonemes.READERS,
}
