from __future__ import annotations

import json
import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.record import (
    ExperimentRecord,
    JointScores,
    NetworkResult,
    Scores,
    format_value,
    from_json,
    hyper_parameter_lines,
    joint_line,
    plain,
    read_record,
    score_table,
    to_json,
)
from amt_pipeline.reporting.record_pages import (
    markdown_table,
    markdown_text,
    to_html,
    to_markdown,
)


def record(**change: Any) -> ExperimentRecord:
    """The figures that the reference document reports."""
    fields: dict[str, Any] = {
        "run_id": "run-1",
        "time_utc": "2020-10-20T20:00:00+08:00",
        "preset": "maestro",
        "code_version": "0.1.0",
        "git_sha": "0123456789abcdef",
        "git_dirty": True,
        "data_fingerprint": "feed5eed",
        "networks": {
            "onset": NetworkResult(
                train=Scores(precision=0.9330, recall=0.9063, f1=0.9195),
                validation=Scores(precision=0.8671, recall=0.8656, f1=0.8664),
                step=140_000,
                threshold=0.5,
                warnings=("the leader is the last\ncheckpoint | saved",),
            ),
            "pitch": {
                "train": {"precision": 0.9112, "recall": 0.8815, "f1": 0.8961},
                "validation": {"precision": 0.8999, "recall": 0.8546, "f1": 0.8767},
                "step": 34_000,
            },
        },
        "joint": JointScores(
            precision=0.9724, recall=0.9314, f1=0.9511, low=0.945, high=0.9565, n_pieces=125
        ),
        "hyper_parameters": {
            "onset": {"loss": {"pos_weight": None, "fc_l2": 1e-4}, "training": {"epochs": 40}},
            "pitch": {"loss": {"pos_weight": 2}, "training": {"epochs": 50}},
            "decode": {"onset_threshold": 0.5},
            "seed": 1,
        },
    }
    return ExperimentRecord(**(fields | change))


def test_markdown_has_the_table_of_the_reference() -> None:
    lines = to_markdown(record()).splitlines()
    dash = style.UNKNOWN
    blank = f" {dash} | {dash} | {dash} |"
    scores = [
        f"{split} {score}" for split in ("train", "eval", "test") for score in ("P", "R", "F1")
    ]
    assert f"|  | {' | '.join(scores)} |" in lines
    assert f"| onset | 93.30 | 90.63 | 91.95 | 86.71 | 86.56 | 86.64 |{blank}" in lines
    assert f"| pitch | 91.12 | 88.15 | 89.61 | 89.99 | 85.46 | 87.67 |{blank}" in lines
    assert f"| joint |{blank}{blank} 97.24 | 93.14 | 95.11 |" in lines
    assert "Joint note F1 95.11 % [94.50, 95.65] (95 %), 125 test pieces." in lines


def test_markdown_has_hyper_parameter_lines_and_everything_else() -> None:
    text = to_markdown(record())
    first = text.split("````")[1].strip().splitlines()
    assert first == [
        "onset pos_weight = None",
        "onset fc_l2 = 0.0001",
        "pitch pos_weight = 2",
        "decode onset_threshold = 0.5",
    ]
    for expected in (
        "# Experiment run-1 (maestro)",
        "onset epochs = 40",
        "seed = 1",
        "| onset | 140,000 | 0.5 |",
        f"| pitch | 34,000 | {style.UNKNOWN} |",
        "- Warning, onset: the leader is the last checkpoint \\| saved",
        "| time | 2020-10-20T12:00:00Z |",
        "| code | 0.1.0 (git 01234567, changed) |",
        "| data | feed5eed |",
    ):
        assert expected in text.splitlines()


def test_ambiguous_names_keep_their_path() -> None:
    settings = {"onset": {"a": {"epochs": 1}, "b": {"epochs": 2}}, "pitch": {"a": {"epochs": 3}}}
    assert hyper_parameter_lines(settings) == (
        [],
        ["onset a.epochs = 1", "onset b.epochs = 2", "pitch epochs = 3"],
    )


