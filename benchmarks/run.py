"""All benchmarks, one table: printed, and written to `benchmarks/results.md` and `results.json`.

    make bench                        everything; leave the machine alone meanwhile
    make bench ARGS="--quick"         small sizes, nothing written
    make bench ARGS="feed matching"   some of them; the others keep their rows

Where a former `results.json` is, its ratios stand beside the new ones: two runs of one machine
ought to agree within their spread.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from measure import Claim, Figure

BENCHMARKS = (
    "ingest",
    "mfcc",
    "feed",
    "context_windows",
    "phoneme_training",
    "label_runs",
    "gated_pitch",
    "transcribe",
    "matching",
    "ranking",
    "units",
    "gpu_training",
)
"""In this order. `peers` needs environments of its own and is run by hand."""
LIBRARIES = ("numpy", "torch", "librosa", "mir_eval", "tensorflow-cpu", "joblib", "dask")
FOLDER = Path(__file__).resolve().parent


def main() -> int:
    """Run what was asked for, print and write the tables; 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing written")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"no such benchmark: {', '.join(unknown)}; known are {', '.join(BENCHMARKS)}")
    before = _read(FOLDER / "results.json")
    results = {} if not options.names else dict(before.get("benchmarks", {}))
    failed = []
    for name in options.names or BENCHMARKS:
        print(f"== {name}", flush=True)
        began_s = time.monotonic()
        try:
            found = importlib.import_module(name).main(quick=options.quick)
        except Exception as error:  # the other benchmarks are worth having
            print(f"{name} FAILED: {error}", file=sys.stderr)
            failed.append(name)
            continue
        former = {row["name"]: row for row in before.get("benchmarks", {}).get(name, [])}
        results[name] = [_record(result, former.get(result.name)) for result in found]
        print(_table(results[name]))
        print(f"({time.monotonic() - began_s:.0f} s)\n", flush=True)
    if not options.quick:
        _write({"machine": _machine(), "benchmarks": results})
    return 1 if failed else 0


def _record(result: Claim | Figure, former: dict[str, Any] | None) -> dict[str, Any]:
    """Return a row; it carries the former run's value, so that it keeps it when others are run."""
    is_claim = isinstance(result, Claim)
    before = (former or {}).get("ratio" if is_claim else "value")
    return {"kind": "claim" if is_claim else "figure", **result.record(), "before": before}


def _table(rows: list[dict[str, Any]]) -> str:
    """Return claims and figures as Markdown, with the former run's value beside each."""
    claims = [row for row in rows if row["kind"] == "claim"]
    figures = [row for row in rows if row["kind"] == "figure"]
    lines: list[str] = []
    if claims:
        lines += ["| Claim | Ratio (spread) | Run before | Target | Ours | Compared with |"]
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        lines += [_claim_row(row) for row in claims]
    if figures:
        lines += ["", "| Figure | Value | Run before | Note |", "| --- | --- | --- | --- |"]
        lines += [_figure_row(row) for row in figures]
    return "\n".join(lines).strip()


def _claim_row(row: dict[str, Any]) -> str:
    ratios = row["ratios"]
    spread = f"{row['ratio']:.3g} ({min(ratios):.3g} to {max(ratios):.3g})"
    aim = "" if row["target"] is None else f"{row['target']:g}"
    then = "" if row.get("before") is None else f"{row['before']:.3g}"
    note = f". {row['note']}" if row["note"] else ""
    return (
        f"| {row['name']}{note} | {spread} | {then} | {aim} | "
        f"{_side(row, 'ours')} | {_side(row, 'theirs')} |"
    )


def _side(row: dict[str, Any], side: str) -> str:
    peak = row[f"{side}_peak_mb"]
    memory = "" if peak is None else f", {peak:.0f} MB"
    return f"{row[side]}: {row[f'{side}_rate']:.4g} {row['unit']} per {row['clock']} s{memory}"


def _figure_row(row: dict[str, Any]) -> str:
    then = "" if row.get("before") is None else f"{row['before']:.4g}"
    return f"| {row['name']} | {row['value']:.4g} {row['unit']} | {then} | {row['note']} |"


def _write(results: dict[str, Any]) -> None:
    (FOLDER / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    parts = [
        "# Benchmark results",
        "Written by `make bench`; do not edit. Ratios are rates of ours over rates of what it is "
        "compared with, above 1 is faster: medians over turns of A and B in fresh processes, in "
        'brackets the smallest and the largest. "Run before" is the former run of the same '
        "command. How it is measured: [measure.py](measure.py).",
        "\n".join(f"- {name}: {value}" for name, value in results["machine"].items()),
    ]
    for name in BENCHMARKS:
        if rows := results["benchmarks"].get(name):
            parts += [f"## {name}", _table(rows)]
    (FOLDER / "results.md").write_text("\n\n".join(parts) + "\n")


def _machine() -> dict[str, str]:
    versions = []
    for library in LIBRARIES:
        try:
            versions.append(f"{library} {metadata.version(library)}")
        except metadata.PackageNotFoundError:
            continue
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": f"{_processor()}, {os.cpu_count()} usable",
        "memory": f"{memory_gb:.0f} GB",
        "python": platform.python_version(),
        "libraries": ", ".join(versions),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    raise SystemExit(main())
