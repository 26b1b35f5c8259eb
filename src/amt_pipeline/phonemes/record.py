"""The record of a phoneme run: what was trained on what, what it reached, and how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.models import ModelConfig
from amt_pipeline.phonemes.parameter_count import count_table, parameter_total
from amt_pipeline.phonemes.record_tables import (
    accuracy_rows,
    accuracy_table,
    class_rows,
    confusion_rows,
    corpus_rows,
    key_figures,
    reference_rows,
    speakers_note,
    training_rows,
)
from amt_pipeline.reporting.record import plain
from amt_pipeline.reporting.run_page import Provenance, RunPage

if TYPE_CHECKING:
    import pandas as pd

REFERENCE_SCORES: Mapping[str, float] = MappingProxyType(
    {"simple": 0.49798, "medium": 0.66440, "strong": 0.74944, "boss": 0.83017}
)
"""Levels of the course (ML2023, homework 2): public scores on its own test set."""

REFERENCE_NOTE = (
    "The reference's scores, not ours: frame accuracy on the public part of the course's own test "
    "set (ML2023, homework 2), which is another corpus than the one above unless that is the "
    "course's. They say what each level asks for there."
)


def compose_record(
    *,
    preset: str,
    corpus: Mapping[str, Any],
    training: Mapping[str, Any],
    best: Mapping[str, Any],
    test: Mapping[str, Any],
    per_class: pd.DataFrame,
    provenance: Provenance,
    images: Mapping[str, Path] = MappingProxyType({}),
    folder: Path | None = None,
    notes: tuple[str, ...] = (),
) -> tuple[dict[str, Any], str, str]:
    """Return the record of a run as data, Markdown and HTML.

    Args:
        preset: Name of the settings it started from.
        corpus: Summary of the corpus (`corpus_summary.summarise`).
        training: What the training says of itself (`training.TrainingResult`, as a dict).
        best: The chosen checkpoint (`ranking.RankingOutcome.best`).
        test: Scores of the test split (`scoring.PhonemeScores.summary`).
        per_class: Its scores by class (`scoring.PhonemeScores.per_class`).
        provenance: Code, data and time.
        images: PNG files by caption, in order.
        folder: Where the Markdown will lie; images are linked from there.
        notes: Further warnings, such as gaps in the prediction file.

    Raises:
        UserError: An image is missing.
    """
    network = network_facts(training, len(corpus["classes"]))
    warnings = [*best["warnings"], *network.pop("warnings"), *test["warnings"], *notes]
    record = plain(
        {
            "preset": preset,
            **provenance.model_dump(),
            "corpus": {name: corpus[name] for name in corpus if name not in _LARGE},
            "network": {**network, "step": best["step"], "checkpoints": best["n_checkpoints"]},
            "accuracy": accuracy_rows(corpus, best, test),
            "test": test,
            "warnings": warnings,
            "settings": training["config"],
            "reference": {"what": REFERENCE_NOTE, "scores": dict(REFERENCE_SCORES)},
        }
    )
    # The same run, reported again, is the same record.
    record = {"run_id": run_id(record), **record}
    page = _page(record, corpus, training, best, test, per_class, provenance, images, folder)
    return record, page.markdown(), page.html()


def network_facts(training: Mapping[str, Any], n_classes: int) -> dict[str, Any]:
    """Return kind and size of the network; `warnings` where formula and count differ."""
    model = ModelConfig.model_validate(training["config"]["model"])
    bins = MfccSpec.model_validate(training["config"]["features"]).bins
    formula, counted = parameter_total(bins, n_classes, model), int(training["parameters"])
    text = f"the formula gives {formula:,} parameters, the trained network has {counted:,}"
    return {
        "kind": model.kind,
        "window_frames": model.window_frames,
        "parameters_by_formula": formula,
        "parameters": counted,
        "warnings": [] if formula == counted else [text],
    }


def run_id(record: Mapping[str, Any]) -> str:
    """Return a short name of what a record says; the time does not count."""
    content = {name: value for name, value in record.items() if name not in ("run_id", "time_utc")}
    return value_sha256(content)[:8]


_LARGE = frozenset({"class_counts", "classes", "features"})
"""Parts of a corpus summary that a record leaves out."""


def _page(
    record: Mapping[str, Any],
    corpus: Mapping[str, Any],
    training: Mapping[str, Any],
    best: Mapping[str, Any],
    test: Mapping[str, Any],
    per_class: pd.DataFrame,
    provenance: Provenance,
    images: Mapping[str, Path],
    folder: Path | None,
) -> RunPage:
    title = f"Phonemes {record['run_id']} ({record['preset']})"
    page = RunPage(title, f"{provenance.time_utc}, {provenance.code}", folder=folder)
    page.facts(key_figures(corpus, test, record["network"]))
    page.warnings(record["warnings"])
    page.section("Accuracy")
    page.table(
        accuracy_table(record["accuracy"]),
        caption="In percent. Training is scored once, with the chosen checkpoint and without "
        "dropout; the baseline always says the class of most training frames.",
    )
    if images:
        page.section("Figures")
    for caption, path in images.items():
        page.image(path, caption)
    page.section("Classes of the test split")
    page.table(class_rows(per_class), caption="In percent of frames, lowest recall first.")
    if test["top_confusions"]:
        page.table(confusion_rows(test), caption="Most frequent confusions.")
    page.section("Corpus")
    page.table(corpus_rows(corpus), caption=speakers_note(corpus))
    page.section("Network and training")
    page.facts(training_rows(training, best, record["network"]))
    model = ModelConfig.model_validate(training["config"]["model"])
    bins = MfccSpec.model_validate(training["config"]["features"]).bins
    counts = count_table(bins, len(corpus["classes"]), model)
    counts["count"] = [f"{count:,}" for count in counts["count"]]
    page.table(counts, caption="Parameters by tensor.")
    page.section("The reference's scores")
    page.paragraph(REFERENCE_NOTE)
    page.table(reference_rows(REFERENCE_SCORES))
    page.section("Settings")
    page.settings(training["config"])
    page.section("Run")
    page.provenance(provenance, run=record["run_id"], preset=record["preset"])
    return page
