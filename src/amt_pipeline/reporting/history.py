"""The history of all runs: one file per run, never rewritten, and the table that compares them.

Every run is kept, better or not: what was tried and did not help is half of what a history is for.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.files import TEMPORARY_PREFIX, write_text
from amt_pipeline.core.values import flatten
from amt_pipeline.reporting import style
from amt_pipeline.reporting.html import Page
from amt_pipeline.reporting.record import (
    ExperimentRecord,
    format_value,
    read_record,
    to_json,
)
from amt_pipeline.reporting.record_pages import markdown_table

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

FOLDER = "history"
SHORT_ID = 8


def append_run(reporting_folder: str | PathLike[str], record: ExperimentRecord) -> Path:
    """Add a run to the history.

    Args:
        reporting_folder: Folder of reports; the history is `history/` below it.
        record: The run. Adding the same record again changes nothing.

    Returns:
        The new file, `<UTC time>-<short id>.json`, or the one that holds this record already.

    Raises:
        StorageError: The disk refused.
    """
    time = re.sub(r"[^0-9TZ]", "", record.time_utc)
    short = re.sub(r"[^A-Za-z0-9_-]", "", record.run_id)[:SHORT_ID] or "run"
    text, attempt = to_json(record), 1
    while True:
        suffix = f"-{attempt}" if attempt > 1 else ""
        path = Path(reporting_folder) / FOLDER / f"{time}-{short}{suffix}.json"
        if not path.exists():
            write_text(path, text)
            return path
        if path.read_text(encoding="utf-8") == text:
            return path
        attempt += 1


def read_history(reporting_folder: str | PathLike[str]) -> list[ExperimentRecord]:
    """Return all runs, oldest first; a broken file is skipped with a warning that names it."""
    records: list[ExperimentRecord] = []
    for path in sorted((Path(reporting_folder) / FOLDER).glob("*.json")):
        if path.name.startswith(TEMPORARY_PREFIX):
            continue
        try:
            records.append(read_record(path))
        except UserError as error:
            logger.warning("Skipped in the history: %s", error)
    return sorted(records, key=lambda record: record.time_utc)


def history_table(records: Sequence[ExperimentRecord]) -> pd.DataFrame:
    """Return one row per run, oldest first.

    Returns:
        Columns `time, run, preset, <network> F1` (validation) for every network that occurs,
        `joint_precision, joint_recall, joint_f1, low, high, n_pieces` (fractions), `best`, `code`,
        `data`, `changed`. Best is the highest joint F1 among the runs on the same data: scores on
        other data do not compare. `changed` lists what differs from the run before, such as
        `onset.training.epochs: 2 → 4`.
    """
    import pandas as pd

    networks = list(dict.fromkeys(name for record in records for name in record.networks))
    best = _best_runs(records)
    rows = []
    for position, record in enumerate(records):
        joint = record.joint.model_dump() if record.joint else {}
        before = records[position - 1] if position else None
        rows.append(
            {"time": record.time_utc, "run": record.run_id, "preset": record.preset}
            | {f"{name} F1": _validation_f1(record, name) for name in networks}
            | {f"joint_{name}": joint.get(name) for name in ("precision", "recall", "f1")}
            | {name: joint.get(name) for name in ("low", "high", "n_pieces")}
            | {"best": position in best, "code": record.code}
            | {"data": record.data_fingerprint[:SHORT_ID], "changed": changes(before, record)}
        )
    columns = ["time", "run", "preset", *(f"{name} F1" for name in networks)]
    columns += ["joint_precision", "joint_recall", "joint_f1", "low", "high", "n_pieces"]
    return pd.DataFrame(rows, columns=[*columns, "best", "code", "data", "changed"])


def changes(before: ExperimentRecord | None, after: ExperimentRecord) -> str:
    """Return what differs in settings, preset and data, `path: old → new`, joined by `; `."""
    if before is None:
        return "first run"
    old, new = _settings(before), _settings(after)
    return "; ".join(
        f"{path}: {_shown(old, path)} → {_shown(new, path)}"
        for path in dict.fromkeys([*new, *old])
        if old.get(path, _ABSENT) != new.get(path, _ABSENT)
    )


def history_markdown(records: Sequence[ExperimentRecord]) -> str:
    """Return the history as Markdown, newest first, the best run marked."""
    return f"# Runs\n\n{markdown_table(_for_people(records))}\n"


def history_html(records: Sequence[ExperimentRecord], figures: Sequence[Path] = ()) -> str:
    """Return the history as a page that stands alone, newest first.

    Args:
        records: The runs, oldest first.
        figures: PNG files to embed, such as the saved `history_image`.

    Raises:
        UserError: A figure is missing.
    """
    page = Page("Runs", f"{len(records)} runs; best is marked among runs on the same data")
    for path in figures:
        page.image(path)
    table = _for_people(records)
    page.table(table, marked=[flag == "best" for flag in table["best"]])
    return page.render()


_ABSENT = object()


def _settings(record: ExperimentRecord) -> dict[str, Any]:
    about = {"preset": record.preset, "data": record.data_fingerprint[:SHORT_ID]}
    return about | flatten(record.hyper_parameters)


def _shown(settings: dict[str, Any], path: str) -> str:
    return format_value(settings[path]) if path in settings else style.UNKNOWN


def _validation_f1(record: ExperimentRecord, network: str) -> float | None:
    result = record.networks.get(network)
    return result.validation.f1 if result and result.validation else None


def _best_runs(records: Sequence[ExperimentRecord]) -> set[int]:
    """Return the positions of the best runs, one per data; of equals the first."""
    best: dict[str, tuple[float, int]] = {}
    for position, record in enumerate(records):
        f1 = record.joint.f1 if record.joint else None
        so_far = best.get(record.data_fingerprint)
        if f1 is not None and (so_far is None or f1 > so_far[0]):
            best[record.data_fingerprint] = (f1, position)
    return {position for _, position in best.values()}


def _for_people(records: Sequence[ExperimentRecord]) -> pd.DataFrame:
    """Return the table newest first, percentages as text, the interval in one column."""
    import pandas as pd

    table = history_table(records).iloc[::-1]
    shown = pd.DataFrame({name: table[name] for name in ("time", "run", "preset")})
    for name in [name for name in table.columns if name.endswith(" F1")]:
        shown[name] = [_percent(value) for value in table[name]]
    for short, name in (("P", "precision"), ("R", "recall"), ("F1", "f1")):
        shown[f"joint {short}"] = [_percent(value) for value in table[f"joint_{name}"]]
    shown["95 %"] = [
        f"{_percent(low)}-{_percent(high)}" if pd.notna(low) else style.UNKNOWN
        for low, high in zip(table["low"], table["high"], strict=True)
    ]
    shown["best"] = ["best" if flag else "" for flag in table["best"]]
    return shown.assign(data=table["data"], code=table["code"], changed=table["changed"])


def _percent(value: Any) -> str:
    return style.percent(None if value is None else float(value))
