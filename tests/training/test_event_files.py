from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from amt_pipeline.core.errors import StorageError
from amt_pipeline.training.event_files import ScalarWriter


def curve(folder: Path, tag: str = "loss") -> list[tuple[int, float]]:
    # 0: keep every point; TensorBoard's default keeps a random sample of 10,000.
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    with ScalarWriter(tmp_path / "onset") as writer:
        writer.scalars({"train/loss": 0.5, "train/f1": 0.25}, 100)
        writer.scalars({"train/loss": 0.125}, 200)
        writer.scalars({}, 300)
    assert curve(tmp_path / "onset", "train/loss") == [(100, 0.5), (200, 0.125)]
    assert curve(tmp_path / "onset", "train/f1") == [(100, 0.25)]


def test_scalars_are_on_file_before_close(tmp_path: Path) -> None:
    writer = ScalarWriter(tmp_path)
    writer.scalars({"loss": 1.5}, 1)
    assert curve(tmp_path) == [(1, 1.5)]
    writer.close()


def test_non_finite_values_are_kept(tmp_path: Path) -> None:
    with ScalarWriter(tmp_path) as writer:
        for step, value in enumerate([math.nan, math.inf, -math.inf, 1e300, 2.0]):
            writer.scalars({"loss": value}, step)
    values = [value for _, value in curve(tmp_path)]
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf, math.inf, 2.0]


def test_more_than_ten_thousand_points_are_all_read(tmp_path: Path) -> None:
    with ScalarWriter(tmp_path) as writer:
        for step in range(10_050):
            writer.scalars({"loss": step / 2}, step)
    assert [step for step, _ in curve(tmp_path)] == list(range(10_050))


def test_resumed_run_adds_a_file_and_voids_what_came_after_its_start(tmp_path: Path) -> None:
    with ScalarWriter(tmp_path) as writer:
        for step in (100, 200, 300):
            writer.scalars({"loss": float(step)}, step)
    with ScalarWriter(tmp_path, resumed_at_step=200) as writer:
        writer.scalars({"loss": 7.0}, 300)
    assert len(list(tmp_path.iterdir())) == 2
    assert curve(tmp_path) == [(100, 100.0), (200, 200.0), (300, 7.0)]


def test_files_of_quick_restarts_sort_in_time_order(tmp_path: Path) -> None:
    paths = []
    for step in range(12):
        with ScalarWriter(tmp_path) as writer:
            writer.scalars({"loss": float(step)}, step)
        paths.append(writer.path)
    assert sorted(paths) == paths
    assert [step for step, _ in curve(tmp_path)] == list(range(12))


def test_record_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    with ScalarWriter(tmp_path) as writer:
        writer.scalars({"loss": 1.0}, 1)
        writer.scalars({"loss": 2.0}, 2)
    os.truncate(writer.path, writer.path.stat().st_size - 5)
    assert curve(tmp_path) == [(1, 1.0)]


def test_flush_and_closed_writer(tmp_path: Path) -> None:
    writer = ScalarWriter(tmp_path)
    writer.scalars({"loss": 1.0}, 1)
    writer.flush()
    writer.close()
    writer.close()
    with pytest.raises(StorageError, match="already closed"):
        writer.scalars({"loss": 1.0}, 2)
    with pytest.raises(StorageError, match="already closed"):
        writer.flush()


def test_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="file"):
        ScalarWriter(tmp_path / "file" / "run")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_a_storage_error_at_once(tmp_path: Path) -> None:
    writer = ScalarWriter(tmp_path)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._stream.fileno())
    os.close(full)
    with pytest.raises(StorageError, match="disk is full"):
        writer.scalars({"loss": 1.0}, 1)
    with pytest.raises(StorageError, match="disk is full"):
        writer.close()


def test_writing_never_imports_tensorflow(tmp_path: Path) -> None:
    # A tensorflow that must not be touched stands first on the path.
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise SystemExit('imported')\n")
    code = (
        "import sys\n"
        "from amt_pipeline.training.event_files import ScalarWriter\n"
        "with ScalarWriter(sys.argv[1]) as writer:\n"
        "    writer.scalars({'loss': 1.0}, 1)\n"
        "assert not {'tensorflow', 'torch'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert curve(tmp_path / "run") == [(1, 1.0)]
