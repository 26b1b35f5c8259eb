"""Note matching: candidates by onset window against mir_eval's matrices of all pairs.

Both score the same transcription of a piece, onset only: precision, recall and F1 (equal to 1e-12,
tests/transcription/test_matching.py). mir_eval compares every reference note with every estimated
one; at 20,000 notes that takes over ten gigabytes, so where fewer are free 10,000 are taken.

    .venv/bin/python benchmarks/matching.py [--quick]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from measure import Claim, Work, arguments, compare, show

from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.scoring import score_notes

NOTES_PER_S = 10.0
"""Of MAESTRO: 7 million notes in 200 hours."""
WARM_UP_NOTES = 300
NEEDED_BYTES = {20_000: 15e9, 10_000: 4e9, 5_000: 1e9}
"""What mir_eval takes, by notes, with room to spare."""
QUICK_NOTES = 1_000


def main(quick: bool = False) -> list[Claim]:
    """Score pieces of 5,000 notes (several turns) and 20,000 notes (one turn)."""
    if quick:
        return [claim(QUICK_NOTES, repeats=2)]
    largest = next((n for n in (20_000, 10_000) if free_bytes() > NEEDED_BYTES[n]), None)
    claims = [claim(5_000, repeats=3)]
    return claims if largest is None else [*claims, claim(largest, repeats=1)]


def claim(n_notes: int, *, repeats: int) -> Claim:
    """Return the ratio for pieces of so many notes."""
    return compare(
        f"note matching, {n_notes:,} notes",
        ("candidates by onset window", partial(our_work, n_notes)),
        ("mir_eval", partial(mir_eval_work, n_notes)),
        unit="notes",
        target=100 if n_notes == max(NEEDED_BYTES) else None,
        repeats=repeats,
        note=f"{n_notes:,} notes at {NOTES_PER_S:g} per second, 10 % lost, 10 % made up, onsets "
        "15 ms beside the truth; ours shall stay below 200 MB",
    )


def piece(n_notes: int) -> tuple[Notes, Notes]:
    """Return a reference and a transcription of it with as many notes."""
    rng = np.random.default_rng(0)
    length_s, n_wrong = n_notes / NOTES_PER_S, n_notes // 10
    onset_s, pitch = np.sort(rng.uniform(0, length_s, n_notes)), rng.integers(21, 109, n_notes)
    reference = Notes.from_arrays(onset_s, onset_s + 0.3, pitch)
    kept = rng.permutation(n_notes)[n_wrong:]
    heard_s = np.abs(onset_s[kept] + rng.normal(0, 0.015, len(kept)))
    heard_s = np.append(heard_s, rng.uniform(0, length_s, n_wrong))
    heard = np.append(pitch[kept], rng.integers(21, 109, n_wrong))
    return reference, Notes.from_arrays(heard_s, heard_s + 0.3, heard)


def our_work(n_notes: int) -> Work:
    """Score with `score_notes`; units are reference notes."""
    return _growing(our_scores, n_notes)


def mir_eval_work(n_notes: int) -> Work:
    """Score with mir_eval; units are reference notes."""
    return _growing(mir_eval_scores, n_notes)


def our_scores(reference: Notes, estimate: Notes) -> tuple[float, float, float]:
    """Return precision, recall and F1 as we compute them."""
    score = score_notes(reference, estimate)
    return score.precision, score.recall, score.f1


def mir_eval_scores(reference: Notes, estimate: Notes) -> tuple[float, float, float]:
    """Return precision, recall and F1 as mir_eval computes them."""
    from mir_eval.transcription import precision_recall_f1_overlap

    sides = []
    for notes in (reference, estimate):
        hz = 440.0 * 2.0 ** ((notes.pitch.astype(float) - 69) / 12)
        sides += [np.column_stack((notes.onset_s, notes.offset_s)), hz]
    precision, recall, f1, _ = precision_recall_f1_overlap(*sides, offset_ratio=None)
    return float(precision), float(recall), float(f1)


def free_bytes() -> float:
    """Return the memory that is free now; 0 where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return 0.0
    lines = meminfo.read_text().splitlines()
    return 1024.0 * int(next(x for x in lines if x.startswith("MemAvailable")).split()[1])


def _growing(score: Callable[[Notes, Notes], object], n_notes: int) -> Work:
    """Return work that begins with a small piece: a large one needs no minute to warm up."""
    pieces = [piece(WARM_UP_NOTES), piece(n_notes)]

    def work() -> float:
        reference, estimate = pieces.pop(0) if len(pieces) > 1 else pieces[0]
        score(reference, estimate)
        return len(reference)

    return work


if __name__ == "__main__":
    show(main(arguments("Note matching against mir_eval.").quick))
