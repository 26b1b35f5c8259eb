"""Batch norm over the rows of all processes.

With statistics of its own rows each process would train another network than one process does.
torch's SyncBatchNorm refuses the CPU; this one runs everywhere, on sums from `torch.distributed`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import all_gather, all_reduce, get_world_size
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class SharedBatchNorm(_BatchNorm):
    """Batch norm whose statistics in training are those of the rows of all processes.

    Parameters and buffers have the names that torch's own has, so that checkpoints fit both.
    """

    @classmethod
    def of(cls, layer: _BatchNorm) -> SharedBatchNorm:
        """Return a layer with the same parameters and buffers (not copies) as one of torch's."""
        shared = cls(
            layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
        )
        shared.weight, shared.bias, shared.training = layer.weight, layer.bias, layer.training
        for name, buffer in layer.named_buffers(recurse=False):
            setattr(shared, name, buffer)
        return shared

    def forward(self, values: Tensor) -> Tensor:
        """Return normalised values [batch, channels, ...] of the same shape and type."""
        if not self.training:
            return super().forward(values)
        normalised, mean, variance, count = _SharedStatistics.apply(  # type: ignore[no-untyped-call]
            values, self.weight, self.bias, self.eps
        )
        if self.track_running_stats:
            self._follow(mean, variance, count)
        result: Tensor = normalised
        return result

    def _check_input_dim(self, input: Tensor) -> None:
        """Take any shape: which layer of torch's this one replaces has been decided."""

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        # As torch does it: the running variance is the unbiased one.
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        momentum = self.momentum
        if momentum is None:
            momentum = 1.0 / float(self.num_batches_tracked)  # type: ignore[arg-type]
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
        self.running_var.lerp_(unbiased, momentum)  # type: ignore[union-attr]


def share_batch_norm(network: nn.Module) -> nn.Module:
    """Return the network with every batch norm replaced by one over all processes."""
    if isinstance(network, _BatchNorm):
        return SharedBatchNorm.of(network)
    for name, child in network.named_children():
        setattr(network, name, share_batch_norm(child))
    return network


class _SharedStatistics(torch.autograd.Function):
    """Normalisation with the mean and variance of all processes' rows.

    Each sends count, mean and squared deviations of its rows, which are joined as Chan et al.
    (1979) do: a sum of squares less the square of a sum would cancel in 32 bits.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes = _all_but_channels(values)
        wide = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
        own_variance, own_mean = torch.var_mean(wide, axes, correction=0)
        own_count = values.numel() // values.shape[1]
        own = torch.cat([own_mean, own_variance * own_count, own_mean.new_full((1,), own_count)])
        gathered = [torch.empty_like(own) for _ in range(get_world_size())]
        all_gather(gathered, own)
        channels = values.shape[1]
        every = torch.stack(gathered)
        means, deviations, counts = every[:, :channels], every[:, channels:-1], every[:, -1:]
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        deviations = deviations + counts * (means - mean).square()
        variance = deviations.sum(0) / count
        ctx.save_for_backward(values, weight, mean, torch.rsqrt(variance + eps), count)
        normalised = functional.batch_norm(values, mean, variance, weight, bias, False, 0.0, eps)
        ctx.mark_non_differentiable(mean, variance, count)
        return normalised, mean, variance, count

    @staticmethod
    def backward(
        ctx: Any, gradient: Tensor, *unused: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        values, weight, mean, scale, count = ctx.saved_tensors
        axes = _all_but_channels(values)
        slope = gradient.to(mean.dtype)
        deviation = _by_channel(scale, values) * (values - _by_channel(mean, values))
        of_bias, of_weight = slope.sum(axes), (slope * deviation).sum(axes)
        sums = torch.stack([of_bias, of_weight])
        all_reduce(sums)
        mean_slope, mean_product = sums / count
        slope = slope - _by_channel(mean_slope, values)
        slope -= deviation * _by_channel(mean_product, values)
        factor = scale if weight is None else scale * weight
        of_values = (slope * _by_channel(factor, values)).to(values.dtype)
        # Those of the parameters are this process's share: all gradients are summed later.
        return of_values, None if weight is None else of_weight, _if(weight, of_bias), None


def _if(weight: Tensor | None, gradient: Tensor) -> Tensor | None:
    return None if weight is None else gradient


def _all_but_channels(values: Tensor) -> list[int]:
    return [axis for axis in range(values.dim()) if axis != 1]


def _by_channel(numbers: Tensor, values: Tensor) -> Tensor:
    return numbers.reshape(1, -1, *[1] * (values.dim() - 2))
