"""Readers of what training leaves behind: checkpoints, models, curves, evaluations, outputs."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mutations import BINARY, TEXT, ZIP
from reader_kit import Reader, put, require
from readers_store import framed, npz, unframed

FILES = ("model.safetensors", "optimiser.safetensors", "random.safetensors", "state.json",
         "history.json", "files.json")  # fmt: skip


def _network() -> Any:
    import torch

    torch.set_num_threads(1)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def _optimiser(network: Any) -> Any:
    import torch

    return torch.optim.Adam(network.parameters())


@cache
def _checkpoint() -> dict[str, bytes]:
    """A whole checkpoint of a tiny network."""
    import torch

    from amt_pipeline.training.checkpoints import CheckpointState, save_checkpoint

    network = _network()
    optimiser = _optimiser(network)
    network(torch.ones(4, 3)).sum().backward()
    optimiser.step()
    state = CheckpointState(4, True, {"name": "a", "deep": {"x": 1}}, "f", {"f1": 0.5}, "0.1")
    folder = save_checkpoint(
        Path("seed-run").absolute(),
        state=state, network=network, optimiser=optimiser,
        history=[{"step": 2, "train/loss": 0.5}, {"step": 4, "train/loss": 0.25}],
    )  # fmt: skip
    return {name: (folder / name).read_bytes() for name in FILES}


def _listing(files: dict[str, bytes]) -> bytes:
    """Return the list of files as whoever tampers with a checkpoint would write it."""
    import hashlib

    return json.dumps({
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in files.items() if name != "files.json"
    }).encode()  # fmt: skip


def read_checkpoint(name: str, data: bytes) -> None:
    from amt_pipeline.training import checkpoints

    files = {**_checkpoint(), name: data}
    if name != "files.json":
        files["files.json"] = _listing(files)
    for file, content in files.items():
        put(f"given-run/step-0000004/{file}", content)
    folder = Path("given-run/step-0000004").absolute()
    hashes = checkpoints.verify_checkpoint(folder)
    require(all(Path(file).name == file for file in hashes), "files of the folder")
    state = checkpoints.read_state(folder)
    require(isinstance(state.step, int) and state.step >= 0, "a step")
    require(isinstance(state.config, dict) and isinstance(state.metrics, dict), "mappings")
    require(isinstance(state.regular, bool) and isinstance(state.fingerprint, str), "the rest")
    network = _network()
    optimiser = _optimiser(network)
    history = checkpoints.load_training_state(folder, network, optimiser)
    require(isinstance(history, list) and all(isinstance(r, dict) for r in history), "history")
    require(all(isinstance(v, int | float) for r in history for v in r.values()), "scalars")
    network(_ones()).sum().backward()
    optimiser.step()


def _ones() -> Any:
    import torch

    return torch.ones(4, 3)


def tensor_headers(name: str) -> list[bytes]:
    data = _checkpoint()[name]
    (length,) = struct.unpack_from("<Q", data)
    return [data[8 : 8 + length]]


def read_with_header(name: str, header: bytes) -> None:
    """Read a tensor file whose header has a length that fits."""
    data = _checkpoint()[name]
    (length,) = struct.unpack_from("<Q", data)
    read_checkpoint(name, struct.pack("<Q", len(header)) + header + data[8 + length :])


@cache
def _models() -> dict[str, bytes]:
    """A models folder with untrained networks, as small as they get."""
    from amt_pipeline.features.spec import FeatureSpec
    from amt_pipeline.training.checkpoints import CheckpointState, save_checkpoint
    from amt_pipeline.transcription.networks import build_network
    from amt_pipeline.transcription.task_config import FrameTaskConfig

    spec = FeatureSpec(sample_rate=16000, hop_samples=256, bins=88, bins_per_octave=12)
    blocks = {name: {} for name in ("input", "labels", "training", "augment", "evaluation")}
    shape = {
        "onset": {"kind": "onset", "label_frames": 7, "channels": (1, 1), "dense_units": 2,
                  "recurrent_units": 1},
        "pitch": {"kind": "harmonic", "label_frames": 7, "channels": (1, 1)},
    }  # fmt: skip
    files = {}
    for task, model in shape.items():
        config = FrameTaskConfig.model_validate(
            {"name": task, "features": spec.model_dump(), "model": model, **blocks}
        )
        network = build_network(spec, config.model)
        values = config.model_dump(mode="json")
        state = CheckpointState(4, True, values, "f", {}, "0.1")
        folder = save_checkpoint(Path(f"seed-{task}").absolute(), state=state, network=network,
                                 optimiser=_optimiser(network), history=[])  # fmt: skip
        for name in ("model.safetensors", "state.json", "history.json"):
            files[f"{task}/best/{name}"] = (folder / name).read_bytes()
        files[f"{task}/best/best.json"] = b'{"step": 4, "threshold": 0.45, "f1": 0.5}'
    return files


def _put_models(changed: str, data: bytes) -> Path:
    files = {"transcription/joint.json": b"{}", **_models(), changed: data}
    for task in ("onset", "pitch"):
        own = {Path(n).name: content for n, content in files.items() if n.startswith(task)}
        files[f"{task}/best/files.json"] = _listing(own)
    for name, content in files.items():
        put(f"given-models/{name}", content)
    return Path("given-models").absolute()


def read_models(changed: str, data: bytes) -> None:
    """Open a models folder, load what it holds, and ask for its thresholds."""
    import torch

    from amt_pipeline.transcription.model_folder import ModelFolder

    folder = _put_models(changed, data)
    models = ModelFolder.open(folder)
    require(all(0 <= t <= 1 for t in models.thresholds.values()), f"{models.thresholds}")
    joint = models.joint_thresholds()
    require(joint is None or all(0 <= t <= 1 for t in joint.values()), f"joint {joint}")
    require(all(isinstance(key, str) for key in models.decoding()), "settings")
    if changed.startswith("onset"):
        models.load("onset", torch.device("cpu"))


def joint_seeds() -> list[bytes]:
    from amt_pipeline.transcription.model_folder import ModelFolder

    folder = _put_models("transcription/joint.json", b"{}")
    joint = {"onset": 0.3, "pitch": 0.4, "validation_f1": 0.5, "recordings": 2,
             "model": ModelFolder.open(folder).key, "decoding": {"onset_rule": "peaks"},
             "key": "0" * 64}  # fmt: skip
    return [json.dumps(joint, indent=1).encode()]


@cache
def _events() -> tuple[bytes, ...]:
    """Files of both styles of TensorBoard scalars, one of each."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    first = Event(wall_time=1.0, file_version="brain.Event:2")
    ones = [Event(wall_time=n, step=n, summary=Summary(value=[
        Summary.Value(tag="eval/f1", simple_value=n / 4)])) for n in (1, 2, 3)]  # fmt: skip
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"))
    packed = TensorProto(dtype=1, tensor_content=b"\0\0\x80?")
    listed = TensorProto(dtype=1, float_val=[0.5], tensor_shape=TensorShapeProto())
    twos = [Event(wall_time=n, step=n, summary=Summary(value=[
        Summary.Value(tag="eval/f1", metadata=metadata, tensor=tensor)]))
        for n, tensor in enumerate((packed, listed))]  # fmt: skip
    files = ([first, *ones], [first, *twos])
    return tuple(b"".join(framed(e.SerializeToString()) for e in file) for file in files)


