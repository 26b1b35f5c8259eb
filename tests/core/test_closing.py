from __future__ import annotations

import pytest

from amt_pipeline.core.closing import Closing


class Door(Closing):
    is_open = True

    def close(self) -> None:
        self.is_open = False


def test_the_block_gets_it_open_and_leaves_it_closed() -> None:
    with Door() as door:
        assert door.is_open
    assert not door.is_open


def test_errors_close_it_too_and_pass() -> None:
    door = Door()
    with pytest.raises(ValueError, match="draught"), door:
        raise ValueError("draught")
    assert not door.is_open
