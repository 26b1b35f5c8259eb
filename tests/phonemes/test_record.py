"""The record of a phoneme run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from html import escape
from typing import Any

import numpy as np
import pytest

from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.answers import Answers
from amt_pipeline.phonemes.models import ModelConfig
from amt_pipeline.phonemes.record import REFERENCE_NOTE, REFERENCE_SCORES, compose_record
from amt_pipeline.phonemes.scoring import score_answers
from amt_pipeline.reporting import style
from amt_pipeline.reporting.run_page import Provenance
from amt_pipeline.training.config import TrainingConfig
from amt_pipeline.training.result import TrainingResult

MODEL = ModelConfig(kind="mlp", window_frames=3, hidden_layers=6, hidden_units=64)
Compose = Callable[..., tuple[dict[str, Any], str, str]]


@pytest.fixture
def compose(make_libriphone, ingest) -> Compose:
    corpus = ingest(make_libriphone(test_labels=True)).summary
    config = {"features": MfccSpec().model_dump(), "model": MODEL.model_dump()}
    training = TrainingResult(
        "phoneme", 400, 36, 31_017, ["step-0000400"], "cpu", 1, "float32", "f",
        {**config, "training": TrainingConfig().model_dump()}, [],
    )  # fmt: skip
    scores = {"accuracy": 0.7, "loss": 1.0, "pooled_accuracy": 0.71234, "pooled_loss": None}
    best = {
        "step": 400, "reason": "highest accuracy", "warnings": ["the leader is the last"],
        "n_checkpoints": 1, "train": {**scores, "pooled_accuracy": 0.91234}, "validation": scores,
    }  # fmt: skip
    chances = np.full((8, 41), 0.01)
    chances[:, 3] = 0.6
    answers = [
        Answers(f"9-1-{n}", "9", chances, np.array([3, 3, 3, 3, 3, 0, 0, 7])) for n in range(2)
    ]
    test = score_answers(answers, corpus["classes"], 0)

    def call(labelled: bool = True, **more: Any) -> tuple[dict[str, Any], str, str]:
        scored = test if labelled else score_answers([], corpus["classes"], 0)
        return compose_record(
            **{
                "preset": "strong",
                "corpus": corpus,
                "training": {**asdict(training), **more.pop("training", {})},
                "best": best,
                "test": scored.summary,
                "per_class": scored.per_class,
                "provenance": Provenance(time_utc="2026-01-01T00:00:00Z", code_version="0.1"),
                **more,
            }
        )

    return call


def test_ours_and_the_reference_stand_apart(compose):
    record, markdown, html = compose()
    json.dumps(record, allow_nan=False)
    assert {split: row["accuracy"] for split, row in record["accuracy"].items()} == {
        "train": 0.91234, "validation": 0.71234, "test": 0.625,
    }  # fmt: skip
    ours, reference = markdown.split("## The reference's scores")
    assert "| test | 62.50 | 62.50 |" in ours and "| train | 91.23 | 70.00 |" in ours
    for score in REFERENCE_SCORES.values():
        assert f"{score:.5f}" in reference and f"{score:.5f}" not in ours
        assert f"{100 * score:.2f}" not in ours
    assert REFERENCE_NOTE in reference and escape(REFERENCE_NOTE) in html
    assert "Warning: the leader is the last" in html


def test_parameters_are_told_by_formula(compose):
    record, markdown, _ = compose()
    assert record["network"]["parameters_by_formula"] == 31_017
    assert (
        "31,017 (counted: 31,017)" in markdown and "| output.weight | 41 x 64 | 2,624 |" in markdown
    )
    record, _, html = compose(training={"parameters": 31_018})
    assert "the formula gives 31,017 parameters" in html and len(record["warnings"]) == 3


def test_a_corpus_without_test_labels_leaves_dashes(compose):
    record, markdown, html = compose(labelled=False, notes=("1 of 2 is in quarantine",))
    assert record["accuracy"]["test"]["accuracy"] is None
    assert f"| test | {style.UNKNOWN} | {style.UNKNOWN} |" in markdown
    assert "there is nothing to score" in html and "1 of 2 is in quarantine" in html


def test_the_same_run_has_the_same_name(compose, tmp_path):
    style.save_png(style.new_figure(1, 1), tmp_path / "confusion.png")
    later = Provenance(time_utc="2026-01-02T00:00:00Z", code_version="0.1")
    first, second = compose()[0], compose(provenance=later)[0]
    assert first["run_id"] == second["run_id"] != compose(preset="simple")[0]["run_id"]
    _, markdown, html = compose(images={"Confusions": tmp_path / "confusion.png"}, folder=tmp_path)
    assert "![Confusions](confusion.png)" in markdown and "data:image/png" in html
