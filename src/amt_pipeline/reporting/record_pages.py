"""The experiment record for people: as Markdown for a repository, as HTML for a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amt_pipeline.reporting.html import Page, format_cell
from amt_pipeline.reporting.record import (
    ExperimentRecord,
    hyper_parameter_lines,
    joint_line,
    score_table,
)
from amt_pipeline.reporting.style import UNKNOWN, label

if TYPE_CHECKING:
    import pandas as pd


def to_markdown(record: ExperimentRecord) -> str:
    """Return a record as Markdown: scores, hyper-parameter lines, then everything else."""
    scores = score_table(record)
    scores.columns = [" ".join(column).strip() for column in scores.columns]
    tuned, others = hyper_parameter_lines(record.hyper_parameters)
    parts = [
        f"# {markdown_text(_heading(record))}",
        markdown_table(scores),
        joint_line(record),
        *_code_block(tuned),
        "## Checkpoints",
        markdown_table(checkpoint_table(record)),
        *(f"- Warning, {name}: {markdown_text(text)}" for name, text in _warnings(record)),
        "## Run",
        markdown_table(run_table(record)),
        *(["## Other settings", *_code_block(others)] if others else []),
    ]
    return "\n\n".join(parts) + "\n"


def to_html(record: ExperimentRecord, figures: Sequence[Path] = ()) -> str:
    """Return a record as a page that stands alone.

    Args:
        record: The run.
        figures: PNG files, embedded; other files are linked by name, as they lie beside the page.

    Raises:
        UserError: A PNG file is missing.
    """
    page = Page(_heading(record), f"{record.time_utc}, {record.code}")
    page.table(score_table(record))
    page.paragraph(joint_line(record))
    tuned, others = hyper_parameter_lines(record.hyper_parameters)
    if tuned:
        page.preformatted("\n".join(tuned))
    page.section("Checkpoints")
    page.table(checkpoint_table(record))
    for name, text in _warnings(record):
        page.paragraph(f"Warning, {name}: {text}")
    if figures:
        page.section("Figures")
    for path in figures:
        if Path(path).suffix == ".png":
            page.image(path, label(Path(path).stem))
        else:
            page.link(Path(path).name, Path(path).name)
    page.section("Run")
    page.table(run_table(record))
    if others:
        page.section("Other settings")
        page.preformatted("\n".join(others))
    return page.render()


def checkpoint_table(record: ExperimentRecord) -> pd.DataFrame:
    """Return the chosen checkpoint of each network: `network, step, threshold`."""
    import pandas as pd

    rows = [
        (
            name,
            f"{result.step:,}" if result.step is not None else UNKNOWN,
            UNKNOWN if result.threshold is None else f"{result.threshold:g}",
        )
        for name, result in record.networks.items()
    ]
    return pd.DataFrame(rows, columns=["network", "step", "threshold"])


def run_table(record: ExperimentRecord) -> pd.DataFrame:
    """Return what identifies the run."""
    import pandas as pd

    rows = [
        ("run", record.run_id),
        ("time", record.time_utc),
        ("preset", record.preset or UNKNOWN),
        ("code", record.code or UNKNOWN),
        ("data", record.data_fingerprint or UNKNOWN),
    ]
    return pd.DataFrame(rows, columns=["", "value"])


def markdown_table(frame: pd.DataFrame) -> str:
    """Return a table as Markdown; cells cannot break out of it."""
    rows = [list(frame.columns), ["---"] * frame.shape[1], *frame.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(markdown_text(cell) for cell in row)} |" for row in rows)


def markdown_text(value: object) -> str:
    """Return a value as the text of a Markdown cell: no bar, line end or tag gets through."""
    text = " ".join(format_cell(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _heading(record: ExperimentRecord) -> str:
    return f"Experiment {record.run_id}" + (f" ({record.preset})" if record.preset else "")


def _warnings(record: ExperimentRecord) -> list[tuple[str, str]]:
    return [(name, text) for name, result in record.networks.items() for text in result.warnings]


def _code_block(lines: list[str]) -> list[str]:
    # Four ticks: a setting may hold three.
    return ["````\n" + "\n".join(lines) + "\n````"] if lines else []
