"""The curves of a study as they are drawn: one line per variant, a band over its seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.training_curves import DASHES

if TYPE_CHECKING:
    import pandas as pd

NAME_CHARS = 34

SHOWN_FROM = 0.8
"""The axis begins at this share of the lowest of the variants' best scores; before, curves run off
it: the first steps of a training would flatten what the figure is for."""


@dataclass(frozen=True)
class Line:
    """One variant's curve: the mean over its seeds, and the lowest and highest of them."""

    name: str
    rows: pd.DataFrame
    colour: str
    dash: int

    @property
    def has_band(self) -> bool:
        """Whether there is more than one seed."""
        return bool((self.rows["n"] > 1).any())


def lines_of(curves: pd.DataFrame, quantity: str) -> list[Line]:
    """Return the curves of a quantity; a variant has one colour and dash in all panels."""
    names = list(dict.fromkeys(curves["variant"]))
    own = curves[curves["quantity"] == quantity]
    if own.empty:
        raise UserError("study", f"has no curve of {quantity} to draw", "Train its variants first")
    lines = []
    for position, name in enumerate(names):
        rows = own[own["variant"] == name].groupby("epoch")["value"]
        table = rows.agg(["mean", "min", "max", "size"]).rename(columns={"size": "n"})
        if table.empty:
            continue
        # Seeds that ended early would bend the mean where the others go on alone.
        table = table[table["n"] == table["n"].max()].reset_index()
        colours = len(style.CYCLE)
        dash = position // colours % len(DASHES)
        lines.append(Line(str(name), table, style.CYCLE[position % colours], dash))
    return lines


def rate_lines(curves: pd.DataFrame) -> list[Line]:
    """Return the curves of the learning rate; variants that share one are one line."""
    groups: list[list[Line]] = []
    for line in lines_of(curves, "learning_rate"):
        same = [group for group in groups if group[0].rows.equals(line.rows)]
        if same:
            same[0].append(line)
        else:
            groups.append([line])
    if len(groups) == 1 and len(groups[0]) > 1:
        return [replace(groups[0][0], name=f"all {len(groups[0])} variants")]
    return [replace(group[0], name=_joined([line.name for line in group])) for group in groups]


def _joined(names: list[str]) -> str:
    whole = ", ".join(names)
    return whole if len(whole) <= NAME_CHARS else f"{names[0]} and {len(names) - 1} more"


def score_range(lines: list[Line]) -> tuple[float, float]:
    """Return the limits of an axis of scores in percent."""
    low = 100 * SHOWN_FROM * min(float(line.rows["mean"].max()) for line in lines)
    low = max(low, 100 * min(float(line.rows["min"].min()) for line in lines))
    high = 100 * max(float(line.rows["max"].max()) for line in lines)
    span = max(high - low, 1.0)
    return low - 0.05 * span, high + 0.05 * span


def legend_columns(lines: list[Line]) -> int:
    """Return how many entries of a legend go side by side."""
    longest = max(len(style.shorten(line.name, NAME_CHARS)) for line in lines)
    return max(1, min(6, int(95 / (longest + 7))))
