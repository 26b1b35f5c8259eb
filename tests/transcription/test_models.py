"""The networks: sizes of the published tables, weights by formula, what runs and shifts give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.training.losses import weighted_cross_entropy
from amt_pipeline.transcription.models import FrameNetwork, ModelConfig
from amt_pipeline.transcription.networks import build_network

CQT = FeatureSpec()
SMALL: dict[str, dict[str, Any]] = {
    "onset": {"channels": (2, 3), "dense_units": 4, "recurrent_units": 3},
    "pitch_conv": {"channels": (1, 2, 2, 2, 2), "dense_units": 4, "recurrent_units": 3},
    "harmonic": {"channels": (2, 3)},
}
CONTEXT = {"onset": 2, "pitch_conv": 4, "harmonic": 18}


def network(kind: str, spec: FeatureSpec = CQT, **settings: Any) -> FrameNetwork:
    torch.manual_seed(7)
    values = {"kind": kind, **SMALL[kind], **settings}
    return build_network(spec, ModelConfig.model_validate(values)).eval()


def sizes(net: FrameNetwork, frames: Tensor) -> dict[str, tuple[int, ...]]:
    """Sizes of what enters and leaves every layer, without the batch."""
    seen: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            seen[f"into {name}"] = tuple(inputs[0].shape[1:])
            if isinstance(output, Tensor):
                seen[name] = tuple(output.shape[1:])

        return hook

    for name, layer in net.named_modules():
        layer.register_forward_hook(note(name))
    with torch.inference_mode():
        net(frames)
    return seen


@pytest.mark.parametrize("label_frames", [5, 7, 9, 11, 13, 15, 201])
@pytest.mark.parametrize("kind", CONTEXT)
def test_input_with_its_context_gives_the_labelled_frames(kind: str, label_frames: int) -> None:
    net = network(kind, label_frames=label_frames)
    assert net.context_frames == CONTEXT[kind]
    with torch.inference_mode():
        logits = net(torch.rand(2, 2, label_frames + 2 * net.context_frames, CQT.bins))
    assert logits.shape == ((2, label_frames) if kind == "onset" else (2, label_frames, 88))
    assert torch.isfinite(logits).all()


def test_onset_network_has_the_published_sizes_and_weights() -> None:
    net = network("onset", channels=(10, 20), dense_units=256, recurrent_units=128)
    seen = sizes(net, torch.rand(1, 2, 11, 356))
    # Channels come first here; the published table has time x bins x channels.
    assert seen["first"] == (10, 9, 342)
    assert seen["into second"] == (10, 9, 171)
    assert seen["second"] == (20, 7, 159)
    assert seen["into dense"] == (7, 80 * 20)
    assert seen["into recurrent"] == (7, 256)
    assert seen["into output"] == (7, 256)
    assert seen["output"] == (7, 1)
    convolutions = (2 * 3 * 15 + 1) * 10 + (10 * 3 * 13 + 1) * 20 + 2 * (10 + 20)
    lstm = 2 * 4 * 128 * (256 + 128 + 2)
    assert count(net) == convolutions + (1600 + 1) * 256 + lstm + 256 + 1


def test_pitch_network_has_the_published_sizes_and_weights() -> None:
    maps = (2, 8, 16, 32, 64, 128)
    net = network("pitch_conv", channels=maps[1:], dense_units=1024, recurrent_units=512)
    seen = sizes(net, torch.rand(1, 2, 17, 356))
    layers = [seen[f"convolutions.{i}"] for i in range(5)]
    assert layers == [(8, 15, 352), (16, 15, 352), (32, 13, 172), (64, 11, 168), (128, 9, 80)]
    assert [seen[f"into convolutions.{i}"][2] for i in (2, 4)] == [176, 84]  # pooled
    assert seen["into dense"] == (9, 40 * 128)
    assert seen["output"] == (9, 88)
    convolutions = sum((maps[i] * 15 + 1 + 2) * maps[i + 1] for i in range(5))
    lstm = 2 * 4 * 512 * (1024 + 512 + 2)
    assert count(net) == convolutions + (5120 + 1) * 1024 + lstm + (1024 + 1) * 88


def test_harmonic_network_has_few_weights() -> None:
    first, shared = 16, 32
    net = network("harmonic", channels=(first, shared))
    local = (2 * 3 * 9 + 1 + 2) * first
    gather = (12 * first + 1 + 2) * shared
    refine = (2 * (shared * 15 + 3) + shared * 3 + 3) * shared
    registers = 2 * shared * 88
    assert count(net) == local + gather + refine + registers + shared + 1 == 46_897


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def unsettle(net: FrameNetwork) -> FrameNetwork:
    """Give batch norms statistics of their own, as training would."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return net


def test_run_of_the_harmonic_network_says_what_single_windows_say() -> None:
    net = unsettle(network("harmonic"))
    labels, context = 5, net.context_frames
    frames = torch.rand(1, 2, 24 + labels - 1 + 2 * context, 356)
    with torch.inference_mode():
        run = net(frames)[0]
        windows = torch.cat([frames[:, :, t : t + labels + 2 * context] for t in range(24)])
        single = net(windows)
    for t in range(24):
        torch.testing.assert_close(single[t], run[t : t + labels], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["onset", "pitch_conv"])
