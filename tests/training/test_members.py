"""Which processes a configuration asks for, and by which commands they are started."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

import pytest
import torch

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.parallel import cpu_count
from amt_pipeline.training.config import TrainingConfig
from amt_pipeline.training.members import plan_processes

SPEC = Path("/shared/run/launch/spec.json")


def config(**settings: object) -> TrainingConfig:
    return TrainingConfig.model_validate({"device": "cpu", **settings})


@pytest.mark.parametrize(
    ("settings", "processes", "total"),
    [({}, 1, 1), ({"devices": "auto"}, 1, 1), ({"devices": 3}, 3, 3),
     ({"devices": 2, "nodes": 4}, 2, 8)],
)  # fmt: skip
def test_processes(settings: dict[str, object], processes: int, total: int) -> None:
    plan = plan_processes(config(**settings))
    assert (plan.processes, plan.total) == (processes, total)


def test_processors_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert plan_processes(config(devices=2)).threads == max(1, cpu_count() // 2)
    assert plan_processes(config(devices=1000)).threads == 1
    assert plan_processes(config(devices=2, threads=5)).threads == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    assert plan_processes(config(devices=2)).threads == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"devices": 3, "device": "cuda"}, r"training\.devices=3: this machine has 2 CUDA.*auto"),
     ({"devices": 2, "device": "cuda:1"}, "contradicts training.device=cuda:1")],
)  # fmt: skip
def test_gpus_that_are_not_there(
    settings: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert plan_processes(config(device="cuda", devices="auto")).processes == 2
    with pytest.raises(ConfigError, match=words):
        plan_processes(config(**settings))


def test_one_machine_needs_no_name() -> None:
    # A meeting place left from a run on several machines may be one of another machine.
    command = plan_processes(config(devices=2, endpoint="first:29500")).torchrun(SPEC)
    assert "--local-addr=127.0.0.1" in command
    assert "--rdzv-endpoint=localhost:0" in command
    assert command[-3:] == ["-m", "amt_pipeline.training.worker", str(SPEC)]


def test_the_line_for_other_machines_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    plan = plan_processes(config(devices=4, nodes=3, endpoint="first:29500", threads=2))
    with caplog.at_level(logging.INFO):
        plan.log_other_machines(SPEC)
        plan_processes(config(devices=4)).log_other_machines(SPEC)
    (message,) = caplog.messages
    assert message.startswith("Waiting for 2 more machines")
    line = shlex.split(message.splitlines()[-1])
    assert line[:2] == ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1", "OMP_NUM_THREADS=2"]
    assert line[2:] == plan.torchrun(SPEC)
    assert {"--nnodes=3", "--nproc-per-node=4", "--rdzv-endpoint=first:29500"} <= set(line)


def test_srun_starts_the_other_machines_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_processes(config(devices=4, nodes=3))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert not plan.in_slurm_job
    (tmp_path / "srun").touch(0o755)
    assert plan.in_slurm_job
    assert not plan_processes(config(devices=4)).in_slurm_job
    monkeypatch.setenv("SLURMD_NODENAME", "first")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    command = plan.srun(SPEC)
    assert command[:5] == ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1",
                           "--exclude=first"]  # fmt: skip
    assert "--cpus-per-task=8" in command
    assert command[-len(plan.torchrun(SPEC)) :] == plan.torchrun(SPEC)
