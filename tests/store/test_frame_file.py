from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_pipeline.core.errors import AudioError, StorageError, StoreError
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frame_file import write_frames
from amt_pipeline.store.frames import FrameStore

SPEC = FeatureSpec(kind="log_mel", sample_rate=8000, hop_samples=64, bins=8, fmax_hz=4000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frames")


@settings(deadline=None, max_examples=30)
@given(
    lengths=st.lists(st.integers(0, 40), max_size=6),
    dtype=st.sampled_from(["float16", "float32"]),
    seed=st.integers(0, 99),
)
def test_the_file_is_numpys(folder: Path, lengths: list[int], dtype: str, seed: int) -> None:
    spec = SPEC.model_copy(update={"dtype": dtype})
    rng = np.random.default_rng(seed)
    chunks = [rng.random((n, 8, 2), np.float32) * rng.integers(1, 1000) for n in lengths]
    n_frames, peak = write_frames(folder / "ours.npy", iter(chunks), spec)
    whole = np.concatenate([np.zeros((0, 8, 2)), *chunks]).astype(dtype)
    np.save(folder / "numpys.npy", whole)
    assert (folder / "ours.npy").read_bytes() == (folder / "numpys.npy").read_bytes()
    assert n_frames == len(whole)
    assert peak == tuple(whole.max(axis=(0, 1), initial=0).astype(float))


@pytest.mark.parametrize("values", [[-1.0, -3.0], [-0.0, -2.0], [-5.0, 0.5], [0.0, -0.0]])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_peak_is_the_largest_absolute_value(
    tmp_path: Path, values: list[float], dtype: str
) -> None:
    frames = np.resize(np.array(values, dtype), (4, 8, 2))
    frames[2, 3] /= 2
    _, peak = write_frames(tmp_path / "a.npy", [frames], SPEC.model_copy(update={"dtype": dtype}))
    assert peak == tuple(abs(value) for value in values)
    assert not np.signbit(peak).any()


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, 1e6])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_chunk_that_is_not_finite_is_named(tmp_path: Path, value: float, dtype: str) -> None:
    spec = SPEC.model_copy(update={"dtype": dtype})
    chunks = [np.ones((3, 8, 2), np.float32) for _ in range(3)]
    chunks[1][2, 5, 1] = value
    if dtype == "float32" and value == 1e6:
        assert write_frames(tmp_path / "a.npy", chunks, spec)[1] == (1.0, 1e6)
        return
    with pytest.raises(StoreError, match=r"a\.npy: frames are not finite"):
        write_frames(tmp_path / "a.npy", chunks, spec)


def test_chunks_make_a_recording_with_facts_known_at_the_end(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path, SPEC)
    frames = np.random.default_rng(0).random((30, 8, 2)).astype(np.float16)
    seen: list[int] = []

    def chunks() -> Iterator[npt.NDArray[np.float16]]:
        for start in range(0, 30, 7):
            seen.append(start)
            yield frames[start : start + 7]

    entry = store.write("a", chunks(), "abc", lambda: {"chunks": len(seen)})
    assert entry == store.entry("a")
    assert entry.extra == {"chunks": 5}
    assert np.array_equal(store.frames("a"), frames)


def test_an_error_of_the_source_leaves_the_recording_absent(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path, SPEC)
    store.write("a", np.ones((9, 8, 2)), "abc")

    def chunks() -> Iterator[npt.NDArray[np.float64]]:
        yield np.ones((20, 8, 2))
        raise AudioError("a.wav", "cut short")

    with pytest.raises(AudioError, match="cut short"):
        store.write("a", chunks(), "abd")
    with pytest.raises(StoreError, match="is not in the store"):
        store.frames("a")
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    (tmp_path / "recordings").write_text("in the way")
    with pytest.raises(StorageError, match="recordings"):
        FrameStore.create(tmp_path, SPEC).write("a", [np.ones((2, 8, 2))], "abc")
