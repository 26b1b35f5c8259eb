"""Readers of what a corpus of speech brings: tensors, lists, alignments; and of label packs."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mutations import BINARY, TEXT, ZIP
from reader_kit import Reader, put, require

WIDTH, N_FRAMES = 5, 4


def tensor_seeds() -> list[bytes]:
    """A tensor in both forms of torch's files, in other precisions, and as a view."""
    import torch

    torch.set_num_threads(1)
    tensor = torch.arange(N_FRAMES * WIDTH, dtype=torch.float32).reshape(N_FRAMES, WIDTH) / 7
    values = [tensor, tensor.half(), tensor.double(), tensor.T.contiguous().T]
    return [_saved(value) for value in values] + [_saved(tensor, new=False)]


def _saved(value: Any, *, new: bool = True) -> bytes:
    import torch

    target = io.BytesIO()
    torch.save(value, target, _use_new_zipfile_serialization=new)
    return target.getvalue()


def read_tensor(data: bytes) -> None:
    from amt_pipeline.phonemes.tensor_reading import LARGEST_VALUE
    from amt_pipeline.phonemes.tensor_reading import read_tensor as read

    frames = read(put("given.pt", data), WIDTH)
    require(frames.dtype == np.float32 and frames.flags.c_contiguous, "float32 in C order")
    require(frames.ndim == 2 and frames.shape[1] == WIDTH and len(frames) > 0, "frames")
    require(len(frames) * WIDTH <= len(data), "no more values than the file has")
    require(np.isfinite(frames).all() and np.abs(frames).max() <= LARGEST_VALUE, "values")


IDS = ("1-2-3", "1-2-4", "5-6-7", "8-9-10")


@cache
def _make_corpus(name: str) -> Path:
    """Write a corpus in the course's layout, to be damaged in one file."""
    import torch

    root = Path(name).absolute()
    for folder, ids in (("train", IDS[:3]), ("test", IDS[3:])):
        for one in ids:
            put(f"{name}/feat/{folder}/{one}.pt", _saved(torch.zeros(N_FRAMES, 39)))
        put(f"{name}/{folder}_split.txt", "".join(f"{one}\n" for one in ids).encode())
    put(f"{name}/train_labels.txt", label_seeds()[0])
    return root


def list_seeds() -> list[bytes]:
    lines = [f"{one}\n" for one in IDS[:3]]
    return ["".join(lines).encode(), "\r\n \r\n".join(IDS[:3]).encode("utf-8-sig")]


def label_seeds() -> list[bytes]:
    lines = [f"{one} 0 40 7 {number}\n" for number, one in enumerate(IDS[:3])]
    return ["".join(lines).encode(), "\r\n".join(lines).encode("utf-16")]


def read_lists(name: str, data: bytes) -> None:
    """Read a corpus one of whose lists is damaged."""
    from amt_pipeline.core.errors import UserError
    from amt_pipeline.phonemes.classes import ARPABET
    from amt_pipeline.phonemes.config import LibrispeechConfig
    from amt_pipeline.phonemes.libriphone import read_libriphone

    root = _make_corpus(f"corpus-{name}")
    put(f"corpus-{name}/{name}.txt", data)
    try:
        read_libriphone(root, LibrispeechConfig())
    except UserError as error:
        str(error).encode()
    reading = read_libriphone(root, LibrispeechConfig(missing="quarantine"))
    names = [one.recording_id for one in reading.utterances]
    require(len(set(names)) == len(names), "unique ids")
    for one in reading.utterances:
        require(one.source_path.parent.parent == root / "feat", "inside the corpus")
        require(one.split in ("train", "validation", "test"), "a split")
        if one.classes is not None:
            require(one.classes.dtype == np.uint8, "labels are bytes")
            require((one.classes < len(ARPABET)).all(), "labels are classes")
    for text in (*reading.warnings, *(str(error) for _, error in reading.failures)):
        require("\n" not in text and text.encode(), "texts of one line")


def csv_seeds() -> list[bytes]:
    text = "start_s,end_s,phone\n0.00,0.10,SIL\n0.10,0.20,AH0\n0.20,0.50,spn\n"
    other = 'word,phone,start_s,end_s\r\n"a, b",K,0,2.5e-1\r\n,T_E,.25,0.5\r\n'
    return [text.encode(), other.encode("utf-8-sig")]


LONG_FORM = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 0.5
        points: size = 1
        points [1]:
            number = 0.1
            mark = "a ""click"" b"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.5
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.5
            text = "AH0" ! here
"""
SHORT_FORM = """File type = "ooTextFile"
"TextGrid"

