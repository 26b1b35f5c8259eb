"""The benchmark of note matching compares what gives equal answers."""

from __future__ import annotations

import matching
import pytest


@pytest.mark.parametrize("n_notes", [1, 40, 600])
def test_both_alternatives_give_the_same_scores(n_notes: int) -> None:
    reference, estimate = matching.piece(n_notes)
    assert len(reference) == n_notes
    ours = matching.our_scores(reference, estimate)
    assert ours == pytest.approx(matching.mir_eval_scores(reference, estimate), abs=1e-12, rel=0)
    # A tenth is lost, and as much made up.
    assert 0.8 < ours[2] <= 1


def test_work_counts_the_notes_of_the_large_piece_after_a_small_one() -> None:
    for factory in (matching.our_work, matching.mir_eval_work):
        work = factory(400)
        assert [work(), work(), work()] == [matching.WARM_UP_NOTES, 400, 400]


def test_mir_eval_is_spared_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(matching, "claim", lambda n_notes, repeats: asked.append(n_notes))
    for free, expected in ((20e9, [5_000, 20_000]), (8e9, [5_000, 10_000]), (2e9, [5_000])):
        monkeypatch.setattr(matching, "free_bytes", lambda free=free: free)
        matching.main()
        assert asked == expected
        asked.clear()
    monkeypatch.undo()
    assert matching.free_bytes() > 0
