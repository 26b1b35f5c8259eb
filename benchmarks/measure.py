"""How every benchmark here measures: alternatives in turn, in processes of their own, medians.

A benchmark is a script of this folder with a `main(quick) -> list[Claim | Figure]`. A claim names
two alternatives, A (ours) and B (what it is compared with), measured side by side in one run:

- each call runs in a fresh process (spawned), so that nothing of one alternative warms the other
  and the peak memory is its own;
- inside, the work is done once unmeasured (compilation, caches, page cache), then measured;
- A and B take turns, `repeats` times; the table shows the medians and the spread of the ratio;
- the unit is CPU seconds of the process unless the claim says wall-clock time;
- one thread per library, unless the claim says more.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DEFAULT_REPEATS = 5

Work = Callable[[], float]
"""Does the work once and returns how many units (windows, seconds of audio) it did."""


@dataclass(frozen=True)
class Sample:
    """One measurement of one alternative.

    Attributes:
        units: Work done, in the claim's unit.
        wall_s: Elapsed seconds.
        cpu_s: CPU seconds of the process, all threads.
        peak_mb: Largest resident memory of the process so far, in megabytes of 10^6 bytes.
    """

    units: float
    wall_s: float
    cpu_s: float
    peak_mb: float

    def rate(self, clock: str) -> float:
        """Return units per second of `clock` (`cpu` or `wall`)."""
        return self.units / max(self.cpu_s if clock == "cpu" else self.wall_s, 1e-9)


@dataclass(frozen=True)
class Claim:
    """One row of the results.

    Attributes:
        name: What is claimed, in a few words.
        ours: Name of alternative A.
        theirs: Name of alternative B.
        unit: What is counted: `windows`, `seconds of audio`.
        clock: `cpu` or `wall` seconds.
        ours_rate: Median units per second.
        theirs_rate: Likewise.
        ratios: Ratio of the rates, one per turn.
        target: Ratio that is aimed at; None where the figure only informs.
        ours_peak_mb: Median peak memory.
        theirs_peak_mb: Likewise.
        note: Facts a reader needs: sizes, settings.
    """

    name: str
    ours: str
    theirs: str
    unit: str
    clock: str
    ours_rate: float
    theirs_rate: float
    ratios: list[float]
    target: float | None = None
    ours_peak_mb: float | None = None
    theirs_peak_mb: float | None = None
    note: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """The median ratio of A's rate to B's: above 1, ours is faster."""
        return statistics.median(self.ratios)

    def record(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {**asdict(self), "ratio": self.ratio}


@dataclass(frozen=True)
class Figure:
    """A measured figure that is compared with nothing: a unit cost, a score.

    Attributes:
        name: What was measured.
        value: The median.
        unit: Of the value: `CPU s per hour of audio`.
        low: Smallest of the repeats; None where there was one.
        high: Largest of them.
        note: Facts a reader needs.
    """

    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    note: str = ""

    def record(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return asdict(self)


def compare(
    name: str,
    ours: tuple[str, Callable[[], Work]],
    theirs: tuple[str, Callable[[], Work]],
    *,
    unit: str,
    clock: Literal["cpu", "wall"] = "cpu",
    target: float | None = None,
    repeats: int = DEFAULT_REPEATS,
    threads: int = 1,
    note: str = "",
) -> Claim:
    """Measure two alternatives in turn and return the claim.

    Args:
        name: What is claimed.
        ours: Name and factory of A. The factory is a picklable callable at module level (or a
            `functools.partial` of one); called in the fresh process, it prepares everything
            (unmeasured) and returns the work.
        theirs: The same for B.
        unit: What `Work` counts.
        clock: Seconds of which the rates are.
        target: Ratio that is aimed at.
        repeats: Turns.
        threads: Threads that numerical libraries may use, in both.
        note: Sizes and settings, for the table.
    """
    turns = [
        (measure(ours[1], threads=threads), measure(theirs[1], threads=threads))
        for _ in range(repeats)
    ]
    ratios = [a.rate(clock) / b.rate(clock) for a, b in turns]
    return Claim(
        name, ours[0], theirs[0], unit, clock,
        statistics.median(a.rate(clock) for a, _ in turns),
        statistics.median(b.rate(clock) for _, b in turns),
        ratios, target,
        statistics.median(a.peak_mb for a, _ in turns),
        statistics.median(b.peak_mb for _, b in turns),
        note,
    )  # fmt: skip


def measure(factory: Callable[[], Work], *, threads: int = 1) -> Sample:
    """Run `factory` and its work in a fresh process: once unmeasured, then once measured."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    kept = {name: os.environ.get(name) for name in THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, str(threads)))
    try:
        process = context.Process(target=_child, args=(factory, sender))
        process.start()
    finally:
        for setting, value in kept.items():
            os.environ.pop(setting) if value is None else os.environ.update({setting: value})
    sender.close()
    try:
        outcome = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the measured process ended with {process.exitcode}") from None
    process.join()
    if isinstance(outcome, str):
        raise RuntimeError(outcome)
    return Sample(*outcome)


def _child(factory: Callable[[], Work], sender: Any) -> None:
    try:
        work = factory()
        work()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        units = work()
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        sender.send((float(units), wall_s, cpu_s, _peak_mb()))
    except BaseException:  # whatever it is, the parent shows it
        sender.send(traceback.format_exc())
    finally:
        _end_workers()


def _end_workers() -> None:
    """End loky's worker processes, for whose next call this process would wait for minutes."""
    if "joblib.externals.loky.reusable_executor" in sys.modules:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage: a new process begins with the peak of the one that started it.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def arguments(description: str) -> argparse.Namespace:
    """Return the options that every benchmark has: `--quick` for a short look at small sizes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small sizes, two turns")
    return parser.parse_args()


def show(results: Sequence[Claim | Figure]) -> None:
    """Print results in words (for a script that is run alone)."""
    for claim in results:
        if isinstance(claim, Figure):
            print(f"{claim.name}: {claim.value:.4g} {claim.unit}  {claim.note}")
            continue
        spread = f"{min(claim.ratios):.2f} to {max(claim.ratios):.2f}"
        aim = "" if claim.target is None else f", target {claim.target:g}"
        print(f"{claim.name}: {claim.ratio:.2f} times ({spread}{aim})")
        for who, rate, peak in (
            (claim.ours, claim.ours_rate, claim.ours_peak_mb),
            (claim.theirs, claim.theirs_rate, claim.theirs_peak_mb),
        ):
            memory = "" if peak is None else f", peak {peak:.0f} MB"
            print(f"  {who}: {rate:.4g} {claim.unit}/s ({claim.clock}){memory}")
        if claim.note:
            print(f"  {claim.note}")
