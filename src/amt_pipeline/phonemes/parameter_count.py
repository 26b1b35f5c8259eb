"""How many parameters a network has, and how wide another depth has to be to have as many.

A comparison of deep and narrow with shallow and wide says something only where both have the same
size. With i inputs, o outputs and l hidden layers of d units, an MLP has

    (i + 1) d + (d + 1) d (l - 1) + (d + 1) o  =  (l - 1) d^2 + (i + o + l) d + o

parameters, and 2 d more per layer with batch norm. The derivation of the matching width and the
figures it gives: docs/phonemes.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.phonemes.models import ModelConfig

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn


def mlp_total(
    inputs: int, outputs: int, layers: int, width: int, *, batch_norm: bool = False
) -> int:
    """Return the number of parameters of an MLP, by formula.

    Args:
        inputs: Numbers of a row (39 x window_frames).
        outputs: Classes.
        layers: Hidden layers that are there (`ModelConfig.block_layers`).
        width: Units of each.
        batch_norm: Whether each has batch norm (its scale and its offset).

    Raises:
        ConfigError: One of the numbers is below 1.
    """
    _check(inputs=inputs, outputs=outputs, layers=layers, width=width)
    square, linear = _coefficients(inputs, outputs, layers, batch_norm)
    return square * width**2 + linear * width + outputs


def matched_width(
    inputs: int,
    outputs: int,
    layers: int,
    width: int,
    target_layers: int,
    *,
    batch_norm: bool = False,
) -> int:
    """Return the width at which `target_layers` hidden layers have about as many parameters.

    It is the positive root of the difference of both totals, to the nearest whole unit. (The
    other root is negative.) With one hidden layer the square vanishes and the equation is linear.

    Args:
        inputs: Numbers of a row, of both networks.
        outputs: Classes, of both networks.
        layers: Hidden layers of the given network.
        width: Units of each of them.
        target_layers: Hidden layers of the other network.
        batch_norm: Whether the layers of both have batch norm.

    Raises:
        ConfigError: One of the numbers is below 1, or even one unit per layer is too many.
    """
    _check(target_layers=target_layers)
    wanted = mlp_total(inputs, outputs, layers, width, batch_norm=batch_norm) - outputs
    square, linear = _coefficients(inputs, outputs, target_layers, batch_norm)
    if square == 0:
        root = wanted / linear
    else:
        # The usual form of the root, (-b + sqrt(b^2 + 4 a c)) / 2 a, subtracts two nearly equal
        # numbers where the square hardly counts; this one does not.
        root = 2 * wanted / (linear + math.sqrt(linear**2 + 4 * square * wanted))
    matched = round(root)
    if matched < 1:
        raise ConfigError(
            "target_layers",
            f"{target_layers} hidden layers of a single unit already have more parameters than "
            f"{layers} of {width}",
            "Ask for fewer layers",
        )
    return matched


def matched_config(
    bins: int, n_classes: int, config: ModelConfig, target_layers: int
) -> ModelConfig:
    """Return the settings of an MLP of another depth and about the same size.

    Args:
        bins: Values of a frame.
        n_classes: Logits of a frame.
        config: The given network. With `legacy_layers` both have the layer more.
        target_layers: `hidden_layers` of the other network.

    Raises:
        ConfigError: It is no MLP, or no width matches.
    """
    if config.kind != "mlp":
        raise ConfigError("model.kind", f"{config.kind} has no matching width", "Use mlp")
    _check(target_layers=target_layers)
    width = matched_width(
        bins * config.window_frames,
        n_classes,
        config.block_layers,
        config.hidden_units,
        target_layers + config.legacy_layers,
        batch_norm=config.batch_norm,
    )
    return config.model_copy(update={"hidden_layers": target_layers, "hidden_units": width})


def parameter_total(bins: int, n_classes: int, config: ModelConfig) -> int:
    """Return the number of parameters of a network of any kind, by formula.

    Each direction of an LSTM layer has four gates, each with weights on its input and on its own
    units and two biases: 4 u (inputs + u + 2) for u units.

    Args:
        bins: Values of a frame.
        n_classes: Logits of a frame.
        config: The network.
    """
    if config.kind == "mlp":
        inputs, recurrent = bins * config.window_frames, 0
    else:
        units = config.recurrent_units
        first = (config.front_units or bins) * config.step_frames
        later = (config.recurrent_layers - 1) * (2 * units + units + 2)
        recurrent = 2 * 4 * units * (first + units + 2 + later)
        inputs = 2 * units
    if config.kind == "lstm_utterance":
        front = (bins * config.front_frames + 1) * config.front_units
        return front + recurrent + (inputs + 1) * n_classes * config.step_frames
    blocks = mlp_total(
        inputs,
        n_classes,
        config.block_layers,
        config.hidden_units,
        batch_norm=config.batch_norm,
    )
    return recurrent + blocks


def network_total(network: nn.Module) -> int:
    """Return the number of parameters that a network has, by counting."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_table(bins: int, n_classes: int, config: ModelConfig) -> pd.DataFrame:
    """Return the parameters of a network tensor by tensor, for people.

    Args:
        bins: Values of a frame.
        n_classes: Logits of a frame.
        config: The network. It is built without memory for its weights, however large.

    Returns:
        Columns `tensor` (name), `shape` ("64 x 117") and `count`, in the order of the network.

    Raises:
        ConfigError: The network cannot be built.
    """
    import pandas as pd
    import torch

    from amt_pipeline.phonemes.networks import build_network

    with torch.device("meta"):
        network = build_network(bins, n_classes, config)
    rows = [
        (name, " x ".join(map(str, parameter.shape)), parameter.numel())
        for name, parameter in network.named_parameters()
    ]
    return pd.DataFrame(rows, columns=["tensor", "shape", "count"])


def _coefficients(inputs: int, outputs: int, layers: int, batch_norm: bool) -> tuple[int, int]:
    """Return what the square of the width and the width itself are multiplied with."""
    return layers - 1, inputs + outputs + layers * (3 if batch_norm else 1)


def _check(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ConfigError(name, f"must be 1 at least, got {number}")
