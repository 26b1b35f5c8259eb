"""The networks: layers, the order of frames and samples, padding, gradients, precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.phonemes.models import ModelConfig
from amt_pipeline.phonemes.networks import WindowLstm, build_network
from amt_pipeline.training.several import SeveralNetworks

BINS, CLASSES, WINDOW = 39, 41, 7
KINDS = ("mlp", "lstm_window", "lstm_utterance")
WINDOW_KINDS = ("mlp", "lstm_window")


def network(kind: str, **settings: Any) -> nn.Module:
    torch.manual_seed(7)
    small = {"window_frames": WINDOW, "hidden_units": 24, "recurrent_units": 16}
    config = ModelConfig.model_validate({"kind": kind, **small, **settings})
    return build_network(BINS, CLASSES, config)


def inputs(kind: str, batch: int = 5) -> tuple[Tensor, ...]:
    """Windows, or utterances of several lengths."""
    generator = torch.Generator().manual_seed(3)
    time = WINDOW if kind != "lstm_utterance" else 12
    frames = torch.randn(batch, time, BINS, generator=generator)
    if kind != "lstm_utterance":
        return (frames,)
    return frames, torch.tensor([12, 4, 9, 1, 12, 7, 3, 12])[:batch]


def classes(net: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in net.get_submodule("blocks").children()]


def test_blocks_have_the_parts_that_are_asked_for() -> None:
    assert classes(network("mlp", hidden_layers=2)) == ["Linear", "ReLU"] * 2
    assert classes(network("mlp", hidden_layers=2, legacy_layers=True)) == ["Linear", "ReLU"] * 3
    block = ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    for kind in WINDOW_KINDS:
        net = network(kind, hidden_layers=3, batch_norm=True, dropout=0.25)
        assert classes(net) == block * 3
        assert {m.p for m in net.modules() if isinstance(m, nn.Dropout)} == {0.25}
    lstm = network("lstm_window", recurrent_layers=3, recurrent_dropout=0.3)
    recurrent = lstm.get_submodule("recurrent")
    assert isinstance(recurrent, nn.LSTM)
    assert (recurrent.num_layers, recurrent.dropout, recurrent.bidirectional) == (3, 0.3, True)


@pytest.mark.parametrize("kind", WINDOW_KINDS)
def test_flat_row_is_the_window_with_the_oldest_frame_first(kind: str) -> None:
    net = network(kind).eval()
    (windows,) = inputs(kind)
    flat = torch.cat([windows[:, t] for t in range(WINDOW)], dim=1)
    assert flat.shape == (5, WINDOW * BINS)
    with torch.inference_mode():
        assert torch.equal(net(flat), net(windows))
        assert not torch.allclose(net(windows.flip(1)), net(windows))


@pytest.mark.parametrize("kind", WINDOW_KINDS)
def test_samples_do_not_mix(kind: str) -> None:
    """Fails for a network that reshapes its batch to (frames, batch, bins)."""
    net = network(kind, batch_norm=True).eval()
    (windows,) = inputs(kind)
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.inference_mode():
        logits = net(windows)
        torch.testing.assert_close(net(windows[order]), logits[order], rtol=0, atol=1e-6)
        alone = torch.cat([net(window[None]) for window in windows])
        torch.testing.assert_close(alone, logits, rtol=0, atol=1e-6)


def test_the_guard_notices_the_wrong_reshape() -> None:
    class Mixed(WindowLstm):
        def forward(self, frames: Tensor) -> Tensor:
            wrong = frames.reshape(self.window[0], -1, self.window[1]).transpose(0, 1)
            return super().forward(wrong)

    config = ModelConfig(kind="lstm_window", window_frames=WINDOW, recurrent_units=16)
    net = Mixed(BINS, CLASSES, config).eval()
    (windows,) = inputs("lstm_window")
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.inference_mode():
        assert not torch.allclose(net(windows[order]), net(windows)[order], atol=1e-3)


@pytest.mark.parametrize(("readout", "step"), [("last", WINDOW - 1), ("centre", WINDOW // 2)])
def test_window_lstm_reads_in_time_and_answers_at_a_step(readout: str, step: int) -> None:
    net = network("lstm_window", readout=readout).eval()
    (windows,) = inputs("lstm_window")
    states: list[Tensor] = []
    net.get_submodule("blocks").register_forward_pre_hook(lambda _, given: states.append(given[0]))
    changed = windows.clone()
    changed[:, 0] += 1.0
    with torch.inference_mode():
        net(windows)
        net(changed)
        expected = net.get_submodule("recurrent")(windows)[0]
    assert torch.equal(states[0], expected[:, step])
    # The first frame reaches every later step.
    assert ((states[1] - states[0]).abs().amax(1) > 1e-5).all()


@pytest.mark.parametrize(
    "more",
    [{}, {"front_units": 8}, {"step_frames": 2}, {"front_units": 8, "step_frames": 5}],
)
def test_padding_changes_nothing(more: dict[str, int]) -> None:
    net = network("lstm_utterance", **more).eval()
    frames, n_frames = inputs("lstm_utterance", 8)
    valid = torch.arange(12) < n_frames[:, None]
    with torch.inference_mode():
        logits = net(frames, n_frames)
        alone = [net(frames[i : i + 1, :n], n_frames[i : i + 1])[0] for i, n in enumerate(n_frames)]
        torch.testing.assert_close(logits[valid], torch.cat(alone), rtol=0, atol=1e-6)
        for noise in (torch.nan, torch.inf, 1e6):
            padded = functional.pad(frames, (0, 0, 0, 9), value=noise)
            padded[:, :12][~valid] = noise
            longer = net(padded, n_frames)
            assert longer.shape == (8, 21, CLASSES)
            torch.testing.assert_close(longer[:, :12][valid], logits[valid], rtol=0, atol=1e-6)
            assert torch.isfinite(longer).all()


def test_utterance_network_computes_what_a_packed_lstm_does() -> None:
    net = network("lstm_utterance").eval()
    frames, n_frames = inputs("lstm_utterance")
    packed_lstm = nn.LSTM(BINS, 16, 2, batch_first=True, bidirectional=True)
    weights = dict(net.named_parameters())
    for name, value in packed_lstm.named_parameters():
        kind, layer = name.removesuffix("_reverse").rsplit("_l", 1)
        direction = "reverse" if name.endswith("_reverse") else "onward"
        value.data.copy_(weights[f"{direction}.{layer}.{kind}_l0"])
    packed = pack_padded_sequence(frames, n_frames, batch_first=True, enforce_sorted=False)
    with torch.inference_mode():
        states, _ = pad_packed_sequence(packed_lstm(packed)[0], batch_first=True)
        expected = net.get_submodule("output")(states)
        valid = torch.arange(12) < n_frames[:, None]
        logits = net(frames, n_frames)
    torch.testing.assert_close(logits[valid], expected[valid], rtol=0, atol=1e-6)


@pytest.mark.parametrize("step_frames", [1, 3])
def test_utterances_do_not_mix_and_see_both_ways(step_frames: int) -> None:
    net = network("lstm_utterance", step_frames=step_frames).eval()
    frames, n_frames = inputs("lstm_utterance")
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.inference_mode():
        logits = net(frames, n_frames)
        permuted = net(frames[order], n_frames[order])
        torch.testing.assert_close(permuted, logits[order], rtol=0, atol=1e-6)
        changed = frames.clone()
        changed[0, 6] += 1.0
        difference = (net(changed, n_frames) - logits).abs().amax(2)
    assert (difference[0] > 1e-6).all()
    assert difference[1:].max() == 0


def test_empty_utterance_is_harmless() -> None:
    net = network("lstm_utterance")
    frames, _ = inputs("lstm_utterance", 3)
    logits = net(frames, torch.tensor([0, 12, 5]))
    assert torch.isfinite(logits).all()
    logits[1].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("kind", "readout", "silent"),
    [
        ("mlp", "last", []),
        # One step backward from the end has no step before it: the weights between steps are idle.
        ("lstm_window", "last", ["recurrent.weight_hh_l1_reverse"]),
        ("lstm_window", "centre", []),
        ("lstm_utterance", "last", []),
    ],
)
def test_gradients_reach_every_weight(kind: str, readout: str, silent: list[str]) -> None:
    more = {"batch_norm": True, "dropout": 0.1, "recurrent_dropout": 0.1, "front_units": 8}
    net = network(kind, readout=readout, **more).train()
    torch.autograd.backward(net(*inputs(kind)).square().mean())
    reached = {n for n, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum()}
    assert [n for n, _ in net.named_parameters() if n not in reached] == silent


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_in_training_only(kind: str) -> None:
    given = inputs(kind)
    with torch.inference_mode():
        for dropout, same in ((0.0, True), (0.5, False)):
            net = network(kind, dropout=dropout).train()
            assert torch.equal(net(*given), net(*given)) == same
            net.eval()
            assert torch.equal(net(*given), net(*given))


@pytest.mark.parametrize("kind", WINDOW_KINDS)
def test_batch_norm_follows_its_batches(kind: str) -> None:
    given = inputs(kind)
    for batch_norm in (False, True):
        net = network(kind, batch_norm=batch_norm)
        before = {name: value.clone() for name, value in net.named_buffers()}
        assert bool(before) == batch_norm
        with torch.inference_mode():
            net.train()(*given)
        after = dict(net.named_buffers())
        moved = [name for name in before if not torch.equal(before[name], after[name])]
        assert bool(moved) == batch_norm


@pytest.mark.parametrize("kind", KINDS)
def test_few_examples_are_learned_by_heart(kind: str) -> None:
    net = network(kind, batch_norm=kind == "mlp").train()
    given = inputs(kind, 8)
    targets = torch.randint(CLASSES, (8, 12), generator=torch.Generator().manual_seed(1))
    if kind == "lstm_utterance":
        known = torch.arange(12) < given[1][:, None]
    else:
        targets, known = targets[:, 0], torch.ones(8, dtype=torch.bool)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(120):
        logits = net(*given)
        loss = functional.cross_entropy(logits[known], targets[known])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    assert (net.eval()(*given).argmax(-1) == targets)[known].float().mean() > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_several_networks_share_an_input(kind: str) -> None:
    nets = [network(kind, dropout=p).eval() for p in (0.0, 0.3)]
    given = inputs(kind)
    with torch.inference_mode():
        together = SeveralNetworks(nets).eval()(*given)
        assert torch.equal(together, torch.stack([net(*given) for net in nets]))


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_runs_and_says_the_same(kind: str) -> None:
    net = network(kind, batch_norm=True, front_units=8)
    given = inputs(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(*given)
    assert half.dtype == torch.bfloat16
    torch.autograd.backward(half.float().square().mean())
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    valid = slice(None) if kind != "lstm_utterance" else torch.arange(12) < given[1][:, None]
    torch.testing.assert_close(half.float()[valid], net(*given)[valid], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_draws_the_same_weights(kind: str) -> None:
    first, again = network(kind).state_dict(), network(kind).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(("bins", "n_classes"), [(0, 41), (39, 1)])
def test_network_without_purpose_is_refused(bins: int, n_classes: int) -> None:
    with pytest.raises(ConfigError, match="1 value per frame and 2 classes at least"):
        build_network(bins, n_classes, ModelConfig(kind="mlp"))
