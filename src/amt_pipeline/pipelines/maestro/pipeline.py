"""The pipeline `ingest_maestro`."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from amt_pipeline.pipelines.maestro.nodes import ingest_recordings, locate_corpus


def create_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines of this family by name."""
    locate = Node(
        locate_corpus,
        inputs=["params:maestro", "demo_corpus_folder"],
        outputs="corpus",
        name="locate_corpus",
        tags=["cpu"],
    )
    ingest = Node(
        ingest_recordings,
        inputs={
            "corpus": "corpus",
            "maestro": "params:maestro",
            "demo_folder": "demo_corpus_folder",
            "preset": "params:preset",
            "presets": "params:presets",
            "features": "params:features",
            "ingest": "params:ingest",
            "parallel": "params:parallel",
            "notes_folder": "notes_folder",
            "frames_folder": "frames_folder",
        },
        outputs=["manifest", "quarantine", "corpus_summary"],
        name="ingest_recordings",
        tags=["cpu"],
    )
    return {"ingest_maestro": Pipeline([locate, ingest])}