def read_curve(name: str, data: bytes) -> None:
    from amt_pipeline.ranking.choice import rank_curve
    from amt_pipeline.ranking.curves import read_curve as read

    curve = read(put(name, data))
    require(list(curve.columns) == ["step", "value", "wall_time"], "columns")
    require(len(curve) > 0 and curve["step"].dtype == np.int64, f"steps {curve['step'].dtype}")
    require((np.diff(curve["step"]) > 0).all(), "ascending steps")
    require(curve["value"].dtype == np.float64 and curve["wall_time"].dtype == np.float64, "types")
    require(len(rank_curve(curve)) == len(curve), "a ranking")


def read_event_content(data: bytes) -> None:
    read_curve("events.out.tfevents.1", b"".join(map(framed, (*unframed(_events()[1])[:2], data))))


CURVE_CSV = b"Wall time,Step,Value\n1.5,0,0.1\n2.5,10,0.5\n3.5,20,0.4\n3.6,20,0.45\n"


def evaluation_seeds() -> list[bytes]:
    from amt_pipeline.training.metrics import N_BINS

    counts = np.random.default_rng(0).integers(0, 3, (2, N_BINS)).astype(np.int32)
    return [npz(True, key=np.array("k-w"), complete=np.array(True), units=np.array(["a", "b"]),
                positive=counts, negative=counts)]  # fmt: skip


