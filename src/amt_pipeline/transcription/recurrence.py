"""The recurrent head over overlapping windows, run only as far as wanted frames need.

Of a BiLSTM over a window the forward half at a frame depends on the frames before it, the backward
half on those after it. So where only some frames of a window are wanted, the forward half ends at
the last of them and the backward half at the first: for one frame of nine, 10 steps of 18. What a
step takes from its input is a matrix product of the frame's features alone, which windows share
wherever they share the features.

Windows are stepped together, those that go farthest first; those that are done fall off the end.
Batches are filled up (`steady`), so that what is said of a window does not depend on how many go
along.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from amt_pipeline.transcription import steady
from amt_pipeline.transcription.models import LONGEST_PUBLISHED_WINDOW, RecurrentNetwork
from amt_pipeline.transcription.window_maps import Rows, WindowMaps

Mask = npt.NDArray[np.bool_]
N_GATES = 4
SIGMOIDS_FIRST = (0, 1, 3, 2)
"""Input, forget, output and cell gate in torch's weights: three neighbours have a sigmoid."""


class RecurrentHead:
    """The BiLSTM and the output layer of a network, over windows.

    Long windows are read whole by the network's own LSTM: there is little to leave out, few windows
    go along, and one fused kernel is sooner done than single steps. So it is on CUDA, too.

    Args:
        network: On its device, in the precision that is computed in. It is changed.
        length: Labelled frames per window.
    """

    def __init__(self, network: RecurrentNetwork, length: int) -> None:
        self._network = network
        network.output = steady.SteadyLinear(network.output.weight, network.output.bias)
        self.in_steps = length <= LONGEST_PUBLISHED_WINDOW and not network.output.weight.is_cuda
        if self.in_steps:
            self._directions = [_Direction.of(network.recurrent, backward=b) for b in (False, True)]

    def filled(self, count: int, batch: int) -> int:
        """Return the windows that have to be computed for so many, at most a batch."""
        # A fused LSTM chooses among kernels by their number.
        return min(batch, steady.filled(count)) if self.in_steps else batch

    def logits(self, hidden: WindowMaps, wanted: Mask | None = None) -> Tensor:
        """Return [windows, label frames, outputs], without the last axis for a single output.

        Args:
            hidden: What the dense layer says, [n, units].
            wanted: [windows, label frames]; logits of others are anything finite. None is all.
        """
        if not self.in_steps:
            return self._network.read(hidden.stacked())
        if wanted is None:
            wanted = np.ones((len(hidden.starts), hidden.length), bool)
        output = cast("steady.SteadyLinear", self._network.output)
        logits: Tensor = hidden.common.new_zeros(wanted.size, output.units)
        if wanted.any():
            states = [direction.states(hidden, wanted) for direction in self._directions]
            found = output(torch.cat(states, dim=1))
            logits[torch.from_numpy(np.flatnonzero(wanted))] = found
        return logits.reshape(*wanted.shape, -1).squeeze(2)


@dataclass(frozen=True)
class _Direction:
    """One half of a BiLSTM.

    Attributes:
        backward: Whether it runs from the last frame to the first.
        projection: From a frame's features to what they add to the gates.
        recurrent: [filled units, 4 x filled units] from the state to the gates.
        units: Without those that fill up to whole vectors, which stay at zero.
    """

    backward: bool
    projection: steady.SteadyLinear
    recurrent: Tensor
    units: int

    @classmethod
    def of(cls, lstm: nn.LSTM, *, backward: bool) -> _Direction:
        """Take the weights of one half."""
        more = -lstm.hidden_size % steady.VECTOR

        def gates(name: str) -> Tensor:
            value = getattr(lstm, f"{name}_l0" + "_reverse" * backward).detach()
            parts = value.reshape(N_GATES, lstm.hidden_size, -1)[list(SIGMOIDS_FIRST)]
            return functional.pad(parts, (0, 0, 0, more)).flatten(0, 1)

        bias = (gates("bias_ih") + gates("bias_hh"))[:, 0]
        recurrent = functional.pad(gates("weight_hh"), (0, more)).t()
        return cls(backward, steady.SteadyLinear(gates("weight_ih"), bias), recurrent,
                   lstm.hidden_size)  # fmt: skip

    def states(self, hidden: WindowMaps, wanted: Mask) -> Tensor:
        """Return the states at the wanted frames, window by window: [wanted, units]."""
        count, length = wanted.shape
        order, going = _plan(wanted[:, ::-1] if self.backward else wanted)
        gates = _Gates(self, hidden, order, going)
        states = self.recurrent.new_empty(length, count, len(self.recurrent))
        cell, state = torch.zeros(count, len(self.recurrent)), None
        for step, alive in enumerate(going):
            summed = gates.at(step)
            if state is not None:
                summed.addmm_(state[:alive], self.recurrent)
            state = states[step, :alive]
            _step(summed.float(), cell[:alive], state)
        window, position = np.nonzero(wanted)
        at = self.step_of(position, length) * count + np.argsort(order)[window]
        return states.flatten(0, 1).index_select(0, torch.from_numpy(at))[:, : self.units]

    def step_of(self, position: Any, length: int) -> Any:
        """Return the step at which a frame of a window comes, and the other way round."""
        return length - 1 - position if self.backward else position


class _Gates:
    """What the frames of windows add to the gates.

    Args:
        direction: Whose gates.
        hidden: What the dense layer says of the windows.
        order: [windows] the windows, those that go farthest first.
        going: Windows that go along, by step.
    """

    def __init__(
        self, direction: _Direction, hidden: WindowMaps, order: Rows, going: list[int]
    ) -> None:
        self._hidden, self._order, self._going = hidden, order, going
        self._positions = [direction.step_of(step, hidden.length) for step in range(len(going))]
        own = {
            position: hidden.special[position].index_select(0, torch.from_numpy(order[:alive]))
            for position, alive in zip(self._positions, going, strict=True)
            if position in hidden.special
        }
        shared = [hidden.common] if len(hidden.rows) else []
        projected = direction.projection.together([*shared, *own.values()])
        self._common = projected[0]
        self._special = dict(zip(own, projected[len(shared) :], strict=True))

    def at(self, step: int) -> Tensor:
        """Return [windows that go along, gates]; to be asked for once, and written to."""
        position = self._positions[step]
        if position in self._special:
            own: Tensor = self._special[position]
            return own
        frames = self._hidden.starts[self._order[: self._going[step]]] + position
        which = np.searchsorted(self._hidden.rows, frames)
        return self._common.index_select(0, torch.from_numpy(which))


def _plan(steps: Mask) -> tuple[Rows, list[int]]:
    """Return the order of windows, those that go farthest first, and how many go along by step.

    Args:
        steps: [windows, steps], whether the state after a step is wanted.
    """
    count, length = steps.shape
    reach = np.where(steps.any(axis=1), length - np.argmax(steps[:, ::-1], axis=1), 0)
    alive = [int((reach > step).sum()) for step in range(int(reach.max(initial=0)))]
    going = [min(count, steady.filled(own)) for own in alive]
    return np.argsort(-reach, kind="stable"), going


def _step(gates: Tensor, cell: Tensor, state: Tensor) -> None:
    """Make one step of an LSTM, in place: from the summed gates to the next cell and state."""
    units = cell.shape[1]
    gates[:, : 3 * units].sigmoid_()
    gates[:, 3 * units :].tanh_()
    entering, kept, shown, new = torch.split(gates, units, dim=1)
    cell.mul_(kept).addcmul_(entering, new)
    state.copy_(torch.tanh(cell).mul_(shown))