def test_convolutions_of_a_run_are_those_of_windows_but_for_the_padded_ends(kind: str) -> None:
    net = unsettle(network(kind))
    before: list[Tensor] = []
    net.get_submodule("dense").register_forward_pre_hook(lambda _, inputs: before.append(inputs[0]))
    labels, context = 9, net.context_frames
    frames = torch.rand(1, 2, 20 + 2 * context, 356)
    with torch.inference_mode():
        net(frames)
        net(torch.cat([frames[:, :, t : t + labels + 2 * context] for t in range(12)]))
    run, single = before
    # "Same" pools look one frame ahead, where at the end of an input there is none: one frame per
    # pool, and one more on either side for the padded convolution of pitch_conv.
    whole = {"onset": slice(0, 7), "pitch_conv": slice(1, 5)}[kind]
    for t in range(12):
        same = run[0, t : t + labels][whole]
        torch.testing.assert_close(single[t, whole], same, atol=1e-5, rtol=0)


def test_harmonic_network_transposes_with_its_input() -> None:
    net = unsettle(network("harmonic"))
    frames = torch.rand(1, 2, 40, 356)
    higher = torch.roll(frames, 4, dims=3)  # one semitone
    with torch.inference_mode():
        plain, shifted = net(frames)[0], net(higher)[0]
    # Keys whose harmonics (12 below, 43 above) and neighbours (2 on either side) are in range.
    keys = torch.arange(15, 41)
    torch.testing.assert_close(shifted[:, keys + 1], plain[:, keys], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(shifted[:, keys], plain[:, keys])


@pytest.mark.parametrize("kind", CONTEXT)
def test_biases_start_at_a_tenth_and_the_output_at_the_prior(kind: str) -> None:
    net = network(kind, prior=0.2)
    output = net.get_submodule("output")
    assert torch.sigmoid(output.bias).tolist() == pytest.approx([0.2] * len(output.bias))
    assert network(kind).get_submodule("output").bias.tolist() == pytest.approx(
        [0.1] * len(output.bias)
    )
    others = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear) and m is not output]
    assert others
    assert all((layer.bias == 0.1).all() for layer in others)


@pytest.mark.parametrize("kind", CONTEXT)
def test_small_batch_is_learned_by_heart(kind: str) -> None:
    spec = FeatureSpec(bins=88, bins_per_octave=12)
    wide = {"channels": (4, 4, 8, 8, 8)} if kind == "pitch_conv" else {"channels": (4, 8)}
    more = {"dense_units": 32, "recurrent_units": 16, "dropout": 0.0}
    net = network(kind, spec, label_frames=9, **wide, **more).train()
    frames = torch.rand(2, 2, 9 + 2 * net.context_frames, spec.bins)
    targets = torch.rand((2, 9) if kind == "onset" else (2, 9, 88)) < 0.1
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(80):
        loss = weighted_cross_entropy(net(frames), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


REFUSED = {
    "too few widths": ("pitch_conv", {}, {"channels": (8, 16)}, "has 5 convolution widths, got 2"),
    "too many widths": (
        "harmonic",
        {},
        {"channels": (8, 16, 32)},
        "model.channels: harmonic has 2",
    ),
    "mel": ("harmonic", {"kind": "log_mel"}, {}, "needs a CQT from 27.5 Hz"),
    "bins between semitones": ("harmonic", {"bins_per_octave": 50}, {}, "whole bins per semitone"),
    "other lowest key": ("harmonic", {"fmin_hz": 32.7}, {}, "kind: pitch_conv"),
    "stride": ("onset", {}, {"frequency_stride": 30}, "model.frequency_stride: .* of 356. Lower"),
    "bins": ("onset", {"bins": 20}, {}, "features.bins: .* leave no bins of 20. Use more"),
    "bins of pitch": ("pitch_conv", {"bins": 30}, {}, "features.bins"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_network_that_does_not_fit_is_refused(case: str) -> None:
    kind, features, settings, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message):
        network(kind, FeatureSpec.model_validate(features), **settings)


@pytest.mark.parametrize("wrong", [{"label_frames": 8}, {"channels": (0, 4)}, {"prior": 1.0}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ModelConfig.model_validate({"kind": "onset", **wrong})


@pytest.mark.parametrize("kind", ["onset", "pitch_conv"])
def test_mel_bands_serve_the_other_networks(kind: str) -> None:
    spec = FeatureSpec(kind="log_mel")
    net = network(kind, spec, label_frames=5)
    with torch.inference_mode():
        assert net(torch.rand(1, 2, 5 + 2 * net.context_frames, spec.bins)).shape[1] == 5


@pytest.mark.parametrize(
    ("kind", "unused"),
    [
        ("onset", {"dropout": 0.1}),
        ("pitch_conv", {"frequency_stride": 2}),
        (
            "harmonic",
            {"dropout": 0.1, "dense_units": 9, "recurrent_units": 9, "frequency_stride": 2},
        ),
    ],
)
def test_settings_that_a_network_has_nothing_for_make_no_other_network(
    kind: str, unused: dict[str, Any]
) -> None:
    plain = {"kind": kind, "dropout": 0.2, "dense_units": 5, "recurrent_units": 6}
    first, second = (ModelConfig.model_validate(v) for v in (plain, {**plain, **unused}))
    assert first == second
    shapes = [
        {n: tuple(w.shape) for n, w in network(**{**SMALL[kind], **v}).state_dict().items()}
        for v in (plain, {**plain, **unused})
    ]
    assert shapes[0] == shapes[1]
    used = {"onset": {"dense_units": 7}, "pitch_conv": {"dropout": 0.3}, "harmonic": {"prior": 0.1}}
    assert ModelConfig.model_validate({**plain, **used[kind]}) != first


@pytest.mark.parametrize("case", ["too few widths", "too many widths", "mel"])
def test_remedies_for_lists_can_be_typed(case: str) -> None:
    kind, features, settings, _ = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        network(kind, FeatureSpec.model_validate(features), **settings)
    # --params splits its values at commas.
    assert "conf/local/parameters_*.yml" in caught.value.remedy
    assert "channels=[" not in caught.value.remedy
