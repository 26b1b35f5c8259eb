"""Long lists in short sentences."""

from __future__ import annotations

import logging

import pytest

from amt_pipeline.core.wording import some_of

LOG = logging.getLogger(__name__)


def test_a_few_are_all_named_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert some_of([], log=LOG) == ""
    assert some_of(["a", "b"], most=2, separator="; ", log=LOG) == "a; b"
    assert caplog.messages == []


def test_of_many_the_first_are_named_and_the_log_has_all(caplog: pytest.LogCaptureFixture) -> None:
    names = [f"u{number}" for number in range(4)]
    assert some_of(names, most=3) == "u0, u1, u2 and 1 more"
    text = some_of(names, most=2, log=LOG, what="lost: ")
    assert text == "u0, u1 and 2 more, which the log names"
    assert caplog.messages == [f"lost: {name}" for name in names]
