"""What is stored of a recording is of the files that the manifest names, or it is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amt_pipeline.core.errors import StoreError
from amt_pipeline.transcription.contents import check_frames, check_notes


@pytest.fixture
def ingested(make_corpus: Callable[..., Path], ingest: Callable[..., Any]) -> Any:
    """Manifest of three recordings whose frames and notes are in the test's `data`."""
    return ingest(make_corpus()).manifest


def test_what_was_ingested_belongs_to_the_manifest(ingested: Any, tmp_path: Path) -> None:
    check_frames(ingested, tmp_path / "data" / "frames")
    check_notes(ingested, tmp_path / "data" / "notes")
    check_frames(ingested[:0], tmp_path / "data" / "frames")


@pytest.mark.parametrize(
    ("column", "check", "folder"),
    [("audio_sha256", check_frames, "frames"), ("midi_sha256", check_notes, "notes")],
)
def test_other_content_is_named(
    column: str, check: Callable[..., None], folder: str, ingested: Any, tmp_path: Path
) -> None:
    name = ingested.loc[1, "recording_id"]
    ingested.loc[1, column] = "0" * 64
    with pytest.raises(StoreError, match=f"1 recordings were made from other files.*{name}") as no:
        check(ingested, tmp_path / "data" / folder)
    assert "--pipelines ingest_maestro` again" in no.value.remedy
    check(ingested[ingested["recording_id"] != name], tmp_path / "data" / folder)


@pytest.mark.parametrize("text", [None, "{}", "[]", "{"])
def test_note_table_without_facts_is_named(text: str | None, ingested: Any, tmp_path: Path) -> None:
    notes = tmp_path / "data" / "notes"
    facts = notes / f"{ingested.loc[0, 'recording_id']}.json"
    facts.unlink() if text is None else facts.write_text(text)
    with pytest.raises(StoreError, match=f"{facts.name}: does not say what"):
        check_notes(ingested, notes)
