"""What fuzzing found before is kept: small files that readers once did not survive.

`corpus/<reader>/` holds them as they were found, after hypothesis had made them small; those that
can be said in a line are here.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from readers import READERS
from sandbox import Sandbox

CORPUS = Path(__file__).parent / "corpus"
KEPT = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
DEEP = 100_000


def npz_of(header: bytes, data: bytes = b"", name: str = "onset") -> bytes:
    """Return an archive with one array that has this header."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        length = len(header).to_bytes(2, "little")
        archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + length + header + data)
    return target.getvalue()


def bomb() -> bytes:
    """Return an archive that unpacks to two hundred times its size: 540 MB."""
    target, count = io.BytesIO(), 270_000_000
    header = f"{{'descr': '<f2', 'fortran_order': False, 'shape': ({count},), }}\n".encode()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in ("pitch", "evaluated", "seconds_per_frame"):
            archive.writestr(f"{name}.npy", b"")
        with archive.open("onset.npy", "w", force_zip64=True) as member:
            member.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
            for _ in range(270):
                member.write(bytes(2_000_000))
    return target.getvalue()


LITERALS = {
    "a list in a list in a list": ("json", b"[" * DEEP + b"]" * DEEP),
    "an object in an object": ("feature spec", b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "a number that JSON lacks": ("frame entry", b'{"n_frames": NaN}'),
    "a joint threshold is missing": ("joint", b'["onset", "pitch"]'),
    "a threshold beyond any probability": ("best", b'{"threshold": 1e999}'),
    "a threshold of 400 digits": ("best", b'{"threshold": ' + b"9" * 400 + b"}"),
    "a header that is half a list": ("probabilities", npz_of(b"{'descr': '<f2', 'shape': ((")),
    "an array of 8 EB": (
        "probabilities",
        npz_of(b"{'descr': '<f2', 'fortran_order': False, 'shape': (4611686018427387904,), }\n"),
    ),
    "a member that is no array": ("probabilities", npz_of(b"")),
    "an array header that is half a list": ("frames", b"\x93NUMPY\x01\x00\x04\x00{((\n"),
    "an archive in the place of an array": ("frames", npz_of(b"")),
    "a file name of 10,000 characters": (
        "file list",
        b'{"' + b"a" * 10_000 + b'": {"bytes": 1, "sha256": ""}}',
    ),
    "a file above the checkpoint": (
        "file list",
        b'{"../../../etc/hostname": {"bytes": 1, "sha256": ""}}',
    ),
}


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_finding_is_survived(path: Path, sandbox: Sandbox) -> None:
    outcome = sandbox.read(path.parent.name.replace("_", " "), path.read_bytes())
    assert outcome.is_good, f"{outcome.kind}: {outcome.text}"


@pytest.mark.parametrize("what", LITERALS)
def test_finding_in_a_line_is_refused(what: str, sandbox: Sandbox) -> None:
    reader, data = LITERALS[what]
    outcome = sandbox.read(reader, data)
    assert outcome.kind == "refused", f"{outcome.kind}: {outcome.text}"


def test_event_of_a_million_million_numbers_is_refused(sandbox: Sandbox) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1 << 40)])
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"))
    tensor = TensorProto(dtype=1, float_val=[0.5], tensor_shape=shape)
    value = Summary.Value(tag="eval/f1", metadata=metadata, tensor=tensor)
    event = Event(wall_time=1.0, step=1, summary=Summary(value=[value]))
    outcome = sandbox.read("event content", event.SerializeToString())
    assert outcome.kind == "refused"
    assert "holds no number under 'eval/f1'" in outcome.text


def test_archive_bomb_is_refused_before_it_is_unpacked(sandbox: Sandbox) -> None:
    outcome = sandbox.read("probabilities", bomb())
    assert outcome.kind == "refused"
    assert "holds more than" in outcome.text


def test_every_kept_file_names_its_reader() -> None:
    assert {path.parent.name.replace("_", " ") for path in KEPT} <= set(READERS)
    assert all(path.stat().st_size <= 8192 for path in KEPT)