def test_unfinished_run() -> None:
    unfinished = record(joint=None, networks={"onset": NetworkResult()}, hyper_parameters={})
    text = to_markdown(unfinished)
    assert "No joint score" in text and "````" not in text
    assert set(score_table(unfinished).iloc[0][1:]) == {style.UNKNOWN}
    assert joint_line(unfinished).startswith("No joint score")
    assert "Other settings" not in to_html(unfinished)


def test_html_embeds_images_and_links_pages(tmp_path: Path) -> None:
    image = style.save_png(style.new_figure(1, 1), tmp_path / "onset_ranking.png")
    page = to_html(record(run_id="<b>"), [image, tmp_path / "roll.html"])
    assert "<b>" not in page and "Experiment &lt;b&gt; (maestro)" in page
    assert "data:image/png;base64," in page and "<figcaption>onset ranking</figcaption>" in page
    assert '<a href="roll.html">roll.html</a>' in page
    assert '<th colspan="3">train</th><th colspan="3">eval</th>' in page
    assert "onset pos_weight = None" in page and "onset epochs = 40" in page
    assert "checkpoint | saved" in page


def test_json_round_trip(tmp_path: Path) -> None:
    original = record()
    assert from_json(to_json(original)) == original
    (tmp_path / "record.json").write_text(to_json(original), encoding="utf-8")
    assert read_record(tmp_path / "record.json") == original
    assert list(from_json(to_json(original)).networks) == ["onset", "pitch"]


def test_values_that_json_cannot_hold_are_made_plain() -> None:
    awkward = {
        "norm": math.inf,
        "path": PurePosixPath("a/b"),
        "sizes": (1, 2),
        "count": np.int64(3),
        "weights": np.array([0.5, math.nan]),
        "nested": {1: Scores(f1=0.5)},
        "flag": True,
    }
    kept = record(hyper_parameters=awkward).hyper_parameters
    assert kept == {
        "norm": "inf",
        "path": "a/b",
        "sizes": [1, 2],
        "count": 3,
        "weights": [0.5, "nan"],
        "nested": {"1": {"precision": None, "recall": None, "f1": 0.5}},
        "flag": True,
    }
    assert json.loads(json.dumps(plain(awkward), allow_nan=False)) == kept
    undefined = record(joint=JointScores(f1=math.nan, n_pieces=0))
    assert from_json(to_json(undefined)).joint == JointScores(f1=None, n_pieces=0)


def test_times_are_kept_in_utc_and_need_a_zone() -> None:
    assert record(time_utc="2025-01-01T00:30:00+01:00").time_utc == "2024-12-31T23:30:00Z"
    with pytest.raises(ValidationError, match="without a zone"):
        record(time_utc="2025-01-01T00:30:00")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "somewhere: not JSON"),
        ("[1]", "not an experiment record"),
        ('{"run_id": "x"}', "time_utc: Field required"),
        ('{"run_id": "x", "time_utc": "2025-01-01T00:00:00Z", "f1": 1}', "f1: Extra inputs"),
    ],
)
def test_what_is_no_record_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_json(text, where="somewhere")


def test_code_line() -> None:
    assert record(git_dirty=False).code == "0.1.0 (git 01234567)"
    assert record(git_sha="").code == "0.1.0"


def test_settings_in_one_line() -> None:
    assert [format_value(value) for value in (None, 1e-4, "x y", "a\nb", "", True)] == [
        "None", "0.0001", "x y", '"a\\nb"', '""', "True",
    ]  # fmt: skip


def test_markdown_cells_cannot_break_out() -> None:
    assert markdown_text("a|b\n<script>") == "a\\|b &lt;script>"
    table = score_table(record())
    table.columns = [str(number) for number in range(table.shape[1])]
    assert {line.count(" | ") for line in markdown_table(table).splitlines()} == {9}
