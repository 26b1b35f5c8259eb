"""The processes of a training as the operating system sees them: how many, where, how started."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import socket
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from amt_pipeline.core.closing import Closing
from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.parallel import cpu_count
from amt_pipeline.training.channel import STOP_FILE
from amt_pipeline.training.config import TrainingConfig
from amt_pipeline.training.device import asked_threads, resolve_device
from amt_pipeline.training.worker import PIPE_VARIABLE, STOP_BYTE

logger = logging.getLogger(__name__)

JOIN_TIMEOUT_S = 24 * 3600
"""How long the first machine waits for the others: somebody may have to start them by hand."""

ENVIRONMENT = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""For torchrun: by default all starts of the processes share one table of addresses (torch 2.13),
so that after a restart they look for each other where they were before."""

KILL_AFTER_S = 10.0
TORCHRUN_LOG = "torchrun.log"
LOGS_FOLDER = "logs"


@dataclass(frozen=True)
class Plan:
    """Which processes train together.

    Attributes:
        nodes: Machines.
        processes: Processes on each.
        threads: CPU threads of each process.
        max_restarts: How often all are started again.
        endpoint: `host:port` where machines meet.
        run_id: Name of the meeting.
    """

    nodes: int
    processes: int
    threads: int
    max_restarts: int
    endpoint: str
    run_id: str

    @property
    def total(self) -> int:
        """Processes in all."""
        return self.nodes * self.processes

    @property
    def description(self) -> str:
        """For people: `4 processes on each of 2 machines, 8 threads each`."""
        where = f"on each of {self.nodes} machines" if self.nodes > 1 else "on this machine"
        return f"{self.processes} processes {where}, {self.threads} threads each"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that the command needs."""
        return {**ENVIRONMENT, "OMP_NUM_THREADS": str(self.threads)}

    def torchrun(self, spec: Path) -> list[str]:
        """Return the command that starts the processes of one machine."""
        command = [sys.executable, "-m", "torch.distributed.run"]
        command += [f"--nnodes={self.nodes}", f"--nproc-per-node={self.processes}"]
        command += ["--rdzv-backend=c10d", f"--rdzv-endpoint={self.endpoint}"]
        command += [f"--rdzv-id={self.run_id}", f"--rdzv-conf=join_timeout={JOIN_TIMEOUT_S}"]
        command += [f"--max-restarts={self.max_restarts}", f"--log-dir={spec.parent / LOGS_FOLDER}"]
        if self.nodes == 1:
            # By name a machine may be unknown to itself, or known by a slow look-up.
            command += ["--local-addr=127.0.0.1"]
        return [*command, "-m", "amt_pipeline.training.worker", str(spec)]

    def srun(self, spec: Path) -> list[str]:
        """Return the command that starts the processes of all other machines of a SLURM job."""
        others = self.nodes - 1
        command = ["srun", f"--nodes={others}", f"--ntasks={others}", "--ntasks-per-node=1"]
        command += [f"--exclude={os.environ.get('SLURMD_NODENAME', socket.gethostname())}"]
        if cores := os.environ.get("SLURM_CPUS_PER_TASK"):
            command += [f"--cpus-per-task={cores}"]
        return [*command, "--input=none", *self.torchrun(spec)]

    @property
    def in_slurm_job(self) -> bool:
        """Whether the other machines are those of this SLURM job."""
        return self.nodes > 1 and "SLURM_JOB_ID" in os.environ and bool(shutil.which("srun"))

    def log_other_machines(self, spec: Path) -> None:
        """Tell the user what to start on other machines, if there are any."""
        if self.nodes == 1:
            return
        if self.in_slurm_job:
            logger.info("Starting the other machines: %s", shlex.join(self.srun(spec)))
            return
        logger.info(
            "Waiting for %d more machines. Start on each of them, with this code and with the same "
            "files at the same paths:\n\n  %s %s\n",
            self.nodes - 1,
            " ".join(f"{name}={value}" for name, value in self.environment.items()),
            shlex.join(self.torchrun(spec)),
        )  # fmt: skip


def plan_processes(config: TrainingConfig) -> Plan:
    """Return which processes a configuration asks for.

    Raises:
        ConfigError: There are fewer GPUs, or one of them is named where several are asked for.
    """
    import torch

    device = resolve_device(config.device)
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    processes = (gpus or 1) if config.devices == "auto" else config.devices
    setting = f"training.devices={config.devices}"
    if device.type == "cuda" and processes > gpus:
        remedy = "Use training.devices=auto, or training.device=cpu"
        raise ConfigError(setting, f"this machine has {gpus} CUDA devices", remedy)
    if device.index is not None and processes > 1:
        problem = f"contradicts training.device={config.device}, which names one of them"
        raise ConfigError(setting, problem, "Use training.device=cuda")
    # Alone on its machine, torchrun takes a port when it needs one: none is lost to others before.
    endpoint = "localhost:0"
    if config.nodes > 1:
        endpoint = config.endpoint or f"{socket.gethostname()}:{_free_port()}"
    return Plan(
        nodes=config.nodes,
        processes=processes,
        threads=config.threads or asked_threads() or max(1, cpu_count() // processes),
        max_restarts=config.max_restarts,
        endpoint=endpoint,
        run_id=uuid.uuid4().hex[:8],
    )


class Members(Closing):
    """The started processes; those of this machine end with this process, whatever ends it.

    Args:
        plan: Which processes.
        spec: Their specification; torchrun's own log goes beside it.
    """

    def __init__(self, plan: Plan, spec: Path) -> None:
        self._folder, self._asked = spec.parent, False
        environment = {
            **os.environ,
            **plan.environment,
            # They find what this process finds, wherever it has that from.
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        }
        with (self._folder / TORCHRUN_LOG).open("ab") as log:
            self._others = [
                subprocess.Popen(
                    plan.srun(spec), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    start_new_session=True, env=environment,
                )
            ] if plan.in_slurm_job else []  # fmt: skip
            # In a session of its own, Ctrl+C does not reach it: it is for us to pass on.
            self._own = subprocess.Popen(
                [*plan.torchrun(spec)], stdin=subprocess.PIPE, stdout=log, stderr=log,
                start_new_session=True, env=environment | {PIPE_VARIABLE: "1"},
                bufsize=0,
            )  # fmt: skip

    @property
    def exit_code(self) -> int | None:
        """How torchrun on this machine ended; None while it has not."""
        return self._own.poll()

    def running(self) -> bool:
        """Whether the processes of this machine, or a restart of them, are at work."""
        return self._own.poll() is None

    def ask_to_stop(self) -> None:
        """Ask all processes to save and end; asking again does nothing."""
        if self._asked:
            return
        self._asked = True
        # First the file: should they be starting just now, they end by that.
        (self._folder / STOP_FILE).touch()
        if self._own.stdin is not None:
            try:
                self._own.stdin.write(STOP_BYTE)
            except BrokenPipeError:
                return  # they are gone already

    def close(self) -> None:
        """Wait for what is about to end, and end the rest."""
        done = self._own.poll() is not None
        if self._own.stdin is not None:
            self._own.stdin.close()
        for process in (self._own, *self._others):
            if not done:
                process.terminate()
            try:
                process.wait(KILL_AFTER_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
