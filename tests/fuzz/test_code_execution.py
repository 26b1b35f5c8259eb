"""Code hidden in a file is never run: every reader gets a pickle, in its own wrapping too."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from reader_kit import Payload
from readers import READERS
from sandbox import CANARY, Sandbox


def payloads() -> dict[str, bytes]:
    """Return the same hidden call in every wrapping that a library might open."""
    hidden = pickle.dumps(Payload())
    array, archive, checkpoint = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, np.array([Payload()], dtype=object), allow_pickle=True)
    objects = np.array([Payload()] * 3, dtype=object)
    names = ("onset", "pitch", "evaluated", "seconds_per_frame", "key", "complete", "units",
             "positive", "negative", "recording", "start", "counts", "offsets", "lengths",
             "largest", "digest")  # fmt: skip
    np.savez(archive, **dict.fromkeys(names, objects))
    with zipfile.ZipFile(checkpoint, "w") as parts:
        parts.writestr("archive/data.pkl", hidden)
        parts.writestr("archive/version", "3\n")
    yaml = f"!!python/object/apply:os.mknod [{CANARY}]\n"
    return {
        "pickle": hidden,
        "npy": array.getvalue(),
        "npz": archive.getvalue(),
        "torch": checkpoint.getvalue(),
        "yaml": yaml.encode(),
        "python": f"__import__('os').mknod('{CANARY}')".encode(),
    }


def test_payload_leaves_a_mark_where_it_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(payloads()["pickle"])
    assert Path(CANARY).exists()


@pytest.mark.parametrize("name", READERS)
def test_reader_runs_no_hidden_code(name: str, sandbox: Sandbox) -> None:
    outcomes = {what: sandbox.read(name, data) for what, data in payloads().items()}
    bad = {what: outcome for what, outcome in outcomes.items() if not outcome.is_good}
    assert not bad
