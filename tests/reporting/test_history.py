from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.history import (
    append_run,
    changes,
    history_html,
    history_markdown,
    history_table,
    read_history,
)
from amt_pipeline.reporting.history_figures import history_figure, history_image
from amt_pipeline.reporting.record import ExperimentRecord, JointScores, NetworkResult, Scores


def run(day: int, f1: float | None, *, data: str = "maestro-hash", **settings: Any):
    joint = None
    if f1 is not None:
        joint = JointScores(
            precision=f1, recall=f1, f1=f1, low=f1 - 0.01, high=f1 + 0.01, n_pieces=125
        )
    return ExperimentRecord(
        run_id=f"run/{day:02d}-{'x' * 20}",
        time_utc=f"2025-03-{day:02d}T12:00:00Z",
        preset="maestro",
        data_fingerprint=data,
        networks={"onset": NetworkResult(validation=Scores(f1=0.8))},
        joint=joint,
        hyper_parameters={"onset": {"training": {"epochs": 2} | settings}},
    )


def test_history_is_kept_in_files_and_read_in_order_of_time(tmp_path: Path) -> None:
    runs = [run(3, 0.93), run(1, 0.91), run(2, 0.92)]
    names = [append_run(tmp_path, record).name for record in runs]
    assert names[0] == "20250303T120000Z-run03-xx.json"
    assert sorted(path.name for path in (tmp_path / "history").iterdir()) == sorted(names)
    assert [record.time_utc[8:10] for record in read_history(tmp_path)] == ["01", "02", "03"]
    assert read_history(tmp_path)[2] == runs[0]


def test_a_file_is_never_rewritten(tmp_path: Path) -> None:
    first = append_run(tmp_path, run(1, 0.91))
    content = first.read_bytes()
    assert append_run(tmp_path, run(1, 0.91)) == first
    other = append_run(tmp_path, run(1, 0.99))
    assert other.name == "20250301T120000Z-run01-xx-2.json"
    assert first.read_bytes() == content
    assert len(read_history(tmp_path)) == 2


def test_run_id_of_odd_characters_makes_a_file_name(tmp_path: Path) -> None:
    odd = run(1, 0.9).model_copy(update={"run_id": "../../é"})
    assert append_run(tmp_path, odd).parent == tmp_path / "history"
    assert append_run(tmp_path, odd).name == "20250301T120000Z-run.json"


def test_broken_files_are_skipped_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = append_run(tmp_path, run(1, 0.91))
    (good.parent / "20250302T120000Z-cut.json").write_text(good.read_text()[:100])
    (good.parent / "20250303T120000Z-other.json").write_text('{"a": 1}')
    (good.parent / ".tmp-half.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert [record.time_utc for record in read_history(tmp_path)] == ["2025-03-01T12:00:00Z"]
    assert len(caplog.messages) == 2
    assert "20250302T120000Z-cut.json" in caplog.text
    assert "20250303T120000Z-other.json" in caplog.text


def test_no_history_yet(tmp_path: Path) -> None:
    assert read_history(tmp_path) == []
    assert history_table([]).empty
    assert "# Runs" in history_markdown([])


def test_changed_lists_what_differs_from_the_run_before() -> None:
    first, second = run(1, 0.9), run(2, 0.9, epochs=4, batch_size=512)
    assert changes(None, first) == "first run"
    assert changes(first, first) == ""
    assert changes(first, second) == (
        "onset.training.epochs: 2 → 4; onset.training.batch_size: – → 512"  # noqa: RUF001
    )
    assert changes(second, run(3, 0.9, data="other-hash")) == (
        "data: maestro- → other-ha; onset.training.epochs: 4 → 2; "
        "onset.training.batch_size: 512 → –"  # noqa: RUF001
    )


def test_none_and_absent_differ() -> None:
    assert changes(run(1, 0.9), run(2, 0.9, pos_weight=None)).endswith("pos_weight: – → None")  # noqa: RUF001


def test_best_is_marked_among_runs_on_the_same_data() -> None:
    records = [
        run(1, 0.91), run(2, 0.95), run(3, None), run(4, 0.95), run(5, 0.99, data="demo-hash"),
    ]  # fmt: skip
    table = history_table(records)
    assert table["best"].tolist() == [False, True, False, False, True]
    assert table["joint_f1"].isna().tolist() == [False, False, True, False, False]
    assert table["onset F1"].tolist() == [0.8] * 5
    assert table["changed"].tolist()[:2] == ["first run", ""]


def test_pages_show_newest_first_and_mark_the_best() -> None:
    records = [run(1, 0.91), run(2, 0.95), run(3, None)]
    lines = history_markdown(records).splitlines()
    assert [line[2:12] for line in lines[4:]] == ["2025-03-03", "2025-03-02", "2025-03-01"]
    assert "| 95.00 | 94.00-96.00 | best |" in lines[5]
    assert f"| {style.UNKNOWN} | {style.UNKNOWN} |  |" in lines[4]
    page = history_html(records)
    assert page.count("<tr class=mark>") == 1
    assert page.index("2025-03-03") < page.index("2025-03-01")


def test_page_embeds_the_figure(tmp_path: Path) -> None:
    records = [run(1, 0.91), run(2, 0.95)]
    path = style.save_png(history_image(records), tmp_path / "history.png")
    assert "data:image/png;base64," in history_html(records, [path])


def test_figures_show_scored_runs_by_data() -> None:
    records = [
        run(1, 0.91), run(2, 0.95), run(3, None), run(4, 0.94), run(5, 0.7, data="demo-hash"),
    ]  # fmt: skip
    figure = history_figure(records)
    lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
    assert [trace.name for trace in lines] == ["maestro (data maestro-)", "maestro (data demo-has)"]
    assert list(lines[0].x) == [1, 2, 4] and list(lines[1].x) == [5]
    assert lines[0].error_y.array[0] == pytest.approx(1.0)
    assert "F1 95.00 [94.00, 96.00]" in lines[0].text[1]
    assert "first run" in lines[0].text[0]
    stars = [list(trace.x) for trace in figure.data if trace.mode == "markers+text"]
    assert stars == [[2], [5]]
    notes = [text.get_text() for text in history_image(records).axes[0].texts]
    assert notes == ["best 95.00", "best 70.00"]


def test_runs_without_names_for_data_and_preset() -> None:
    plain = [run(1, 0.9, data="").model_copy(update={"preset": ""})]
    assert history_figure(plain).data[0].name == "runs"


def test_no_scored_run_is_an_error() -> None:
    with pytest.raises(UserError, match="no run with a joint score"):
        history_figure([run(1, None)])
    with pytest.raises(UserError, match="no run with a joint score"):
        history_image([])
