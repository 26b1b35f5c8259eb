from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.html import Page, format_cell

VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Collects tags, links and text, and fails where elements are not nested."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def test_everything_from_outside_is_escaped() -> None:
    evil = "<script>alert('x')</script> & \"q\""
    page = Page(evil, evil)
    page.section(evil)
    page.paragraph(evil)
    page.preformatted(evil)
    page.link(evil, 'a.html?x="><script>')
    page.table(pd.DataFrame({evil: [evil]}), caption=evil)
    checked = Checker(page.render())
    assert checked.count("script") == 0
    # Title twice, subtitle, section, paragraph, preformatted, link, caption, header, cell.
    assert checked.text.count(evil) == 10


def test_page_is_complete_and_works_alone(tmp_path: Path) -> None:
    figure = style.save_png(style.new_figure(1, 1), tmp_path / "f.png")
    page = Page("Title", "subtitle")
    page.image(figure, "a caption")
    page.link("more", "other.html")
    checked = Checker(page.write(tmp_path / "page.html").read_text(encoding="utf-8"))
    image = next(attributes for tag, attributes in checked.tags if tag == "img")
    assert str(image["src"]).startswith("data:image/png;base64,iVBOR")
    assert image["alt"] == "a caption"
    links = [attributes["href"] for tag, attributes in checked.tags if tag == "a"]
    assert links == ["other.html"]
    assert checked.count("link") == 0
    assert "prefers-color-scheme: dark" in checked.text


def test_table_aligns_numbers_and_marks_rows() -> None:
    frame = pd.DataFrame(
        {"name": ["a", "b"], "f1": [0.123456, np.nan], "step": ["1,000", style.UNKNOWN]}
    )
    page = Page("t")
    page.table(frame, marked=[False, True])
    html = page.render()
    assert "<th>name</th><th class=number>f1</th><th class=number>step</th>" in html
    assert "<td>a</td><td class=number>0.1235</td><td class=number>1,000</td>" in html
    assert f"<tr class=mark><td>b</td><td class=number>{style.UNKNOWN}</td>" in html


def test_two_levels_of_columns_give_a_header_of_two_rows() -> None:
    columns = pd.MultiIndex.from_tuples([("", ""), ("train", "P"), ("train", "R"), ("eval", "P")])
    page = Page("t")
    page.table(pd.DataFrame([["onset", "1", "2", "3"]], columns=columns))
    html = page.render()
    assert '<th colspan="2">train</th><th colspan="1">eval</th></tr><tr>' in html
    assert Checker(html).count("tr") == 3


def test_empty_table() -> None:
    page = Page("t")
    page.table(pd.DataFrame({"a": [], "b": []}))
    assert Checker(page.render()).count("th") == 2


@pytest.mark.parametrize("href", ["javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x"])
def test_dangerous_links_are_refused(href: str) -> None:
    with pytest.raises(UserError, match="cannot be linked"):
        Page("t").link("x", href)


def test_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.png: no such figure"):
        Page("t").image(tmp_path / "gone.png")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, style.UNKNOWN),
        (float("nan"), style.UNKNOWN),
        (True, "✓"),
        (np.False_, ""),
        (0.5, "0.5"),
        (3, "3"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert format_cell(value) == text
