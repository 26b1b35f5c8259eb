"""Every stage is killed at random while it works, started again, and ends as if nothing had been.

`make soak` does it many more times: AMT_KILLS says how often, AMT_SEED where. What is printed names
every kill; the same seed draws the same ones.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HARNESS = Path(__file__).with_name("harness.py")
KILLS = int(os.environ.get("AMT_KILLS", "27"))
SEED = int(os.environ.get("AMT_SEED", "0"))
PATIENCE_S = 300


@pytest.mark.slow
def test_chain_killed_anywhere_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    command = [sys.executable, str(HARNESS), str(tmp_path), "--kills", str(KILLS)]
    with subprocess.Popen(
        [*command, "--seed", str(SEED)], stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    ) as harness:
        assert harness.stdout is not None
        lines = []
        for line in harness.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line)
    assert harness.returncode == 0
    report = json.loads(lines[-1])
    assert report["differences"] == {}
    assert report["kills"] == KILLS
    killed = [line for line in lines if line.endswith(" killed\n")]
    assert len(killed) == KILLS


@contextmanager
def kedro(pipeline: str, root: Path, log: Path, **parameters: Any) -> Iterator[psutil.Popen]:
    """Start the command that a user types; it is gone when the block ends."""
    given = ",".join(f"{name}={value}" for name, value in parameters.items())
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--pipelines", pipeline]
    command += ["--params", f"data_root={root}" + (f",{given}" if given else "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (
        log.open("ab") as stream,
        psutil.Popen(command, cwd=REPOSITORY, env=environment, stdout=stream, stderr=stream) as run,
    ):
        try:
            yield run
        finally:
            if run.poll() is None:
                run.kill()


def wait_for(condition: Any, run: psutil.Popen) -> None:
    """Wait until a condition holds while a run is at work."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert run.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline_s, "nothing happened"
        time.sleep(0.02)


@pytest.mark.slow
def test_killed_command_leaves_no_worker_and_can_be_started_again(tmp_path: Path) -> None:
    root, log, frames = tmp_path / "data", tmp_path / "log.txt", tmp_path / "data" / "04_feature"
    sizes = {"maestro.demo.minutes": 0.6, "maestro.demo.pieces": 7, "parallel.workers": 2}
    sizes |= {"features.sample_rate": 16000, "features.hop_samples": 256}
    sizes |= {"features.bins": 88, "features.bins_per_octave": 12}
    for wanted in (1, 3):
        with kedro("ingest_maestro", root, log, **sizes) as run:
            wait_for(lambda: len(list(frames.rglob("[!.]*.npy"))) >= wanted, run)  # noqa: B023
            workers = run.children(recursive=True)
            run.send_signal(signal.SIGKILL)
            run.wait()
        # They see that nobody waits for them any more.
        _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
        assert workers
        assert not alive
        assert not (root / "03_primary").exists()
    # Its locks are free, what it left half written is cleared away, what it finished stays.
    done = {path: path.stat().st_ino for path in frames.rglob("demo-*.json")}
    with kedro("ingest_maestro", root, log, **sizes) as run:
        assert run.wait(PATIENCE_S) == 0, log.read_text()[-2000:]
    assert json.loads((root / "03_primary/maestro/summary.json").read_text())["recordings"] == 7
    assert {path: path.stat().st_ino for path in done} == done
    assert not list(root.rglob(".tmp-*"))
