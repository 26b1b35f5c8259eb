"""A record of any run, as Markdown and as HTML."""

from __future__ import annotations

import pandas as pd
import pytest
from pydantic import ValidationError

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.run_page import Provenance, RunPage


def test_both_forms_hold_every_part_in_order(tmp_path):
    style.save_png(style.new_figure(1, 1), tmp_path / "figures" / "a b.png")
    page = RunPage("Run 1", "today", folder=tmp_path / "pages")
    page.facts([("accuracy", "61.5")])
    page.warnings(["few <speakers>"])
    page.section("Scores")
    table = pd.DataFrame({"name": ["x|y", ""], "score": [0.25, None]})
    page.table(table, caption="Two rows", marked=[False, True])
    page.image(tmp_path / "figures" / "a b.png", "A [figure]")
    page.settings({"model": {"kind": "mlp", "layers": 2}, "seed": 1})
    markdown, html = page.markdown(), page.html()
    assert markdown == (
        "# Run 1\n\ntoday\n\n|  | value |\n| --- | --- |\n| accuracy | 61.5 |\n\n"
        "- Warning: few &lt;speakers>\n\n## Scores\n\nTwo rows\n\n"
        f"| name | score |\n| --- | --- |\n| x\\|y | 0.25 |\n|  | **{style.UNKNOWN}** |\n\n"
        "![A \\[figure\\]](../figures/a%20b.png)\n\n"
        "````\nmodel.kind = mlp\nmodel.layers = 2\nseed = 1\n````\n"
    )
    places = [
        html.index(part)
        for part in ("Run 1</h1>", "61.5", "few &lt;speakers&gt;", "Scores</h2>", "Two rows",
                     "x|y", "data:image/png", "A [figure]</figcaption>", "model.layers = 2")
    ]  # fmt: skip
    assert places == sorted(places) and "<tr class=mark>" in html


def test_provenance_is_told_for_people():
    page = RunPage("Run")
    provenance = Provenance(
        time_utc="2026-01-01T01:00:00+01:00",
        code_version="0.1",
        git_sha="0123456789",
        git_dirty=True,
    )
    page.provenance(provenance, preset="strong")
    assert "| time | 2026-01-01T00:00:00Z |" in page.markdown()
    assert "| code | 0.1 (git 01234567, changed) |" in page.markdown()
    assert f"| data | {style.UNKNOWN} |\n| preset | strong |" in page.markdown()
    with pytest.raises(ValidationError, match="without a zone"):
        Provenance(time_utc="2026-01-01T01:00:00")


def test_a_missing_figure_is_named(tmp_path):
    with pytest.raises(UserError, match="no such figure"):
        RunPage("Run").image(tmp_path / "none.png")
    page = RunPage("Run")
    style.save_png(style.new_figure(1, 1), tmp_path / "x.png")
    page.image(tmp_path / "x.png")
    assert "![](x.png)" in page.markdown()
