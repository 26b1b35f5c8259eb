"""Nodes of `ingest_maestro`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.transcription.parameters import PresetName

logger = logging.getLogger(__name__)


def locate_corpus(maestro: dict[str, Any], demo_folder: Path) -> dict[str, Any]:
    """Return where the corpus is; make the demo corpus when none is configured."""
    from amt_pipeline.transcription.parameters import MaestroConfig

    config = MaestroConfig.model_validate(maestro)
    if config.root is not None:
        return {"root": str(Path(config.root).expanduser().absolute()), "metadata": config.metadata}
    from amt_pipeline.transcription.demo import make_demo_corpus

    logger.info(
        "No corpus configured: using the demo corpus in %s "
        "(your own: --params maestro.root=<folder of MAESTRO>)",
        demo_folder,
    )
    demo = config.demo
    root = make_demo_corpus(demo_folder, seed=demo.seed, minutes=demo.minutes, n_pieces=demo.pieces)
    return {"root": str(root), "metadata": None}


def ingest_recordings(
    corpus: dict[str, Any],
    preset: PresetName,
    presets: dict[str, Any],
    features: dict[str, Any],
    ingest: dict[str, Any],
    notes_folder: Path,
    frames_folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Return manifest, quarantine and summary; frames and note tables are written on the way."""
    from amt_pipeline.transcription.corpus_ingest import ingest_corpus
    from amt_pipeline.transcription.ingest import IngestConfig
    from amt_pipeline.transcription.parameters import choose_preset, resolve_features

    chosen = choose_preset(preset)
    result = ingest_corpus(
        Path(corpus["root"]),
        corpus["metadata"],
        store_folder=frames_folder,
        notes_folder=notes_folder,
        spec=resolve_features(presets[chosen], features),
        config=IngestConfig.model_validate(ingest),
    )
    return result.manifest, result.quarantine, result.summary
