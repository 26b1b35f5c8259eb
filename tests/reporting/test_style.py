from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import matplotlib
import plotly.graph_objects as go
import pytest

from amt_pipeline.core.errors import StorageError
from amt_pipeline.reporting import style


def test_percent_and_label() -> None:
    assert style.percent(0.95114) == "95.11"
    assert style.percent(0.5, 0) == "50"
    assert style.percent(None) == style.percent(math.nan) == style.UNKNOWN
    assert style.label("f1") == "F1"
    assert style.label("frame_accuracy") == "frame accuracy"


@pytest.mark.parametrize("limit", [5, 10, 11, 12])
def test_shorten_keeps_both_ends_and_the_limit(limit: int) -> None:
    text = "abcdefghijkl"
    short = style.shorten(text, limit)
    assert len(short) == min(limit, len(text))
    assert short[0] == "a" and short[-1] == "l"
    assert ("…" in short) == (limit < len(text))


def test_drawing_leaves_the_settings_of_matplotlib_and_pyplot_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figure = style.new_figure()
    axes = figure.add_subplot()
    axes.plot([1, 2], [3, 4], label="curve")
    style.style_axes(axes, x="x", y="y")
    style.legend_above(axes, title="a $title$ with_{broken formula")
    style.save_png(figure, tmp_path / "figure.png")
    assert dict(matplotlib.rcParams) == before
    code = (
        "import sys; from amt_pipeline.reporting import style; "
        "style.save_png(style.new_figure(), sys.argv[1]); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "other.png")]
    assert subprocess.run(command, check=False).returncode == 0


def test_same_figure_gives_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        figure = style.new_figure(3, 2)
        axes = figure.add_subplot()
        axes.plot([0, 1, 2], [1, 4, 2], color=style.BLUE)
        style.style_title(axes, "title")
        style.save_png(figure, tmp_path / f"{name}.png")
        style.save_html(go.Figure(go.Scatter(x=[1, 2], y=[3, 4])), tmp_path / f"{name}.html")
    for kind in ("png", "html"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_title_is_shortened_to_the_width_of_the_figure() -> None:
    axes = style.new_figure(3, 2).add_subplot()
    style.style_title(axes, "x" * 200)
    assert len(axes.get_title(loc="left")) <= 32


def test_pages_of_a_folder_share_one_library_and_need_no_network(tmp_path: Path) -> None:
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4]))
    figure.update_layout(**style.plotly_layout("<b>R&B</b>"))
    for name in ("a", "b"):
        style.save_html(figure, tmp_path / f"{name}.html", scroll_zoom=True)
    libraries = list(tmp_path.glob("plotly-*.min.js"))
    assert len(libraries) == 1 and libraries[0].stat().st_size > 1_000_000
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert len(page) < 30_000
    assert f'src="{libraries[0].name}"' in page
    assert 'src="http' not in page and "cdn." not in page
    assert "<title>&lt;b&gt;R&amp;B&lt;/b&gt;</title>" in page
    assert f"Keep {libraries[0].name} beside this page" in page
    assert '"scrollZoom": true' in page


def test_embedded_page_stands_alone(tmp_path: Path) -> None:
    path = style.save_html(go.Figure(), tmp_path / "one.html", title="a & b", embed=True)
    assert [file.name for file in tmp_path.iterdir()] == ["one.html"]
    page = path.read_text(encoding="utf-8")
    assert len(page) > 1_000_000
    assert page.count("<title>a &amp; b</title>") == 1
    assert "beside this page" not in page


def test_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        style.save_png(style.new_figure(), tmp_path / "file" / "figure.png")
