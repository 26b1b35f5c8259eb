from __future__ import annotations

import logging
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import pytest
import torch

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.parallel import cpu_count
from amt_pipeline.training import device
from amt_pipeline.training.device import autocast, resolve_device, resolve_precision, set_threads
from amt_pipeline.training.interrupt import InterruptGuard

CPU = torch.device("cpu")


def test_auto_takes_cuda_where_it_is() -> None:
    assert resolve_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda:63", "cuda"])
def test_a_missing_device_is_named(name: str) -> None:
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    n = torch.cuda.device_count()
    with pytest.raises(ConfigError, match=rf"device={name}: no such device \({n} CUDA.*auto"):
        resolve_device(name)
    with pytest.raises(ConfigError, match=rf"^own={name}: .* Use own=auto$"):
        resolve_device(name, "own")


def test_precision() -> None:
    assert resolve_precision("auto", CPU) == "float32"
    assert resolve_precision("auto", torch.device("cuda")) == "bfloat16"
    assert resolve_precision("bfloat16", CPU) == "bfloat16"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_autocast_sets_the_type_of_products(precision: str) -> None:
    layer = torch.nn.Linear(2, 2)
    with autocast(precision, CPU):
        assert layer(torch.ones(1, 2)).dtype == getattr(torch, precision)


@pytest.fixture
def threads_restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads_restored")
@pytest.mark.parametrize(
    ("asked", "variable", "expected"),
    [
        (3, "2", 3), (None, "2", 2), (None, "2,1", 2), (None, None, cpu_count()),
        (None, "many", cpu_count()), (None, "0", cpu_count()),
    ],
)  # fmt: skip
def test_threads(
    asked: int | None, variable: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert set_threads(asked) == expected == torch.get_num_threads()


@pytest.fixture
def received() -> Iterator[list[int]]:
    """Signals that reached the handlers outside the guard."""
    arrived: list[int] = []

    def keep(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt

    before = {n: signal.signal(n, keep) for n in (signal.SIGINT, signal.SIGTERM)}
    yield arrived
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_flag_the_second_acts(
    first: int, received: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), InterruptGuard() as guard:
        assert not guard.requested
        os.kill(os.getpid(), first)
        assert guard.requested
        assert received == []
        assert "press Ctrl+C again" in caplog.text
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert received == [signal.SIGINT]


def test_afterwards_signals_act_as_before(received: list[int]) -> None:
    with InterruptGuard() as guard:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    assert received == [signal.SIGTERM]
    assert not guard.requested


def test_handlers_come_back_after_an_error(received: list[int]) -> None:
    with pytest.raises(ZeroDivisionError), InterruptGuard():
        raise ZeroDivisionError
    os.kill(os.getpid(), signal.SIGTERM)
    assert received == [signal.SIGTERM]


def test_in_another_thread_the_guard_does_nothing(received: list[int]) -> None:
    seen = []

    def work() -> None:
        with InterruptGuard() as guard:
            seen.append(guard.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
    os.kill(os.getpid(), signal.SIGTERM)
    assert received == [signal.SIGTERM]


def test_freed_memory_is_kept_where_the_c_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    class Library:
        largest = 1 << 40

        def mallopt(self, setting: int, value: int) -> int:
            calls.append((setting, value))
            return int(setting == -1 or value <= self.largest)

    monkeypatch.setattr(device.ctypes, "CDLL", lambda _: Library())
    assert device.keep_freed_memory()
    assert [setting for setting, _ in calls] == [-3, -1]
    Library.largest = 1 << 25  # as an older one has it
    assert device.keep_freed_memory()
    assert [setting for setting, _ in calls[2:]] == [-3, -3, -1]
    assert calls[3][1] == 1 << 25
    Library.largest = 0
    assert not device.keep_freed_memory()
    monkeypatch.setattr(device.ctypes, "CDLL", lambda _: object())
    assert not device.keep_freed_memory()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's setting")
def test_freed_memory_is_not_fetched_again() -> None:
    code = (
        "import resource, sys\n"
        "from amt_pipeline.training.device import keep_freed_memory\n"
        "if sys.argv[1] == 'keep': assert keep_freed_memory()\n"
        "blocks = lambda: [bytearray(24 << 20) for _ in range(4)]\n"
        "blocks()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "blocks()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    faults = [
        int(
            subprocess.run(
                [sys.executable, "-c", code, how], check=True, capture_output=True
            ).stdout
        )
        for how in ("leave", "keep")
    ]
    assert faults[1] < faults[0] / 10
