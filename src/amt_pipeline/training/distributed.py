"""Several processes that train one network together.

They share every batch: each takes its rows of the batch that one process would train on, and what
they send each other is sums. So any number of processes computes what one would, up to the order in
which numbers are added; but for dropout, which each draws for its own rows. On CUDA they talk by
NCCL, on the CPU by gloo.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from amt_pipeline.core.errors import ConfigError, UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.distributed import ProcessGroup

Value = TypeVar("Value")

ENVIRONMENT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells each process that it starts."""

TIMEOUT = timedelta(minutes=30)
"""How long one process waits for the others in a step: longer than a checkpoint takes to be
written, after which the main process comes later than they do."""

MAIN_TIMEOUT = timedelta(days=7)
"""How long they wait for what the main process does for all. It may evaluate a whole split on a
CPU, which has no bound that we know; should it die meanwhile, its closed connection ends the wait
at once, and torchrun starts all anew."""


@dataclass(frozen=True)
class Group:
    """The processes that train together; by default one that is alone.

    All of them call the same methods in the same order.

    Attributes:
        rank: Number of this process among all.
        size: How many there are.
        local_rank: Number of this process on its machine, and of its GPU there.
        patient: The torch process group that waits for the main one; None is the default one.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    patient: ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and speaks to the user."""
        return self.rank == 0

    def rows(self, n: int) -> slice:
        """Return which of `n` rows are this process's; the shares differ by one row at most."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def own_device(self, device: torch.device) -> torch.device:
        """Return the GPU of this process, or the device as it is when there is nothing to share."""
        import torch

        if self.size == 1 or device.type != "cuda":
            return device
        return torch.device("cuda", self.local_rank)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes; it is changed in place."""
        if self.size > 1:
            import torch.distributed

            torch.distributed.all_reduce(values)
        return values

    def sum_all(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their sums over all processes, in one message."""
        if self.size == 1 or not tensors:
            return
        import torch

        flat = self.sum(torch.cat([tensor.reshape(-1) for tensor in tensors]))
        first = 0
        for tensor in tensors:
            tensor.copy_(flat[first : first + tensor.numel()].view_as(tensor))
            first += tensor.numel()

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.size == 1:
            return flag
        import torch

        return bool(self.sum(torch.tensor(int(flag))))

    def from_main(self, function: Callable[[], Value]) -> Value:
        """Call a function in the main process; return what it returned in every one.

        Raises:
            UserError: The function raised it; every process raises it.
        """
        outcome: list[Any] = [None]
        if self.is_main:
            try:
                outcome = [function()]
            except UserError as error:
                outcome = [error]
        if self.size > 1:
            import torch.distributed

            torch.distributed.broadcast_object_list(outcome, src=0, group=self.patient)
        if isinstance(outcome[0], UserError):
            raise outcome[0]
        value: Value = outcome[0]
        return value


ALONE = Group()


def processes_here() -> int:
    """Return how many processes of this machine train together, this one among them."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "")  # torchrun's
    return max(1, int(text)) if text.isdecimal() else 1


@contextmanager
def join_group(device: torch.device) -> Iterator[Group]:
    """Meet the other processes that torchrun started, and do not leave before them.

    To be used once in a process, which ends soon after.

    Args:
        device: Kind of device that they train on.

    Raises:
        ConfigError: This process was not started by torchrun.
    """
    import torch
    import torch.distributed

    missing = [name for name in ENVIRONMENT if name not in os.environ]
    if missing:
        raise ConfigError(
            "amt_pipeline.training.worker",
            f"{', '.join(missing)} unset: this process was not started by torchrun",
            "Set training.devices (and training.nodes) and start `kedro run`: it does the rest",
        )
    rank, local_rank, size = (int(os.environ[name]) for name in ENVIRONMENT[:3])
    group = Group(rank, size, local_rank)  # which GPU is its own has to be set before they meet
    backend = "gloo"
    if device.type == "cuda":
        # Flags and paths go through gloo even so: waiting for them must not wait for the GPU.
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(group.own_device(device))
    torch.distributed.init_process_group(backend, timeout=TIMEOUT)
    patient = torch.distributed.new_group(backend="gloo", timeout=MAIN_TIMEOUT)
    group = replace(group, patient=patient)
    yield group
    # Not after an error: it would wait for processes that are gone. Who leaves first may break this
    # last message, but no earlier one: all have received those when they come here.
    with suppress(RuntimeError):
        group.any(False)
