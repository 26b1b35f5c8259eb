"""Damaged files of every format are read within the contract, or refused by name.

`AMT_FUZZ_EXAMPLES=20000` (`make fuzz`) tries so many per reader, others each time; without it the
examples are few and always the same.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from mutations import mutated
from readers import READERS
from sandbox import Sandbox

LONG = int(os.environ.get("AMT_FUZZ_EXAMPLES", "0"))
PROFILE = settings(
    max_examples=LONG or 30,
    derandomize=not LONG,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink) if LONG else (Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", READERS)
def test_damaged_file_is_read_or_refused_by_name(name: str, sandbox: Sandbox) -> None:
    seeds = sandbox.seeds(name)

    @PROFILE
    @given(data=mutated(seeds, READERS[name].edits))
    def survives(data: bytes) -> None:
        outcome = sandbox.read(name, data)
        assert outcome.is_good, f"{name}: {outcome.kind}: {outcome.text}"

    assert len(seeds) > 0
    survives()
