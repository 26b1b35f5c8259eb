"""Kills the stages of a run while they work, starts them again, and compares what comes out.

    python tests/faults/harness.py FOLDER [--kills 27] [--seed 0] [--stages train_onset ...]

A child per attempt is forked from one process that has everything imported and no thread yet, so
an attempt costs what the stage costs and not the imports. The child runs the pipeline as `kedro
run` does: session, catalog, hooks, locks. It is killed by SIGKILL either after a time drawn
uniformly over the undisturbed duration, or, every other time, when it is about to do a file
operation below the data root, drawn uniformly over those of the undisturbed stage: there, between
two renames, is where a half result would come from. The killed stage is run again, and killed
again, until its kills are used up; then it may end, and its files must be the undisturbed ones.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forked import Attempt, attempt, changes, tree

REPOSITORY = Path(__file__).resolve().parents[2]

PARAMETERS: dict[str, Any] = {
    "features": {"sample_rate": 16000, "hop_samples": 256, "bins": 88, "bins_per_octave": 12},
    "parallel": {"workers": 1},
    "export": {"shards": 3},
    "onset": {
        "model": {"label_frames": 51, "frequency_stride": 1, "dense_units": 16, "channels": [2, 4]},
        "training": {"epochs": 2, "batch_size": 4, "save_every_steps": 4, "log_every_steps": 3}
        | {"warmup_steps": 0, "learning_rate": 0.01, "threads": 1, "keep": 3},
    },
    "pitch": {
        "model": {"label_frames": 51, "channels": [4, 4]},
        "training": {"epochs": 2, "batch_size": 4, "save_every_steps": 4, "log_every_steps": 3}
        | {"warmup_steps": 0, "learning_rate": 0.01, "threads": 1},
    },
    "transcribe": {"device": "cpu"},
}

STAGES = (
    "demo_corpus",
    "ingest_maestro",
    "export_tfrecords",
    "train_onset",
    "train_pitch",
    "rank_onset",
    "rank_pitch",
    "transcribe",
    "test_notes",
)
"""In the order of the chain; all but the first are pipelines."""

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    # The allocator that Arrow brings has a thread of its own, and there must be none when we fork.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
WARM_UP = (
    "kedro.framework.session", "kedro.runner", "torch", "pandas", "pyarrow.parquet",
    "librosa", "soundfile", "scipy.signal", "safetensors.torch", "matplotlib.pyplot", "plotly.io",
    "mido", "pretty_midi", "mir_eval", "joblib", "filelock", "amt_pipeline.datasets",
    "amt_pipeline.pipelines.transcription.nodes", "amt_pipeline.training.launch",
    "amt_pipeline.training.loop", "amt_pipeline.ranking.rank", "amt_pipeline.transcription.joint",
    "amt_pipeline.transcription.demo", "amt_pipeline.transcription.corpus_ingest",
    "amt_pipeline.transcription.record_export", "amt_pipeline.transcription.run",
    "amt_pipeline.transcription.pictures", "amt_pipeline.reporting.piano_roll",
    "amt_pipeline.reporting.posterior", "tensorboard.summary.writer.record_writer",
)  # fmt: skip


class Place:
    """A data root in one fixed place (paths are stored in it), put back to what it was before.

    Args:
        folder: Where the root and its snapshots lie.
    """

    def __init__(self, folder: Path) -> None:
        self.root, self._snapshots = folder / "data", folder / "snapshots"
        self.log = folder / "log.txt"
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, name: str) -> None:
        """Keep a copy of the root."""
        shutil.copytree(self.root, self._snapshots / name, symlinks=True)

    def snapshot(self, name: str | None) -> Path | None:
        """Return where a copy was kept."""
        return None if name is None else self._snapshots / name

    def put_back(self, name: str | None) -> None:
        """Make the root what it was when `name` was kept; None is nothing at all."""
        self.root.mkdir(exist_ok=True)
        for path in self.root.iterdir():  # the root itself may be a mount
            shutil.rmtree(path)
        if name is not None:
            shutil.copytree(self._snapshots / name, self.root, symlinks=True, dirs_exist_ok=True)

    def run(self, stage: str) -> None:
        """Do a stage's work in this process."""
        corpus = self.root / "01_raw" / "corpus"
        if stage == "demo_corpus":
            from amt_pipeline.transcription.demo import make_demo_corpus

            make_demo_corpus(corpus, minutes=0.6, n_pieces=7, workers=1)
            return
        from kedro.framework.session import KedroSession

        given = {**PARAMETERS, "maestro": {"root": str(corpus)}, "data_root": str(self.root)}
        with KedroSession.create(
            project_path=REPOSITORY, env="test", runtime_params=given
        ) as session:
            session.run(pipeline_names=[stage])


