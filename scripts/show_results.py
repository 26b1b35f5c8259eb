"""Say where a run left its results, and what they are.

`make demo` and `.ci/run` end with this. It reads the summary that the main job writes, so it fails
when there is none, or when the summary holds no score.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from pathlib import Path

SUMMARY = Path("08_reporting", "transcription", "summary.json")
MEASURES = ("precision", "recall", "f1")


def read_scores(summary: Path) -> dict[str, float]:
    """Read the onset scores of a summary: names such as `precision` and `f1_low`.

    Raises:
        ValueError: The file is no JSON, or lacks a score between 0 and 1.
    """
    values = json.loads(summary.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError("no table of scores")
    scores: dict[str, float] = {}
    for name, value in values.items():
        kind, *rest = re.split(r"[./]", name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if kind == "onset" and len(rest) == 1 and is_number:
            scores[rest[0]] = float(value)
    for measure in MEASURES:
        if measure not in scores:
            raise ValueError(f"no number is called onset/{measure}")
        if not (math.isfinite(scores[measure]) and 0 <= scores[measure] <= 1):
            raise ValueError(f"onset/{measure} is not between 0 and 1: {scores[measure]}")
    return scores


def describe(data_root: Path, scores: dict[str, float]) -> str:
    """Lay out the scores, the places to look at and the commands that show them."""
    lines = ["", f"Results ({data_root / SUMMARY})"]
    for measure in MEASURES:
        line = f"  onset {measure:<10} {scores[measure]:.4f}"
        low, high = (scores.get(f"{measure}_{end}") for end in ("low", "high"))
        if low is not None and high is not None:  # a single piece has no interval
            line += f"  95 % interval {low:.4f} to {high:.4f}"
        lines.append(line)
    reports, models = data_root / "08_reporting", data_root / "06_models"
    places = [
        ("report", data_root / SUMMARY.with_name("record.html")),
        ("ranking", reports / "onset" / "ranking.png"),
        ("", reports / "pitch" / "ranking.png"),
        ("models", models),
        ("outputs", data_root / "07_model_output"),
        ("pipeline", "make viz"),
        ("runs", ".venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db"),
        ("curves", f".venv/bin/tensorboard --logdir {models}"),
    ]
    lines += ["", "Where to look", *(f"  {name:<10} {place}" for name, place in places), ""]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the results below `--data-root`.

    Returns:
        0, or 1 when no run left a usable summary there.
    """
    parser = argparse.ArgumentParser(description="Say where a run left its results.")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    data_root: Path = parser.parse_args(arguments).data_root
    summary = data_root / SUMMARY
    if not summary.is_file():
        sys.stderr.write(f"{summary}: no such file. Run: make demo\n")
        return 1
    try:
        scores = read_scores(summary)
    except ValueError as error:
        sys.stderr.write(f"{summary}: {error}\n")
        return 1
    sys.stdout.write(describe(data_root, scores))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
