"""The record of a run for people, of any system: written once, as Markdown and as HTML.

Parts are added in reading order. What comes from outside is escaped in both.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from amt_pipeline.core.values import flatten
from amt_pipeline.reporting.html import Page
from amt_pipeline.reporting.record import code_text, format_value, utc_text
from amt_pipeline.reporting.record_pages import markdown_table, markdown_text
from amt_pipeline.reporting.style import UNKNOWN

if TYPE_CHECKING:
    import pandas as pd


class Provenance(BaseModel):
    """Where a result comes from.

    Attributes:
        time_utc: When it was made; ISO 8601 in UTC. Any zone is taken, none is an error.
        code_version: Version of this package.
        git_sha: Commit of the working tree, empty when unknown.
        git_dirty: Whether the tree had changes on top, None when unknown.
        data_fingerprint: Hash of the manifest; scores compare only where it is equal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_utc: Annotated[str, BeforeValidator(utc_text)]
    code_version: str = ""
    git_sha: str = ""
    git_dirty: bool | None = None
    data_fingerprint: str = ""

    @property
    def code(self) -> str:
        """Version and commit for people."""
        return code_text(self.code_version, self.git_sha, self.git_dirty)


class RunPage:
    """Collects the parts of a record.

    Args:
        title: Heading.
        subtitle: One line below it.
        folder: Where the Markdown will lie: images are linked from there. None takes them to lie
            beside it.
    """

    def __init__(self, title: str, subtitle: str = "", *, folder: Path | None = None) -> None:
        self._page, self._folder = Page(title, subtitle), folder
        self._markdown = [f"# {markdown_text(title)}"]
        if subtitle:
            self._markdown.append(markdown_text(subtitle))

    def section(self, heading: str) -> None:
        """Begin a section."""
        self._page.section(heading)
        self._markdown.append(f"## {markdown_text(heading)}")

    def paragraph(self, text: str) -> None:
        """Add a paragraph of plain text."""
        self._page.paragraph(text)
        self._markdown.append(markdown_text(text))

    def warnings(self, texts: Iterable[str]) -> None:
        """Add what a reader has to know before using the figures; nothing for none."""
        for text in texts:
            self._page.paragraph(f"Warning: {text}")
            self._markdown.append(f"- Warning: {markdown_text(text)}")

    def table(
        self, frame: pd.DataFrame, *, caption: str = "", marked: Sequence[bool] | None = None
    ) -> None:
        """Add a table without its index.

        Args:
            frame: Cells, one level of columns; format numbers yourself for other than four digits.
            caption: Shown above.
            marked: Rows to stand out, one flag per row; bold in Markdown.
        """
        self._page.table(frame, caption=caption, marked=marked)
        if caption:
            self._markdown.append(markdown_text(caption))
        lines = markdown_table(frame).splitlines()
        for number, flag in enumerate(marked or ()):
            if flag:
                lines[number + 2] = _bold(lines[number + 2])
        self._markdown.append("\n".join(lines))

    def facts(self, pairs: Iterable[tuple[str, Any]], *, caption: str = "") -> None:
        """Add names and values, one per line."""
        import pandas as pd

        self.table(pd.DataFrame(list(pairs), columns=["", "value"], dtype=object), caption=caption)

    def image(self, path: str | Path, caption: str = "") -> None:
        """Add a PNG file: embedded in HTML, linked in Markdown.

        Raises:
            UserError: There is no such file.
        """
        path = Path(path)
        self._page.image(path, caption)
        place = path.name if self._folder is None else os.path.relpath(path, self._folder)
        link = Path(place).as_posix().replace(" ", "%20")
        text = markdown_text(caption).replace("[", "\\[").replace("]", "\\]")
        self._markdown.append(f"![{text}]({link})")

    def settings(self, settings: Mapping[str, Any]) -> None:
        """Add settings, nested ones by dotted path, a line each."""
        lines = [f"{path} = {format_value(value)}" for path, value in flatten(settings).items()]
        text = "\n".join(lines)
        self._page.preformatted(text)
        # Four ticks: a setting may hold three.
        self._markdown.append(f"````\n{text}\n````")

    def provenance(self, provenance: Provenance, **more: str) -> None:
        """Add where the run comes from; `more` are further names and values."""
        rows = {
            "time": provenance.time_utc,
            "code": provenance.code,
            "data": provenance.data_fingerprint,
            **more,
        }
        self.facts((name, value or UNKNOWN) for name, value in rows.items())

    def markdown(self) -> str:
        """Return the record as Markdown."""
        return "\n\n".join(self._markdown) + "\n"

    def html(self) -> str:
        """Return the record as a page that stands alone."""
        return self._page.render()


def _bold(line: str) -> str:
    """Return a row of a Markdown table in bold; empty cells stay as they are."""
    cells = line.removeprefix("| ").removesuffix(" |").split(" | ")
    return f"| {' | '.join(f'**{cell}**' if cell.strip() else cell for cell in cells)} |"
