"""A small page that stands alone: one file, no network, light or dark as the reader's system is.

Everything that comes from outside (names, parameters, table cells) is escaped.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.files import write_text
from amt_pipeline.reporting.style import UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

LINK_SCHEMES = frozenset({"", "http", "https", "mailto"})

CSS = """
:root { color-scheme: light dark; --ink: #1f2937; --soft: #5b6472; --line: #dfe3e8;
  --paper: #ffffff; --shade: #f3f4f6; --mark: #e3f2ec; --link: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e7eb; --soft: #a3acb9; --line: #374151;
  --paper: #14181f; --shade: #1e242d; --mark: #173a2f; --link: #56b4e9; } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--line); }
.subtitle, figcaption, caption { color: var(--soft); font-size: .9rem; text-align: left; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
thead th { background: var(--shade); font-weight: 600; }
th[colspan] { text-align: center; }
td.number, th.number { text-align: right; white-space: nowrap; }
tr.mark td { background: var(--mark); font-weight: 600; }
pre { background: var(--shade); padding: .8rem 1rem; border-radius: .4rem; overflow-x: auto;
  font: .86rem/1.5 ui-monospace, Consolas, monospace; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; background: white; border-radius: .4rem; }
a { color: var(--link); }
"""


class Page:
    """Collects the parts of a page in reading order; `render` gives the whole.

    Args:
        title: Heading, and title of the browser's tab.
        subtitle: One line below it.
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self._parts = [f"<h1>{escape(title)}</h1>"]
        if subtitle:
            self._parts.append(f'<p class="subtitle">{escape(subtitle)}</p>')

    def section(self, heading: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{escape(heading)}</h2>")

    def paragraph(self, text: str) -> None:
        """Add a paragraph of plain text."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def preformatted(self, text: str) -> None:
        """Add text whose lines and spaces are kept, in one width."""
        self._parts.append(f"<pre>{escape(text)}</pre>")

    def link(self, text: str, href: str) -> None:
        """Add a link.

        Raises:
            UserError: The address is neither relative nor of the web or mail (`javascript:`).
        """
        if urlsplit(href).scheme.lower() not in LINK_SCHEMES:
            raise UserError(href, "cannot be linked to", "Use a relative path or an https address")
        self._parts.append(f'<p><a href="{escape(href)}">{escape(text)}</a></p>')

    def image(self, path: str | PathLike[str], caption: str = "") -> None:
        """Embed a PNG file.

        Raises:
            UserError: There is no such file.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise UserError(path, "no such figure", "Run the report again") from error
        data = base64.b64encode(content).decode("ascii")
        text = escape(caption)
        self._parts.append(
            f'<figure><img alt="{text or "figure"}" src="data:image/png;base64,{data}">'
            f"<figcaption>{text}</figcaption></figure>"
        )

    def table(
        self, frame: pd.DataFrame, *, caption: str = "", marked: Sequence[bool] | None = None
    ) -> None:
        """Add a table without its index.

        Args:
            frame: Cells; two levels of columns give a header of two rows. Numbers are aligned to
                the right and shown with four digits: format them yourself for another precision.
            caption: Shown above.
            marked: Rows to stand out, one flag per row.
        """
        numeric = [_is_number_like(frame.iloc[:, i]) for i in range(frame.shape[1])]
        flags = list(marked) if marked is not None else [False] * len(frame)
        rows = [
            f"{'<tr class=mark>' if flag else '<tr>'}{_cells('td', values, numeric)}</tr>"
            for values, flag in zip(frame.itertuples(index=False), flags, strict=True)
        ]
        text = f"<caption>{escape(caption)}</caption>" if caption else ""
        head, body = _header(frame, numeric), "\n".join(rows)
        self._parts.append(
            f'<div class="scroll"><table>{text}<thead>{head}</thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def render(self) -> str:
        """Return the page as HTML."""
        body = "\n".join(self._parts)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{CSS}</style>\n</head>\n"
            f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: str | PathLike[str]) -> Path:
        """Write the page, atomically."""
        write_text(path, self.render())
        return Path(path)


def format_cell(value: Any) -> str:
    """Return a table cell as text: a dash for nothing, a tick for true, four digits for floats."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return UNKNOWN
    if value is True or value is False or type(value).__name__ == "bool":
        return "✓" if value else ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _header(frame: pd.DataFrame, numeric: list[bool]) -> str:
    if frame.columns.nlevels == 1:
        return f"<tr>{_cells('th', list(frame.columns), numeric)}</tr>"
    above = [
        f'<th colspan="{len(list(group))}">{escape(str(name))}</th>'
        for name, group in groupby(column[0] for column in frame.columns)
    ]
    below = _cells("th", [column[-1] for column in frame.columns], numeric)
    return f"<tr>{''.join(above)}</tr><tr>{below}</tr>"


def _cells(tag: str, values: Sequence[Any], numeric: list[bool]) -> str:
    return "".join(
        f"<{tag}{' class=number' if right else ''}>{escape(format_cell(value))}</{tag}>"
        for value, right in zip(values, numeric, strict=True)
    )


def _is_number_like(column: pd.Series[Any]) -> bool:
    """Tell whether a column holds numbers, or numbers formatted as text."""
    texts = [format_cell(value).replace(",", "") for value in column]
    texts = [text for text in texts if text not in ("", UNKNOWN, "✓")]
    try:
        return bool([float(text) for text in texts])
    except ValueError:
        return False
