"""Nodes of `ingest_librispeech`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.phonemes.config import LibrispeechConfig

logger = logging.getLogger(__name__)


def locate_speech(
    librispeech: dict[str, Any], parallel: dict[str, Any], demo_folder: Path
) -> dict[str, Any]:
    """Return where the corpus is; make the demo corpus when none is configured."""
    from amt_pipeline.core.parallel import ParallelConfig
    from amt_pipeline.phonemes.config import LibrispeechConfig

    config = LibrispeechConfig.of_parameters(librispeech)
    corpus = _place(config, demo_folder)
    if config.root is None:
        from amt_pipeline.phonemes.demo import make_demo_corpus

        logger.info(
            "No corpus configured: using the demo corpus in %s "
            "(your own: --params librispeech.root=<folder>)",
            corpus["root"],
        )
        make_demo_corpus(
            Path(corpus["root"]),
            layout=corpus["layout"],
            config=config.demo,
            workers=ParallelConfig.model_validate(parallel).workers,
        )
    return corpus


def ingest_utterances(
    corpus: dict[str, Any],
    librispeech: dict[str, Any],
    demo_folder: Path,
    features: dict[str, Any],
    parallel: dict[str, Any],
    labels_folder: Path,
    frames_folder: Path,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Return manifest, quarantine and summary; frames and labels are written on the way.

    Raises:
        ConfigError: The corpus that was located is not the one that the parameters name.
    """
    from amt_pipeline.core.parallel import ParallelConfig
    from amt_pipeline.phonemes.config import LibrispeechConfig
    from amt_pipeline.phonemes.corpus_ingest import ingest_corpus
    from amt_pipeline.phonemes.parameters import resolve_features
    from amt_pipeline.pipelines.corpora import require_located

    config = LibrispeechConfig.of_parameters(librispeech)
    require_located(corpus, _place(config, demo_folder), "librispeech", "ingest_librispeech")
    result = ingest_corpus(
        Path(corpus["root"]),
        config=config,
        spec=resolve_features(features),
        store_folder=frames_folder,
        labels_folder=labels_folder,
        parallel=ParallelConfig.model_validate(parallel),
    )
    return result.manifest, result.quarantine, result.summary


def _place(config: LibrispeechConfig, demo_folder: Path) -> dict[str, Any]:
    if config.root is not None:
        root = str(Path(config.root).expanduser().absolute())
        return {"root": root, "layout": config.layout}
    # Sound is what a newcomer can listen to; both layouts are made side by side.
    layout = "librispeech" if config.layout == "auto" else config.layout
    return {
        "root": str(demo_folder / layout),
        "layout": layout,
        "demo": config.demo.model_dump(),
    }