def read_evaluation(data: bytes) -> None:
    from amt_pipeline.ranking.evaluation_cache import EvaluationCache
    from amt_pipeline.training.metrics import N_BINS, LogitHistogram

    cache_ = EvaluationCache(Path("kept").absolute(), "validation", "k", LogitHistogram)
    checkpoint = Path("step-0000004")
    put(f"kept/{cache_.path(checkpoint).name}", data)
    found = cache_.read(checkpoint, "w")
    for histogram in found.units.values():
        for counts in (histogram.positive, histogram.negative):
            require(counts.shape == (N_BINS,) and counts.dtype == np.int64, "counts")
            require((counts >= 0).all(), "counts from 0 on")
        scores = histogram.scores()
        require(all(0 <= value <= 1 for value in scores.values()), f"scores {scores}")
    LogitHistogram.total(list(found.units.values())).auc()


def probability_seeds() -> list[bytes]:
    rng = np.random.default_rng(0)
    return [npz(True, onset=rng.random(6).astype("f2"), pitch=rng.random((6, 88)).astype("f2"),
                evaluated=np.ones(6, bool), seconds_per_frame=0.0116)]  # fmt: skip


def read_probabilities(data: bytes) -> None:
    from amt_pipeline.transcription import probabilities

    said = probabilities.read_probabilities(put("given-probabilities.npz", data))
    n_frames = len(said.onset)
    shapes = (said.onset.shape, said.pitch.shape, said.evaluated.shape)
    require(shapes == ((n_frames,), (n_frames, 88), (n_frames,)), f"shapes {shapes}")
    for values in (said.onset, said.pitch):
        require(values.dtype == np.float32 and ((values >= 0) & (values <= 1)).all(), "chances")
    require(said.evaluated.dtype == bool, "what was evaluated")
    require(np.isfinite(said.seconds_per_frame) and said.seconds_per_frame > 0, "the hop")


def _file(name: str) -> Callable[[], list[bytes]]:
    return lambda: [_checkpoint()[name]]


def _of_checkpoint(name: str) -> Callable[[bytes], None]:
    return lambda data: read_checkpoint(name, data)


def _of_header(name: str) -> Reader:
    return Reader(lambda: tensor_headers(name), lambda data: read_with_header(name, data), TEXT)


def _of_models(name: str) -> Reader:
    return Reader(lambda: [_models()[name]], lambda data: read_models(name, data), TEXT)


READERS = {
    "weights": Reader(_file(FILES[0]), _of_checkpoint(FILES[0]), BINARY),
    "weights header": _of_header(FILES[0]),
    "optimiser header": _of_header(FILES[1]),
    "random header": _of_header(FILES[2]),
    "checkpoint state": Reader(_file(FILES[3]), _of_checkpoint(FILES[3]), TEXT),
    "history": Reader(_file(FILES[4]), _of_checkpoint(FILES[4]), TEXT),
    "file list": Reader(_file(FILES[5]), _of_checkpoint(FILES[5]), TEXT),
    "model state": _of_models("onset/best/state.json"),
    "best": _of_models("onset/best/best.json"),
    "joint": Reader(joint_seeds, lambda data: read_models("transcription/joint.json", data), TEXT),
    "events": Reader(
        lambda: list(_events()), lambda data: read_curve("events.out.tfevents.1", data), BINARY
    ),
    "event content": Reader(lambda: unframed(b"".join(_events())), read_event_content, BINARY),
    "curve csv": Reader(lambda: [CURVE_CSV], lambda data: read_curve("a.csv", data), TEXT),
    "evaluation": Reader(evaluation_seeds, read_evaluation, ZIP),
    "probabilities": Reader(probability_seeds, read_probabilities, ZIP),
}
