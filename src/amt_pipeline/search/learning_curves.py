"""What the trainings of a study looked like: scores and learning rates over epochs, one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from amt_pipeline.search.variant import VariantResult

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["variant", "seed", "quantity", "step", "epoch", "value"]


def learning_curves(results: Sequence[VariantResult]) -> pd.DataFrame:
    """Return the curves of all finished trainings.

    Args:
        results: Of a study.

    Returns:
        One row per point: variant, seed, quantity (`train` and `validation`: the score that counts;
        `learning_rate`), step, epoch (passes over the training windows), value; in the order of the
        results, by step. Validation is that of the checkpoints, and that of training where it
        looked at the validation split itself.
    """
    import pandas as pd

    rows = [
        (result.name, result.seed, quantity, step, step * result.batch_size / result.windows, value)
        for result in results
        if result.status == "finished" and result.windows and result.batch_size
        for quantity in ("train", "validation", "learning_rate")
        for step, value in sorted(_points(result, quantity))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _points(result: VariantResult, quantity: str) -> Iterator[tuple[int, float]]:
    metric = result.metric
    column = {"train": metric, "validation": f"validation/{metric}"}.get(quantity, quantity)
    points = {int(row["step"] or 0): row.get(column) for row in result.history}
    if quantity == "validation":
        points |= {int(row["step"] or 0): row.get(metric) for row in result.curve}
    for step, value in points.items():
        if value is not None:
            yield step, float(value)
