"""Frames with their neighbours, n = 21: gathered from the FrameStore, or concatenated up front.

The corpus has the size of the phoneme course's training set: 2.1 million frames of 39 values in
3,429 utterances, of noise, packed 128 to a file and in the page cache. Up front means what the
course's sample code does: an array `[frames, 21 * 39]` for the whole corpus, filled utterance by
utterance with shifted copies whose edges are repeated, of which a batch is 512 rows at random.
Both begin with the ids and the stored frames, and give the same rows.

    .venv/bin/python benchmarks/context_windows.py [--quick]

Up front takes 7 GB of memory (`--quick`: 0.3 GB).
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from measure import Claim, Figure, Work, arguments, compare, show

from amt_pipeline.features.mfcc import MfccSpec
from amt_pipeline.store.device_frames import DeviceFrames
from amt_pipeline.store.frames import FrameStore, PackPart
from amt_pipeline.store.windows import WindowReader, Windows

SPEC = MfccSpec()
CONTEXT = 10
WINDOW = 2 * CONTEXT + 1
BATCH, PACK_SIZE = 512, 128
MEAN_FRAMES = 617  # 2,116,794 frames in 3,429 utterances

Floats = npt.NDArray[np.float32]


def main(quick: bool = False) -> list[Claim | Figure]:
    """Measure memory, the time to the first batch, and windows per second."""
    utterances, n_batches, turns = (160, 50, 2) if quick else (3429, 2000, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n_frames = write_corpus(folder, utterances)
        note = f"{n_frames} frames in {utterances} utterances, n = {WINDOW}, batches of {BATCH}"
        ours, theirs = "FrameStore, held in memory", "concatenated up front"
        first = compare(
            "First batch of context windows",
            (ours, partial(held_first_batch, folder)),
            (theirs, partial(concatenated_first_batch, folder)),
            unit="first batches", clock="wall", target=20, repeats=min(turns, 3),
            note=f"{note}; opening and reading included",
        )  # fmt: skip
        rate = compare(
            "Context windows per second",
            (ours, partial(held_work, folder, n_batches)),
            (theirs, partial(concatenated_work, folder, n_batches)),
            unit="windows", target=1, repeats=turns,
            note=f"{note}; theirs by numpy.take, the fastest of its gathers",
        )  # fmt: skip
    return [first, rate, _memory(rate)]


def _memory(claim: Claim) -> Figure:
    ours, theirs = claim.ours_peak_mb or 0.0, claim.theirs_peak_mb or 1.0
    note = f"whole process, {ours:.0f} MB against {theirs:.0f} MB; at most 0.1"
    return Figure("Peak memory of context windows", ours / theirs, "of up front", note=note)


def write_corpus(folder: Path, n_utterances: int) -> int:
    """Write utterances of noise as packs; return their frames."""
    rng = np.random.default_rng(0)
    store = FrameStore.create(folder, SPEC)
    lengths = rng.integers(MEAN_FRAMES // 2, MEAN_FRAMES * 3 // 2, n_utterances)
    noise = rng.normal(size=(2 * MEAN_FRAMES, SPEC.bins, 1)).astype(np.float32)
    for first in range(0, n_utterances, PACK_SIZE):
        pack = enumerate(lengths[first : first + PACK_SIZE].tolist(), first)
        store.write_pack(
            f"train-{first:05d}",
            (PackPart(f"u-{at:05d}", np.roll(noise, at, axis=0)[:n], str(at)) for at, n in pack),
        )
    return int(lengths.sum())


def ids_of(folder: Path) -> list[str]:
    """Return the utterances in order, as a manifest would have them."""
    names = sorted(path.stem for path in (folder / "packs").glob("*.npy"))
    store = FrameStore.open(folder, SPEC)
    return [entry.recording_id for name in names for entry in store.pack_entries(name)]


def rows_of(n_frames: npt.NDArray[np.int64], at: npt.NDArray[np.int64]) -> Windows:
    """Return the windows around frames that are counted through all utterances."""
    end = np.cumsum(n_frames)
    utterance = np.searchsorted(end, at, side="right")
    return Windows(utterance, at - (end - n_frames)[utterance])


def held(folder: Path, ids: list[str]) -> DeviceFrames:
    """Open the store and read all frames into memory."""
    import torch

    return DeviceFrames(WindowReader(FrameStore.open(folder, SPEC), ids), torch.device("cpu"))


def held_batch(frames: DeviceFrames, windows: Windows) -> Floats:
    """Return `[n, 21 * 39]` of our windows."""
    batch: Floats = frames.gather(windows, 1, CONTEXT, edges="repeat").numpy()
    return batch.reshape(len(windows), -1)


def concatenated(folder: Path, ids: list[str]) -> Floats:
    """Return `[frames, 21 * 39]` of the whole corpus."""
    store = FrameStore.open(folder, SPEC)
    bins, total = SPEC.bins, sum(store.entry(name).n_frames for name in ids)
    whole, first = np.empty((total, WINDOW * bins), np.float32), 0
    for name in ids:
        frames = store.frames(name)[:, :, 0]
        padded = np.pad(frames, ((CONTEXT, CONTEXT), (0, 0)), mode="edge")
        rows = whole[first : first + len(frames)]
        for shift in range(WINDOW):
            rows[:, shift * bins : (shift + 1) * bins] = padded[shift : shift + len(frames)]
        first += len(frames)
    return whole


def _orders(total: int, n_batches: int) -> list[npt.NDArray[np.int64]]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, total, BATCH) for _ in range(n_batches)]


def held_first_batch(folder: Path) -> Work:
    """From ids to the first batch, ours."""
    ids = ids_of(folder)
    held(folder, ids[:1])  # imports torch

    def work() -> float:
        frames = held(folder, ids)
        order = _orders(int(frames.n_frames.sum()), 1)[0]
        return float(len(held_batch(frames, rows_of(frames.n_frames, order))) / BATCH)

    return work


def concatenated_first_batch(folder: Path) -> Work:
    """From ids to the first batch, up front."""
    ids = ids_of(folder)

    def work() -> float:
        whole = concatenated(folder, ids)
        return float(len(whole.take(_orders(len(whole), 1)[0], axis=0)) / BATCH)

    return work


def held_work(folder: Path, n_batches: int) -> Work:
    """Batches in random order, ours; the order is that of windows, as an epoch has it."""
    frames = held(folder, ids_of(folder))
    orders = _orders(int(frames.n_frames.sum()), n_batches)
    epoch = rows_of(frames.n_frames, np.concatenate(orders))

    def work() -> float:
        return float(sum(
            len(held_batch(frames, epoch[at : at + BATCH])) for at in range(0, len(epoch), BATCH)
        ))  # fmt: skip

    return work


def concatenated_work(folder: Path, n_batches: int) -> Work:
    """Batches in random order, up front."""
    whole = concatenated(folder, ids_of(folder))
    orders = _orders(len(whole), n_batches)
    return lambda: float(sum(len(whole.take(order, axis=0)) for order in orders))


if __name__ == "__main__":
    show(main(arguments(str(__doc__).partition("\n")[0]).quick))
