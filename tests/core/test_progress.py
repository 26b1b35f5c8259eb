from __future__ import annotations

import logging
import os
import pty
import termios
import threading
from contextlib import suppress
from types import SimpleNamespace

import pytest

from amt_pipeline.core import progress as module
from amt_pipeline.core.progress import LOG_EVERY_S, WORKERS_VARIABLE, Progress, sibling_workers


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now_s))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger=module.__name__)
    return caplog


def test_lines_are_throttled_and_hold_rate_time_and_note(
    clock: Clock, lines: pytest.LogCaptureFixture
) -> None:
    with Progress("Ingest", 100, "recording") as progress:
        for _ in range(25):
            clock.now_s += LOG_EVERY_S / 10
            progress.advance(note="loss 0.5")
    assert lines.messages == [
        "Ingest: 10/100, 1 recording/s, 1:30 left, loss 0.5",
        "Ingest: 20/100, 1 recording/s, 1:20 left, loss 0.5",
        "Ingest: 25/100, 1 recording/s, 1:15 left, loss 0.5",
    ]


def test_rate_of_a_resumed_job_leaves_out_what_was_done_before(
    clock: Clock, lines: pytest.LogCaptureFixture
) -> None:
    progress = Progress("Train", 8000, "window", initial=7000)
    clock.now_s += LOG_EVERY_S
    progress.advance(1)
    assert lines.messages == ["Train: 7001/8000, 0.1 window/s, 2:46:30 left"]


def test_the_end_says_how_long_it_took(clock: Clock, lines: pytest.LogCaptureFixture) -> None:
    with Progress("Render", 2) as progress:
        clock.now_s += 3
        progress.advance(2)
    assert lines.messages == ["Render: 2/2, 0.667 item/s, took 0:03"]


def test_quick_work_says_nothing(clock: Clock, lines: pytest.LogCaptureFixture) -> None:
    with Progress("Rank", 2) as progress:
        clock.now_s += 1
        progress.advance(2)
    assert lines.messages == []


def test_nothing_done_has_no_remaining_time(clock: Clock, lines: pytest.LogCaptureFixture) -> None:
    with Progress("Rank", 2):
        clock.now_s += 3
    assert lines.messages == ["Rank: 0/2, 0 item/s, unknown time left"]


def shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a progress writes to a terminal."""
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    with os.fdopen(follower, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", terminal)
        with Progress("Onset", 4, "window", initial=1) as progress:
            progress.advance(3, "loss 0.25")
            progress.advance(0)
    shown = ""
    # It comes in parts, and ends with an error once the other side is closed.
    with suppress(OSError):
        while part := os.read(leader, 10_000):
            shown += part.decode()
    os.close(leader)
    return shown


def test_a_terminal_gets_a_bar(
    monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    shown = shown_on_a_terminal(monkeypatch)
    assert "Onset" in shown
    assert "4/4" in shown
    assert "loss 0.25" in shown
    assert lines.messages == []


def test_workers_draw_no_bars_over_each_other(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, lines: pytest.LogCaptureFixture
) -> None:
    assert sibling_workers() == 1
    monkeypatch.setenv(WORKERS_VARIABLE, "3")
    assert sibling_workers() == 3
    assert shown_on_a_terminal(monkeypatch) == ""
    with Progress("Train", 2) as progress:
        clock.now_s += 3
        progress.advance(2)
    assert lines.messages == ["Train: 2/2, 0.667 item/s, took 0:03"]


def test_work_that_goes_on_says_so_before_anything_ends(
    clock: Clock, lines: pytest.LogCaptureFixture
) -> None:
    progress = Progress("Study", 3, "training")
    for _ in range(25):
        clock.now_s += 1
        progress.still("at work: a, seed 1")
    assert lines.messages == [
        "Study: 0/3 after 0:10, at work: a, seed 1",
        "Study: 0/3 after 0:20, at work: a, seed 1",
    ]


def test_kept_alive_ends_with_its_block(
    lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_EVERY_S", 0.0)
    monkeypatch.setattr(module, "BEAT_S", 0.01)
    asked = threading.Event()

    def note() -> str:
        asked.set()
        return "x"

    with pytest.raises(KeyError), module.kept_alive(Progress("Study", 1), note):
        assert asked.wait(10)
        raise KeyError
    assert "progress" not in {thread.name for thread in threading.enumerate()}
