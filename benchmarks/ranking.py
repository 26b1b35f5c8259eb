"""Ranking: eight checkpoints in one pass over the validation frames, against a pass for each.

Per network three things: what one pass saves with the frames in memory (gathering, moving and
scaling each batch once instead of eight times), what it saves with frames that have to come from
the disk each time, as those of a split larger than the memory do, and, for the pitch network, what
the size of an evaluation batch matters. Results are equal to the bit (tests/ranking).

    .venv/bin/python benchmarks/ranking.py [--quick]
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from corpus import open_task, preset_config, write_corpus
from measure import Claim, Work, arguments, compare, show

from amt_pipeline import __version__
from amt_pipeline.ranking.evaluate import evaluate_checkpoints
from amt_pipeline.training.checkpoints import CheckpointState, list_checkpoints, save_checkpoint
from amt_pipeline.training.evaluation import UnitTallies
from amt_pipeline.transcription.tasks import BATCH_FRAMES, FrameTask

N_CHECKPOINTS = 8


@dataclass(frozen=True)
class Case:
    """A network of the cpu preset on recordings of noise.

    Attributes:
        task: `onset` or `pitch`.
        model: What its network differs in from the preset's.
        recordings: How many.
        frames: Frames of each; 2010 are ten windows.
        checkpoints: How many are ranked.
    """

    task: str
    model: dict[str, Any]
    recordings: int
    frames: int
    checkpoints: int = N_CHECKPOINTS


_TINY = {"channels": [1, 2], "dense_units": 8, "recurrent_units": 8, "frequency_stride": 8}
CASES = {
    "onset": Case("onset", {}, recordings=4, frames=804),
    "small": Case("onset", _TINY, recordings=4, frames=4020),
    "pitch": Case("pitch", {}, recordings=1, frames=2010, checkpoints=2),
}
FORMER_BATCH_FRAMES = 2048


def main(quick: bool = False) -> list[Claim]:
    """Measure all of it on recordings of noise."""
    repeats, networks = (2, ("small",)) if quick else (3, ("onset", "small"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for network, case in CASES.items():
            make_run(folder / network, network, 402 if quick else case.frames)
        claims = [
            one_pass_claim(folder / network, network, cold=cold, repeats=repeats)
            for network in networks
            for cold in ((False, True) if network == "small" else (False,))
        ]
        return claims if quick else [*claims, batch_claim(folder / "pitch", repeats)]


def one_pass_claim(folder: Path, network: str, *, cold: bool, repeats: int) -> Claim:
    """Return the ratio of one pass to eight; where frames are cold, with the bytes each reads."""
    works = [partial(ranking_work, folder, network, size, cold) for size in (N_CHECKPOINTS, 1)]
    claim = compare(
        f"ranking, {network} network, frames {'on disk' if cold else 'in memory'}",
        (f"{N_CHECKPOINTS} checkpoints in one pass", works[0]),
        (f"{N_CHECKPOINTS} passes", works[1]),
        unit="evaluated frames",
        clock="wall" if cold else "cpu",
        repeats=repeats,
    )
    weights = sum(p.numel() for p in ranking_task(folder, network).build_network().parameters())
    note = f"{weights:,} weights, {frames_of(folder, network) / 1000:.3g} thousand frames"
    if not cold:
        return replace(claim, note=note, facts={"weights": weights})
    read_mb = [bytes_read(work()) / 1e6 for work in works]
    note += f"; read from the disk {read_mb[0]:.0f} and {read_mb[1]:.0f} MB"
    return replace(claim, note=note, facts={"read_mb": read_mb, "weights": weights})


def batch_claim(folder: Path, repeats: int) -> Claim:
    """Return what batches that fit the processor's caches gain over the former ones."""
    thousands, case = frames_of(folder, "pitch") / 1000, CASES["pitch"]
    work = partial(ranking_work, folder, "pitch", case.checkpoints, False)
    return compare(
        "evaluation, pitch network, batch size",
        (f"batches of {BATCH_FRAMES['cpu']} frames", work),
        (f"batches of {FORMER_BATCH_FRAMES} frames", partial(work, FORMER_BATCH_FRAMES)),
        unit="evaluated frames",
        repeats=repeats,
        note=f"{thousands:.3g} thousand frames, {case.checkpoints} checkpoints",
    )


def ranking_task(folder: Path, network: str, batch_frames: int | None = None) -> FrameTask:
    """Return the task of a network on all recordings of a folder."""
    case = CASES[network]
    config = preset_config(
        "cpu", case.task, model=case.model, training={"device": "cpu", "threads": 1},
        evaluation={"batch_frames": batch_frames},
    )  # fmt: skip
    ids = sorted(path.stem for path in (folder / "notes").glob("*.parquet"))
    return open_task(config, folder, ids)


def make_run(folder: Path, network: str, n_frames: int) -> None:
    """Write recordings and checkpoints with weights drawn anew for each."""
    import torch

    case = CASES[network]
    write_corpus(folder, preset_config("cpu", case.task).features, case.recordings, n_frames)
    task = ranking_task(folder, network)
    for step in range(1, case.checkpoints + 1):
        torch.manual_seed(step)
        weights = task.build_network()
        state = CheckpointState(step, True, task.describe(), task.fingerprint(), {}, __version__)
        save_checkpoint(
            folder / "run", state=state, network=weights,
            optimiser=torch.optim.Adam(weights.parameters()), history=[],
        )  # fmt: skip


def ranking_work(
    folder: Path, network: str, at_once: int, cold: bool, batch_frames: int | None = None
) -> Work:
    """Evaluate all checkpoints, so many per pass; units are frames times checkpoints."""
    import torch

    torch.set_num_threads(1)
    frames = frames_of(folder, network)

    def work() -> float:
        return frames * len(rank(folder, network, at_once, cold=cold, batch_frames=batch_frames))

    return work


def rank(
    folder: Path, network: str, at_once: int, *, cold: bool, batch_frames: int | None = None
) -> Sequence[UnitTallies]:
    """Return the histograms of all checkpoints, evaluated anew, so many per pass."""
    found: list[UnitTallies] = []
    checkpoints = list_checkpoints(folder / "run")
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        task = ranking_task(folder, network, batch_frames)
        for first in range(0, len(checkpoints), at_once):
            if cold:
                forget(folder / "frames")
                task = ranking_task(folder, network, batch_frames)
            group = checkpoints[first : first + at_once]
            found += evaluate_checkpoints(task, group, "train", Path(cache), {})
    return found


def frames_of(folder: Path, network: str) -> int:
    """Return the labelled frames of a corpus."""
    task = ranking_task(folder, network)
    return len(task.evaluation_windows("train")) * task.config.model.label_frames


def forget(frames_folder: Path) -> None:
    """Ask the system to drop frames from its page cache, as it does when memory runs short."""
    for path in frames_folder.rglob("*.npy"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # only what is on the disk can be dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def bytes_read(work: Work) -> float:
    """Return the bytes that a work fetches from the disk; NaN where the system does not tell."""
    before = _disk_reads()
    work()
    return _disk_reads() - before


def _disk_reads() -> float:
    counters = Path("/proc/self/io")
    if not counters.is_file():
        return float("nan")
    lines = counters.read_text().splitlines()
    return float(next(x for x in lines if x.startswith("read_bytes")).split()[1])


if __name__ == "__main__":
    show(main(arguments("Ranking in one pass over the frames.").quick))
