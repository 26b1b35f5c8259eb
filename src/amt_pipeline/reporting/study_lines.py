"""The curves of a study as they are drawn: one line per variant, a band over its seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.training_curves import DASHES

if TYPE_CHECKING:
    import pandas as pd

NAME_CHARS = 34

MOST_POINTS = 80
"""Of a training curve; one of more points is averaged over neighbours."""

MOST_MARKERS = 12

SHOWN_FROM = 0.8
"""The axis begins at this share of the lowest of the variants' best scores, or at the lowest that a
training ended with; before, curves run off it: first steps would flatten what the figure is for."""

AXIS_MARGIN = 0.05
"""Of the span of an axis, beyond what is shown: markers and bands at its ends stay whole."""


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

    @property
    def has_markers(self) -> bool:
        """Whether its points are few enough to be drawn one by one."""
        return len(self.rows) <= MOST_MARKERS


def lines_of(curves: pd.DataFrame, *quantities: str) -> dict[str, list[Line]]:
    """Return the curves of quantities; a variant has one colour and dash in all of them.

    Variants that are equal in all quantities are one line with the names of all.

    Args:
        curves: One row per point: `variant, seed, quantity, step, epoch, value`.
        *quantities: Those that are drawn in one figure.

    Raises:
        UserError: One of them has no curve.
    """
    names = list(dict.fromkeys(curves["variant"]))
    groups: list[tuple[list[str], dict[str, Line]]] = []
    for position, name in enumerate(names):
        own = curves[curves["variant"] == name]
        lines = {quantity: _line(own, quantity, position) for quantity in quantities}
        for same, known in groups:
            if all(lines[q].rows.equals(known[q].rows) for q in quantities):
                same.append(str(name))
                break
        else:
            groups.append(([str(name)], lines))
    found: dict[str, list[Line]] = {}
    for quantity in quantities:
        named = [replace(lines[quantity], name=_joined(own, names)) for own, lines in groups]
        found[quantity] = [line for line in named if len(line.rows)]
        if not found[quantity]:
            remedy = "Train its variants first"
            raise UserError("study", f"has no curve of {quantity} to draw", remedy)
    return found


def _line(curves: pd.DataFrame, quantity: str, position: int) -> Line:
    """Return a variant's curve, which may be empty."""
    points = curves[curves["quantity"] == quantity]
    if quantity == "train":
        points = _smoothed(points)
    table = points.groupby("epoch")["value"].agg(["mean", "min", "max", "size"])
    table = table.rename(columns={"size": "n"})
    # Seeds that ended early would bend the mean where the others go on alone.
    table = table[table["n"] == table["n"].max()].reset_index()
    colours = len(style.CYCLE)
    dash = position // colours % len(DASHES)
    return Line("", table, style.CYCLE[position % colours], dash)


def _smoothed(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points of a training with at most `MOST_POINTS` per seed: means of neighbours.

    Training scores are of few batches each: all of them would be a band of noise.
    """
    if points.empty or points.groupby("seed").size().max() <= MOST_POINTS:
        return points
    last = float(points["epoch"].max())
    # Whole epochs where there are enough of them: each window counts once in every mean.
    width = 1.0 if last >= MOST_POINTS / 4 else last / MOST_POINTS
    # The last step of an epoch ends a little after it.
    ends = (np.ceil(points["epoch"] / width - 0.05) * width).clip(upper=last)
    return points.assign(epoch=ends).groupby(["seed", "epoch"])[["value"]].mean().reset_index()


def _joined(names: list[str], of: list[str]) -> str:
    whole = " = ".join(names)
    if len(names) == len(of) > 1:
        return f"all {len(names)} variants"
    return whole if len(whole) <= NAME_CHARS else f"{names[0]} and {len(names) - 1} more"


def score_range(lines: list[Line]) -> tuple[float, float]:
    """Return the limits of an axis of scores in percent.

    Early steps may lie outside; what any seed ended with never does, and no marker is cut in half.
    """
    low = 100 * SHOWN_FROM * min(float(line.rows["mean"].max()) for line in lines)
    low = max(low, 100 * min(float(line.rows["min"].min()) for line in lines))
    low = min(low, 100 * min(float(line.rows["min"].iloc[-1]) for line in lines))
    high = 100 * max(float(line.rows["max"].max()) for line in lines)
    marks = np.sort([100 * y for line in lines if line.has_markers for y in line.rows["mean"]])
    for mark in marks[::-1]:
        if low - 2 * AXIS_MARGIN * max(high - low, 1.0) <= mark < low:
            low = float(mark)
    return padded(low, high, least_span=1.0)


def rate_range(lines: list[Line], *, is_log: bool) -> tuple[float, float]:
    """Return the limits of an axis of learning rates: from zero, or on a logarithmic scale."""
    high = max(float(line.rows["max"].max()) for line in lines)
    if not is_log:
        return 0.0, padded(0.0, high)[1]
    low = min(float(line.rows["min"].min()) for line in lines)
    bottom, top = padded(np.log10(low), np.log10(high))
    return float(10**bottom), float(10**top)


def padded(low: float, high: float, least_span: float = 1e-12) -> tuple[float, float]:
    """Return limits with `AXIS_MARGIN` beyond both ends; a lesser span counts as `least_span`."""
    margin = AXIS_MARGIN * max(high - low, least_span)
    return low - margin, high + margin


def legend_columns(lines: list[Line]) -> int:
    """Return how many entries of a legend go side by side."""
    longest = max(len(style.shorten(line.name, NAME_CHARS)) for line in lines)
    return max(1, min(6, int(95 / (longest + 7))))
