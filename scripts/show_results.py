"""Say where a run left its results, and what they are.

`make demo` and `.ci/run` end with this. It reads the summary that the main job writes, so it fails
when there is none, or when the summary holds no score.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path


def find_newest(folder: Path, pattern: str) -> Path | None:
    """Return the file or folder below `folder` that matches and was changed last, or None."""
    found = [path for path in folder.rglob(pattern) if not path.name.startswith(".")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def flatten(tree: object, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a JSON tree under dotted names; lists and texts are left out."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield prefix, float(tree)


def read_scores(summary: Path) -> dict[str, float]:
    """Read the numbers of a summary.

    Raises:
        ValueError: The file is no JSON, or holds no F1 between 0 and 1.
    """
    numbers = dict(flatten(json.loads(summary.read_text(encoding="utf-8"))))
    scores = [value for name, value in numbers.items() if name.split(".")[-1] == "f1"]
    if not scores:
        raise ValueError("no number is called f1")
    if not all(math.isfinite(score) and 0 <= score <= 1 for score in scores):
        raise ValueError(f"f1 is not between 0 and 1: {scores}")
    return numbers


def describe(data_root: Path, summary: Path, scores: dict[str, float]) -> str:
    """Lay out the scores, the places to look at and the commands that show them."""
    width = max(len(name) for name in scores)
    lines = ["", f"Results ({summary})"]
    lines += [f"  {name:<{width}}  {value:.4g}" for name, value in scores.items()]
    report = find_newest(data_root / "08_reporting", "*.html")
    lines += [
        "",
        "Where to look",
        f"  report     {report or 'none was written'}",
        f"  models     {data_root / '06_models'}",
        f"  outputs    {data_root / '07_model_output'}",
        "  pipeline   make viz",
        "  runs       .venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db",
        "",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the results below `--data-root`.

    Returns:
        0, or 1 when no run left a usable summary there.
    """
    parser = argparse.ArgumentParser(description="Say where a run left its results.")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    data_root: Path = parser.parse_args(arguments).data_root
    summary = find_newest(data_root / "08_reporting", "summary.json")
    if summary is None:
        sys.stderr.write(f"{data_root / '08_reporting'}: no summary.json. Run: make demo\n")
        return 1
    try:
        scores = read_scores(summary)
    except ValueError as error:
        sys.stderr.write(f"{summary}: {error}\n")
        return 1
    sys.stdout.write(describe(data_root, summary, scores))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
