"""The unit costs count what they say: bytes against arithmetic, work against sizes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import unit_networks
import units
from corpus import preset_config, write_corpus

from amt_pipeline.training.checkpoints import verify_checkpoint
from amt_pipeline.transcription.demo import make_demo_corpus
from amt_pipeline.transcription.model_folder import ModelFolder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "cpu", preset_config("cpu", "onset").features, 2, 500)
    return tmp_path


def test_work_is_counted(folder: Path) -> None:
    task = unit_networks.unit_task(folder, "cpu", "onset")
    train = unit_networks.training_work(folder, "cpu", "onset", steps=1)
    assert train() == task.training.batch_size == unit_networks.BATCH["cpu"]
    evaluate = unit_networks.evaluation_work(folder, "cpu", "onset")
    # Windows of 201 frames, one after the other, over 500 frames.
    assert evaluate() == 2 * 3 * task.config.model.label_frames
    assert units.scoring_work(folder, pieces=2)() == 2


def test_checkpoints_are_whole_and_make_a_model(folder: Path) -> None:
    for name in ("onset", "pitch"):
        task = unit_networks.unit_task(folder, "cpu", name)
        path, n_weights = unit_networks.save(task, folder / "models" / "cpu" / name)
        assert n_weights == sum(p.numel() for p in task.build_network().parameters())
        # Weights, and Adam's two moments for each.
        assert unit_networks.size_of(path) > 3 * 4 * n_weights
        assert verify_checkpoint(path)
    models = ModelFolder.open(folder / "models" / "cpu")
    assert models.thresholds == {"onset": 0.5, "pitch": 0.5}


def test_stored_frames_are_as_large_as_the_specification_says(tmp_path: Path) -> None:
    make_demo_corpus(tmp_path / "demo", minutes=0.25, n_pieces=3, workers=1)
    result = units.ingest(tmp_path, tmp_path / "stored")
    spec = preset_config("reference", "onset").features
    frame_bytes = spec.bins * spec.channels * 2
    wanted = int(result.manifest["n_frames"].sum()) * frame_bytes
    entries = 3 * 2000
    assert wanted < unit_networks.size_of(tmp_path / "stored" / "frames") < wanted + entries
    seconds = units.ingest_work(tmp_path)()
    assert seconds == pytest.approx(float(result.manifest["duration_s"].sum()))


def test_a_figure_is_the_median_with_its_range() -> None:
    sizes = replace(units.QUICK, repeats=3)
    counting = partial(partial, sum, range(20_000))  # a factory of work: 199,990,000 units
    rate = unit_networks.figure("sums", "units per CPU s", counting, sizes, 1, per_unit=False)
    cost = unit_networks.figure("sums", "CPU s per unit", counting, sizes, 1, per_unit=True)
    for figure in (rate, cost):
        assert figure.low is not None
        assert figure.high is not None
        assert 0 < figure.low <= figure.value <= figure.high
    assert rate.value > 1 > cost.value
