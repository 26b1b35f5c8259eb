from __future__ import annotations

import os

import pytest

from amt_pipeline.core.threads import yield_while_waiting


def test_threads_sleep_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    yield_while_waiting()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    yield_while_waiting()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
