"""Nodes of `ingest_maestro`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.transcription.parameters import MaestroConfig, PresetName

logger = logging.getLogger(__name__)


def locate_corpus(maestro: dict[str, Any], demo_folder: Path) -> dict[str, Any]:
    """Return where the corpus is; make the demo corpus when none is configured."""
    from amt_pipeline.transcription.parameters import MaestroConfig

    config = MaestroConfig.model_validate(maestro)
    corpus = _place(config, demo_folder)
    if config.root is not None:
        return corpus
    from amt_pipeline.transcription.demo import make_demo_corpus

    logger.info(
        "No corpus configured: using the demo corpus in %s "
        "(your own: --params maestro.root=<folder of MAESTRO>)",
        demo_folder,
    )
    demo = config.demo
    make_demo_corpus(demo_folder, seed=demo.seed, minutes=demo.minutes, n_pieces=demo.pieces)
    return corpus


def ingest_recordings(
    corpus: dict[str, Any],
    maestro: dict[str, Any],
    demo_folder: Path,
    preset: PresetName,
    presets: dict[str, Any],
    features: dict[str, Any],
    ingest: dict[str, Any],
    parallel: dict[str, Any],
    notes_folder: Path,
    frames_folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Return manifest, quarantine and summary; frames and note tables are written on the way.

    Raises:
        ConfigError: The corpus that was located is not the one that the parameters name.
    """
    from amt_pipeline.core.parallel import ParallelConfig
    from amt_pipeline.pipelines.corpora import require_located
    from amt_pipeline.transcription.corpus_ingest import ingest_corpus
    from amt_pipeline.transcription.ingest import IngestConfig
    from amt_pipeline.transcription.parameters import (
        MaestroConfig,
        choose_preset,
        resolve_features,
    )

    place = _place(MaestroConfig.model_validate(maestro), demo_folder)
    require_located(corpus, place, "maestro", "ingest_maestro")
    config = IngestConfig.model_validate(ingest)
    chosen = choose_preset(preset)
    result = ingest_corpus(
        Path(corpus["root"]),
        corpus["metadata"],
        store_folder=frames_folder,
        notes_folder=notes_folder,
        spec=resolve_features(presets[chosen], features),
        config=config,
        parallel=ParallelConfig.model_validate(parallel),
    )
    summary = {**result.summary, "ingest": config.model_dump()}
    return result.manifest, result.quarantine, summary


def _place(config: MaestroConfig, demo_folder: Path) -> dict[str, Any]:
    if config.root is not None:
        return {"root": str(Path(config.root).expanduser().absolute()), "metadata": config.metadata}
    return {"root": str(demo_folder), "metadata": None, "demo": config.demo.model_dump()}