def warm_up() -> None:
    """Import everything and find the project, without starting a thread.

    Raises:
        RuntimeError: There is more than one thread: forking would not be safe.
    """
    os.environ.update(ENVIRONMENT)
    from amt_pipeline.store.tensorflow import import_tensorflow

    import_tensorflow()
    from kedro.framework.startup import bootstrap_project

    for name in WARM_UP:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    bootstrap_project(REPOSITORY)
    from kedro.framework.project import pipelines

    list(pipelines)
    if (threads := len(list(Path("/proc/self/task").iterdir()))) != 1:
        raise RuntimeError(f"{threads} threads before the first fork")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass
class Undisturbed:
    """A stage that was let alone: what it took and what it left."""

    before: str | None
    attempt: Attempt
    files: dict[str, str]


def undisturbed_chain(place: Place) -> dict[str, Undisturbed]:
    """Run all stages once, keeping a copy of the root after each."""
    known, before = {}, None
    place.put_back(None)
    for stage in STAGES:
        done = attempt(place.root, place.log, lambda stage=stage: place.run(stage))
        place.keep(stage)
        known[stage] = Undisturbed(before, done, tree(place.root))
        before = stage
        say(f"{stage}: {done.seconds:.1f} s, {done.operations} file operations")
    return known


def kill_stage(
    place: Place, stage: str, calm: Undisturbed, kills: int, rng: random.Random
) -> tuple[int, list[str]]:
    """Kill a stage until `kills` kills met work, let it end, and compare.

    Returns:
        How many starts that took, and what differs from the undisturbed stage.
    """
    place.put_back(calm.before)
    hits = starts = 0
    wrong: list[str] = []
    while hits < kills:
        point: dict[str, Any] = {"after_s": rng.uniform(0, calm.attempt.seconds)}
        if rng.random() < 0.5:
            point = {"at": rng.randrange(max(calm.attempt.operations, 1))}
        done = attempt(place.root, place.log, lambda: place.run(stage), **point)
        starts += 1
        hits += done.killed
        say(f"{stage}: {point} {'killed' if done.killed else 'had ended'}")
        if not done.killed:
            wrong += changes(calm.files, tree(place.root))
            place.put_back(calm.before)
    attempt(place.root, place.log, lambda: place.run(stage))
    return starts, wrong + changes(calm.files, tree(place.root))


def refuse_disk(
    place: Place, stage: str, calm: Undisturbed, share: float
) -> tuple[str, str, list[str]]:
    """Give a stage a read-only disk, then one with room for a share of its files, then a good one.

    The root must be a tmpfs of our own, whose size can be changed.

    Returns:
        What the stage said to the first and to the second, and what differs at the end.
    """
    resize = ["mount", "-o", "remount,size={}k", str(place.root)]
    ample = [word.format(1 << 20) for word in resize]
    subprocess.run(ample, check=True)
    place.put_back(calm.before)
    subprocess.run(["mount", "-o", "remount,ro", str(place.root)], check=True)
    read_only = _refusal(place, stage)
    subprocess.run(["mount", "-o", "remount,rw", str(place.root)], check=True)
    before, after = (_disk_bytes(place.snapshot(name)) for name in (calm.before, stage))
    n_bytes = _disk_bytes(place.root) + round(share * max(after - before, 0))
    subprocess.run([word.format(n_bytes // 1024) for word in resize], check=True)
    full = _refusal(place, stage)
    subprocess.run(ample, check=True)
    attempt(place.root, place.log, lambda: place.run(stage))
    return read_only, full, changes(calm.files, tree(place.root))


def _refusal(place: Place, stage: str) -> str:
    try:
        attempt(place.root, place.log, lambda: place.run(stage))
    except RuntimeError as error:
        return str(error).strip().splitlines()[-1]
    return "nothing: it came through"


def _disk_bytes(folder: Path | None) -> int:
    return (
        0
        if folder is None
        else sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    )


def shares(kills: int, weights: dict[str, float]) -> dict[str, int]:
    """Return how many of `kills` each stage gets: two, and the rest by how long it works."""
    names = list(weights)
    given = dict.fromkeys(names, min(2, kills // len(names)))
    for _ in range(kills - sum(given.values())):
        neediest = max(names, key=lambda name: weights[name] / (given[name] + 1))
        given[neediest] += 1
    return given


def main() -> int:
    """Run the chain undisturbed, then with kills; the last line is the report, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=27)
    parser.add_argument("--disk", action="store_true", help="let the disk, a tmpfs, refuse instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="*", default=STAGES, choices=STAGES)
    options = parser.parse_args()
    warm_up()
    place = Place(options.folder.absolute())
    calm = undisturbed_chain(place)
    if options.disk:
        said = {}
        for stage in options.stages:
            said[stage] = refuse_disk(place, stage, calm[stage], 0.4)
        say(json.dumps(said))
        return 0
    given = shares(options.kills, {name: calm[name].attempt.seconds for name in options.stages})
    report: dict[str, Any] = {"seed": options.seed, "kills": 0, "starts": 0, "differences": {}}
    for stage in options.stages:
        rng = random.Random(f"{options.seed} {stage}")
        starts, wrong = kill_stage(place, stage, calm[stage], given[stage], rng)
        report["kills"] += given[stage]
        report["starts"] += starts
        if wrong:
            report["differences"][stage] = wrong
    say(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