0
0.5
<exists>
1
"IntervalTier"
"A - phones"
0
0.5
2
0
0.25
"sil"
0.25
0.5
"ZH"
"""


def textgrid_seeds() -> list[bytes]:
    return [LONG_FORM.encode(), SHORT_FORM.encode(), LONG_FORM.encode("utf-16")]


def read_alignment(suffix: str, data: bytes) -> None:
    """Read an alignment, and label frames by it."""
    from amt_pipeline.features.mfcc_spec import MfccSpec
    from amt_pipeline.phonemes.alignments import read_alignment as read
    from amt_pipeline.phonemes.classes import ARPABET
    from amt_pipeline.phonemes.labels import frame_classes

    alignment = read(put(f"given.{suffix}", data), ARPABET, 0.5)
    start_s, end_s = alignment.start_s, alignment.end_s
    require(len(start_s) == len(end_s) == len(alignment.classes) > 0, "segments")
    require(np.isfinite(start_s).all() and np.isfinite(end_s).all(), "finite times")
    require((start_s >= 0).all() and (end_s >= start_s).all() and (end_s < 0.6).all(), "in order")
    require((np.diff(start_s) >= 0).all(), "sorted")
    require((alignment.classes < len(ARPABET)).all(), "known classes")
    require(all("\n" not in text for text in alignment.warnings), "warnings of one line")
    classes = frame_classes(alignment, 48, MfccSpec().grid, 0)
    require(classes.dtype == np.uint8 and classes.shape == (48,), "a class per frame")


def classes_seeds() -> list[bytes]:
    return [b"0 SIL\n1 AH\n2 K\n", b"\xef\xbb\xbf2 SIL\r\n\r\n0 A\r\n1 B\r\n"]


def read_classes(data: bytes) -> None:
    from amt_pipeline.phonemes.classes import read_classes as read

    classes = read(put("classes/phone_classes.txt", data).parent)
    require(2 <= len(classes) <= 256, "classes that fit a byte")
    require([classes.find(name) for name in classes.names] == [*range(len(classes))], "names")


@cache
def _label_pack() -> dict[str, bytes]:
    from amt_pipeline.phonemes.label_store import LabelPart, write_label_pack

    parts = [LabelPart("a", np.array([1, 2, 3], np.uint8), {"n": 3}), LabelPart("b", None)]
    write_label_pack(Path("seed-labels").absolute(), "pack", parts)
    return {suffix: Path(f"seed-labels/pack.{suffix}").read_bytes() for suffix in ("npy", "json")}


def read_label_pack(suffix: str, data: bytes) -> None:
    from amt_pipeline.phonemes.label_store import read_labels

    for name, content in {**_label_pack(), suffix: data}.items():
        put(f"given-labels/pack.{name}", content)
    labels = read_labels(Path("given-labels").absolute(), ["a"])
    require(labels.classes.tolist() == [1, 2, 3], "the labels that were written")
    require((labels.first.tolist(), labels.n_frames.tolist()) == ([0], [3]), "and their place")


def read_label_index(data: bytes) -> None:
    """Read an index; one that is another index of the same labels may be read."""
    from amt_pipeline.core.errors import UserError
    from amt_pipeline.phonemes.label_store import read_label_index, read_labels

    for name, content in {**_label_pack(), "json": data}.items():
        put(f"given-index/pack.{name}", content)
    folder = Path("given-index").absolute()
    index = read_label_index(folder, "pack")
    json.dumps(index.model_dump(), allow_nan=False)
    try:
        labels = read_labels(folder, ["a"])
    except UserError:
        return
    require(len(labels.classes) == int(labels.n_frames[0]) <= 3, "labels of the file")


def _predictions() -> dict[str, bytes]:
    from amt_pipeline.phonemes.probabilities import to_half, write_probabilities

    chances = np.full((N_FRAMES, WIDTH), 0.2, np.float32)
    write_probabilities(Path("predictions"), "1-2-3", to_half(chances), "key")
    return {
        "npy": Path("predictions/probabilities/1-2-3.npy").read_bytes(),
        "json": Path("predictions/items/1-2-3.json").read_bytes(),
    }


def read_prediction(suffix: str, data: bytes) -> None:
    from amt_pipeline.phonemes.probabilities import is_current, read_probabilities

    folders = {"npy": "probabilities", "json": "items"}
    for name, content in (_predictions() | {suffix: data}).items():
        put(f"predictions/{folders[name]}/1-2-3.{name}", content)
    require(is_current(Path("predictions"), "1-2-3", "key") in (True, False), "an answer")
    said = read_probabilities(Path("predictions"), "1-2-3")
    require(said.dtype == np.float16 and said.ndim == 2, "half precision, frames by classes")
    require(len(said) == N_FRAMES or suffix == "json", "frames")
    require(bool(((said >= 0) & (said <= 1)).all()), "probabilities")


READERS = {
    "prediction": Reader(
        lambda: [_predictions()["npy"]], lambda data: read_prediction("npy", data), BINARY
    ),
    "prediction item": Reader(
        lambda: [_predictions()["json"]], lambda data: read_prediction("json", data), TEXT
    ),
    "tensor": Reader(tensor_seeds, read_tensor, ZIP),
    "tensor bytes": Reader(tensor_seeds, read_tensor, BINARY),
    "id list": Reader(list_seeds, lambda data: read_lists("train_split", data), TEXT),
    "label list": Reader(label_seeds, lambda data: read_lists("train_labels", data), TEXT),
    "alignment csv": Reader(csv_seeds, lambda data: read_alignment("csv", data), TEXT),
    "TextGrid": Reader(textgrid_seeds, lambda data: read_alignment("TextGrid", data), TEXT),
    "phone classes": Reader(classes_seeds, read_classes, TEXT),
    "label pack": Reader(
        lambda: [_label_pack()["npy"]], lambda data: read_label_pack("npy", data), BINARY
    ),
    "label index": Reader(lambda: [_label_pack()["json"]], read_label_index, TEXT),
}
