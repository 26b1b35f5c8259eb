"""The report of a study for people: as Markdown for a repository, as HTML for a browser."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.reporting import style
from amt_pipeline.reporting.html import Page
from amt_pipeline.reporting.record_pages import markdown_table, markdown_text

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT = 0.05

HOW_TO_READ = (
    "Scores are means over the validation units, at the checkpoint that each training's ranking "
    "chose, and over seeds; spread is the standard deviation over seeds. Differences to the "
    "reference are paired by unit (seeds averaged), with a bootstrap interval and a paired "
    "sign-flip permutation test, corrected for the number of variants by Holm's method; * is "
    "p < 0.05. Interval and test speak of other units like these; what another training would give "
    "shows in the spread."
)


@dataclass(frozen=True)
class StudyReport:
    """What a page about a study shows.

    Attributes:
        title: Heading.
        question: What it is to answer.
        task: The task that was varied.
        metric: The score that counts.
        unit: What it is per.
        n_units: Validation units.
        reference: The variant that the others are tested against.
        seeds: Of every variant.
        table: See `search.comparison.compare`.
        warnings: What to know before believing the table.
        base: Overrides that all variants share, by dotted name, as text.
        identity: What the trainings were made on (presets, data, device, version): name and value.
    """

    title: str
    question: str
    task: str
    metric: str
    unit: str
    n_units: int
    reference: str
    seeds: Sequence[int]
    table: pd.DataFrame
    warnings: Sequence[str] = ()
    base: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, str] = field(default_factory=dict)


def study_markdown(report: StudyReport, images: Mapping[str, str]) -> str:
    """Return the report as Markdown.

    Args:
        report: The study.
        images: File names of images beside the page, by caption.
    """
    parts = [
        f"# {markdown_text(report.title)}",
        *([markdown_text(report.question)] if report.question else []),
        markdown_text(_summary(report)),
        markdown_table(shown_table(report)),
        *(f"- Note: {markdown_text(text)}" for text in report.warnings),
        *(f"![{markdown_text(caption)}]({file})" for caption, file in images.items()),
        "## How to read this",
        HOW_TO_READ,
        "## Settings",
        markdown_table(_settings(report)),
    ]
    return "\n\n".join(parts) + "\n"


def study_html(
    report: StudyReport, images: Mapping[str, Path], links: Mapping[str, str] | None = None
) -> str:
    """Return the report as a page that stands alone.

    Args:
        report: The study.
        images: PNG files by caption, embedded.
        links: File names beside the page by text: interactive figures, tables.

    Raises:
        UserError: An image is missing.
    """
    page = Page(report.title, report.question)
    page.paragraph(_summary(report))
    page.table(shown_table(report), marked=list(report.table["rank"] == 1))
    for text in report.warnings:
        page.paragraph(f"Note: {text}")
    for caption, path in images.items():
        page.image(path, caption)
    for text, file in (links or {}).items():
        page.link(text, file)
    page.section("How to read this")
    page.paragraph(HOW_TO_READ)
    page.section("Settings")
    page.table(_settings(report))
    return page.render()


def shown_table(report: StudyReport) -> pd.DataFrame:
    """Return the table as people read it: percent, thousands, a star for what is significant."""
    import pandas as pd

    table, metric = report.table, report.metric
    name = style.label(metric)
    shown = {
        "rank": table["rank"],
        "variant": table["variant"],
        "seeds": table["seeds"],
        "parameters": table["parameters"].map(_whole),
        "steps": table["steps"].map(_whole),
        "chosen step": table["chosen_step"].map(_whole),
        "time": table["seconds"].map(_duration),
        f"train {name} (%)": table[f"train_{metric}"].map(style.percent),
        f"validation {name} (%)": table[f"validation_{metric}"].map(style.percent),
        "spread": table["spread"].map(style.percent),
        "lowest to highest": [_range(*ends) for ends in _pairs(table, "lowest", "highest")],
        "to the reference": [_difference(row) for row in table.to_dict("records")],
        "p": [_p(value) for value in table["p_corrected"]],
    }
    if table["note"].astype(bool).any():
        shown["note"] = table["note"]
    return pd.DataFrame(shown)


def _summary(report: StudyReport) -> str:
    best = report.table.iloc[0]
    score = style.percent(best[f"validation_{report.metric}"])
    n_seeds = len(report.seeds)
    return (
        f"Highest: {best['variant']}, {score} % validation {style.label(report.metric)}. "
        f"{len(report.table)} variants of {report.task}, {n_seeds} "
        f"{'seed' if n_seeds == 1 else 'seeds'} each, on {report.n_units} validation units "
        f"({report.unit}), tested against {report.reference}."
    )


def _settings(report: StudyReport) -> pd.DataFrame:
    import pandas as pd

    rows = [(row["variant"], row["settings"]) for row in report.table.to_dict("records")]
    rows += [(f"all: {name}", value) for name, value in report.base.items()]
    rows.append(("seeds", ", ".join(map(str, report.seeds))))
    rows += list(report.identity.items())
    return pd.DataFrame(rows, columns=["", "value"])


def _pairs(table: pd.DataFrame, low: str, high: str) -> list[tuple[float, float]]:
    return list(zip(table[low], table[high], strict=True))


def _range(low: float, high: float) -> str:
    if not math.isfinite(low) or low == high:
        return style.UNKNOWN
    return f"{style.percent(low)} to {style.percent(high)}"


def _difference(row: Mapping[Any, Any]) -> str:
    if not math.isfinite(row["difference"]):
        return style.UNKNOWN
    low, high = style.percent(row["difference_low"]), style.percent(row["difference_high"])
    return f"{100 * row['difference']:+.2f} [{low}, {high}]"


def _p(value: float) -> str:
    if not math.isfinite(value):
        return style.UNKNOWN
    star = " *" if value < SIGNIFICANT else ""
    return f"{value:.4f}{star}" if value >= 1e-4 else f"< 0.0001{star}"


def _whole(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else style.UNKNOWN


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return style.UNKNOWN
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
