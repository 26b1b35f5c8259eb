"""The sandbox tells the ways apart in which a reader can fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sandbox as box
from sandbox import Sandbox


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox whose child knows readers that fail."""
    monkeypatch.setattr(box, "LIMIT_S", 3.0)
    monkeypatch.setattr(box, "REGISTRY", "failing_readers")
    sandbox = Sandbox(tmp_path)
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"read", "read"), (b"refuse", "refused"), (b"raise", "escaped"), (b"memory", "escaped"),
        (b"unprintable", "escaped"), (b"execute", "executed"), (b"die", "died"), (b"hang", "hung"),
    ],
)  # fmt: skip
def test_each_way_to_fail_is_told(data: bytes, kind: str, own: Sandbox) -> None:
    assert own.seeds("failing") == [b"read"]
    assert own.read("failing", data).kind == kind
    assert own.read("failing", b"read").kind == "read"  # by another child, if need be
