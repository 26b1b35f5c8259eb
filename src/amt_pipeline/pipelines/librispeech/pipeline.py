"""The pipeline `ingest_librispeech`."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from amt_pipeline.pipelines.librispeech.nodes import ingest_utterances, locate_speech


def create_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines of this family by name."""
    locate = Node(
        locate_speech,
        inputs=["params:librispeech", "params:parallel", "librispeech_demo_folder"],
        outputs="librispeech_corpus",
        name="locate_speech",
        tags=["cpu"],
    )
    ingest = Node(
        ingest_utterances,
        inputs={
            "corpus": "librispeech_corpus",
            "librispeech": "params:librispeech",
            "demo_folder": "librispeech_demo_folder",
            "features": "params:phoneme_features",
            "parallel": "params:parallel",
            "labels_folder": "librispeech_labels_folder",
            "frames_folder": "librispeech_frames_folder",
        },
        outputs=["librispeech_manifest", "librispeech_quarantine", "librispeech_summary"],
        name="ingest_utterances",
        tags=["cpu"],
    )
    return {"ingest_librispeech": Pipeline([locate, ingest])}
