"""What processes that train together tell each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amt_pipeline.core.errors import ConfigError, StoreError
from amt_pipeline.core.files import read_json
from amt_pipeline.training.distributed import ALONE, ENVIRONMENT, Group, join_group

TALK = """
import sys, torch
from pathlib import Path
from amt_pipeline.core.errors import StoreError
from amt_pipeline.core.files import write_json
from amt_pipeline.training.distributed import join_group

def fail():
    raise StoreError("a.npy", "is damaged", "Redo it")

with join_group(torch.device("cpu")) as group:
    tensors = [torch.full((2, 2), group.rank + 1.0), torch.tensor(float(10 ** group.rank))]
    group.sum_all(tensors)
    try:
        group.from_main(fail)
        mistake = ""
    except StoreError as error:
        mistake = str(error)
    said = {
        "sum": group.sum(torch.tensor([group.rank, 1])).tolist(),
        "sum_all": [tensor.tolist() for tensor in tensors],
        "any": [group.any(False), group.any(group.rank == 1), group.any(True)],
        "from_main": str(group.from_main(lambda: Path(f"of-{group.rank}"))),
        "mistake": mistake,
        "main": group.is_main,
    }
    write_json(f"{sys.argv[1]}/{group.rank}.json", said)
"""

WAIT = """
import sys, time, torch
from datetime import timedelta
from amt_pipeline.core.files import write_json
from amt_pipeline.training import distributed

distributed.TIMEOUT = timedelta(seconds=2)

def evaluate():
    time.sleep(4)
    return 0.5

with distributed.join_group(torch.device("cpu")) as group:
    score = group.from_main(evaluate)
    write_json(f"{sys.argv[1]}/{group.rank}.json", score)
"""


@given(st.integers(0, 300), st.integers(1, 20))
def test_rows_are_shared_out_evenly(n: int, size: int) -> None:
    shares = [range(n)[Group(rank, size).rows(n)] for rank in range(size)]
    assert [row for share in shares for row in share] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_two_processes_say_the_same(tmp_path: Path) -> None:
    from distributed_support import run_together

    run_together(TALK, [tmp_path])
    said = [read_json(tmp_path / f"{rank}.json") for rank in (0, 1)]
    assert [one.pop("main") for one in said] == [True, False]
    assert said[0] == said[1] == {
        "sum": [1, 2],
        "sum_all": [[[3.0, 3.0], [3.0, 3.0]], 11.0],
        "any": [False, True, True],
        "from_main": "of-0",
        "mistake": "a.npy: is damaged. Redo it",
    }  # fmt: skip


def test_the_others_wait_for_what_the_main_process_does_for_all(tmp_path: Path) -> None:
    from distributed_support import run_together

    run_together(WAIT, [tmp_path])
    assert [read_json(tmp_path / f"{rank}.json") for rank in (0, 1)] == [0.5, 0.5]


def test_one_process_talks_to_nobody() -> None:
    tensor = torch.ones(2)
    assert ALONE.sum(tensor) is tensor
    ALONE.sum_all([tensor])
    assert tensor.tolist() == [1, 1]
    assert (ALONE.any(True), ALONE.any(False)) == (True, False)
    assert ALONE.from_main(lambda: 3) == 3
    assert ALONE.own_device(torch.device("cuda")) == torch.device("cuda")
    error = StoreError("a.npy", "is damaged")

    def fail() -> None:
        raise error

    with pytest.raises(StoreError) as raised:
        ALONE.from_main(fail)
    assert raised.value is error


def test_each_process_has_the_gpu_of_its_number() -> None:
    group = Group(rank=5, size=8, local_rank=1)
    assert group.own_device(torch.device("cuda")) == torch.device("cuda", 1)
    assert group.own_device(torch.device("cpu")) == torch.device("cpu")


def test_a_process_that_torchrun_did_not_start_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(ConfigError, match=r"RANK, LOCAL_RANK.* unset.*training\.devices"),
        join_group(torch.device("cpu")),
    ):
        pass
