"""Studies run for real: inline, in workers, killed, resumed, diverging."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from study_support import MARKER, DyingTask, make_jobs, outcome, run

from amt_pipeline.core import progress
from amt_pipeline.core.errors import StorageError, UserError
from amt_pipeline.core.files import read_json, write_json
from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.search import run_variant as module
from amt_pipeline.search.run_study import run_study
from amt_pipeline.search.study import StudyConfig
from amt_pipeline.search.variant import RESULT_FILE, VariantJob, VariantResult, folder_name
from amt_pipeline.training.result import TrainingInterrupted

SOURCE = Path(__file__).resolve().parents[2] / "src"
DIVERGING = 1e30


def study(task: str = "loud", **settings: Any) -> StudyConfig:
    given = {"grid": {"model.hidden": [2, 8]}, "seeds": [1, 2]}
    return StudyConfig.model_validate({"task": task, **given, **settings})


@pytest.fixture(scope="module")
def calm(
    store_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[VariantResult]]:
    """A study that nobody disturbed; to be read only."""
    folder = tmp_path_factory.mktemp("calm")
    return folder, run(make_jobs(study(), store_folder, folder))


def test_results_come_in_the_order_of_the_study_with_all_that_is_known(
    calm: tuple[Path, list[VariantResult]],
) -> None:
    folder, results = calm
    assert [(r.name, r.seed) for r in results] == [
        ("hidden=2", 1), ("hidden=2", 2), ("hidden=8", 1), ("hidden=8", 2),
    ]  # fmt: skip
    for result in results:
        assert (result.status, result.metric, result.unit) == ("finished", "f1", "piece")
        assert set(result.per_unit) == {"v1", "v2", "v3"}
        mean = sum(result.per_unit.values()) / 3  # type: ignore[arg-type]
        assert result.validation["f1"] == pytest.approx(mean)
        assert result.steps == 16
        assert result.chosen_step in {row["step"] for row in result.curve}
        assert [row["step"] for row in result.curve] == [4, 8, 12, 16]
        assert result.seconds is not None and result.seconds > 0
        assert result.config["model"] == {"hidden": int(result.name[-1])}
        place = folder / result.name / f"seed-{result.seed}"
        assert read_json(place / RESULT_FILE) == result.as_json()
        assert list((place / "events").iterdir())
        assert (place / "best" / "model.safetensors").is_file()
    assert results[0].parameters < results[2].parameters  # type: ignore[operator]
    assert results[0].per_unit != results[1].per_unit  # another seed


@pytest.mark.parametrize("task", ["loud", "loudest"])
def test_worker_processes_give_the_same(task: str, store_folder: Path, tmp_path: Path) -> None:
    inline = run(make_jobs(study(task), store_folder, tmp_path / "inline"))
    told: list[VariantResult] = []
    apart = run(
        make_jobs(study(task), store_folder, tmp_path / "apart"), workers=2, heard=told.append
    )
    assert [outcome(r) for r in apart] == [outcome(r) for r in inline]
    assert sorted(r.key for r in told) == sorted(r.key for r in apart)
    assert inline[0].metric == {"loud": "f1", "loudest": "accuracy"}[task]


def test_a_study_says_what_it_is_about_to_train_and_what_is_at_work(
    store_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    monkeypatch.setattr(progress, "BEAT_S", 0.02)
    caplog.set_level(logging.INFO)
    # One that is left, and one worker, train in this process, where they show their own progress.
    first = study(grid={"model.hidden": [2]}, seeds=[2])
    run(make_jobs(first, store_folder, tmp_path / "alone"), workers=2)
    run(make_jobs(study(grid={"model.hidden": [2]}), store_folder, tmp_path))
    said = "tiny: variants x seeds: 1 x 2; finished before: 0 of 2; to be trained now: 2"
    assert said in caplog.messages
    assert not [line for line in caplog.messages if "at work" in line]
    caplog.clear()
    run(make_jobs(study(), store_folder, tmp_path), workers=2)
    said = "variants x seeds: 2 x 2; finished before: 2 of 4; to be trained now: 2 in 2 worker"
    assert said in caplog.text
    beats = [line for line in caplog.messages if "at work" in line]
    assert "tiny: 0/2 after 0:00, at work: hidden=8, seed 1; hidden=8, seed 2" in beats
    caplog.clear()
    run(make_jobs(study(), store_folder, tmp_path), workers=2)
    assert "finished before: 4 of 4; to be trained now: 0" in caplog.messages[-1]


def test_finished_trainings_are_not_done_again(
    store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(make_jobs(study(), store_folder, tmp_path))
    wider = study(grid={"model.hidden": [8, 4]}, seeds=[2, 1])
    done: list[str] = []
    real = module._train

    def count(task: Any, job: VariantJob) -> Any:
        done.append(f"{job.name}, {job.seed}")
        return real(task, job)

    monkeypatch.setattr(module, "_train", count)
    again = run(make_jobs(wider, store_folder, tmp_path))
    assert done == ["hidden=4, 2", "hidden=4, 1"]
    assert [r.reused for r in again] == [True, True, False, False]
    assert outcome(again[0]) == outcome(first[3])
    assert (tmp_path / "hidden=2" / "seed-1" / RESULT_FILE).is_file()  # out of the study, kept


def test_variants_of_the_same_settings_are_trained_once(
    store_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trained = []
    real = module._train

    def count(task: Any, job: VariantJob) -> Any:
        trained.append((job.name, job.seed))
        return real(task, job)

    monkeypatch.setattr(module, "_train", count)
    jobs = make_jobs(study(seeds=[1, 2]), store_folder, tmp_path)
    names = list(dict.fromkeys(job.name for job in jobs))
    first = {job.seed: job for job in jobs if job.name == names[0]}
    twins = [
        dataclasses.replace(
            job, name="twin", settings={"twin": 1}, folder=tmp_path / f"twin-{job.seed}"
        )
        for job in first.values()
    ]
    with caplog.at_level(logging.WARNING):
        results = run([*jobs, *twins])
    assert sorted(trained) == sorted((job.name, job.seed) for job in jobs)
    warned = [line for line in caplog.messages if "same settings" in line]
    same = f"variants {names[0]}, twin come to the same settings"
    assert warned == [f"tiny: {same}: they are trained once"]
    for result in results[-2:]:
        assert (result.name, result.settings) == ("twin", {"twin": 1})
        (own,) = [r for r in results if (r.name, r.seed) == (names[0], result.seed)]
        assert result.per_unit == own.per_unit
    # Another start finds the one training again, though the other has no folder.
    trained.clear()
    again = run([*jobs, *twins])
    assert trained == []
    assert all(result.reused for result in again)


def test_a_renamed_reference_or_moved_folder_keeps_what_was_done(
    store_folder: Path, tmp_path: Path
) -> None:
    (first, *_) = run(make_jobs(study(), store_folder, tmp_path / "a"))
    (tmp_path / "a").rename(tmp_path / "b")
    (again, *_) = run(make_jobs(study(reference="hidden=8"), store_folder, tmp_path / "b"))
    assert again.reused
    assert outcome(again) == outcome(first)


@pytest.mark.parametrize(
    "change", [{"epochs": 2}, {"epochs": 6}, {"learning_rate": 0.1}, {"weight_decay": 0.1}]
)
def test_other_settings_are_trained_anew_and_the_former_run_is_kept(
    change: dict[str, Any], store_folder: Path, tmp_path: Path
) -> None:
    small = {"grid": {"model.hidden": [4]}, "seeds": [1]}
    run(make_jobs(study(**small), store_folder, tmp_path / "changed"))
    changed = study(**small, base={"training": change})
    (found,) = run(make_jobs(changed, store_folder, tmp_path / "changed"))
    (expected,) = run(make_jobs(changed, store_folder, tmp_path / "fresh"))
    assert not found.reused
    assert outcome(found) == outcome(expected)
    assert (tmp_path / "changed" / "hidden=4" / "seed-1" / "previous" / "001").is_dir()


@pytest.mark.parametrize(
    ("before", "after", "ranked"),
    [
        ({"keep": 1}, {"keep": "all"}, [4, 8, 12, 16]),
        ({"epochs": 1.5}, {"epochs": 3}, [4, 8, 12]),
    ],
)
def test_a_result_does_not_depend_on_a_former_training(
    before: dict[str, Any],
    after: dict[str, Any],
    ranked: list[int],
    store_folder: Path,
    tmp_path: Path,
) -> None:
    def job(change: dict[str, Any], folder: str) -> list[VariantJob]:
        base = {"training": {"save_every_steps": "epoch", **change}}
        config = study(grid={"model.hidden": [4]}, seeds=[1], base=base)
        return make_jobs(config, store_folder, tmp_path / folder)

    run(job(before, "changed"))
    (found,), (expected,) = run(job(after, "changed")), run(job(after, "fresh"))
    assert [row["step"] for row in found.curve] == ranked
    assert outcome(found) == outcome(expected)


def test_a_result_is_of_one_precision(store_folder: Path, tmp_path: Path) -> None:
    def key(**training: str) -> str:
        config = study(grid={"model.hidden": [4]}, seeds=[1], base={"training": training})
        (job,) = make_jobs(config, store_folder, tmp_path)
        return job.key

    here = key(precision="auto", device="cpu")
    assert here == key(precision="float32", device="cpu") == key(precision="float32", device="cuda")
    assert here != key(precision="auto", device="cuda")
    assert key(precision="auto", device="cuda") == key(precision="bfloat16")


def test_another_ranking_trains_nothing(store_folder: Path, tmp_path: Path) -> None:
    (job,) = make_jobs(study(grid={"model.hidden": [4]}, seeds=[1]), store_folder, tmp_path)
    (first,) = run([job])
    (again,) = run([dataclasses.replace(job, key="of another ranking")])
    assert not again.reused
    assert again.per_unit == first.per_unit
    assert not (job.folder / "previous").exists()


def test_making_way_goes_on_where_it_was_killed(store_folder: Path, tmp_path: Path) -> None:
    def job(epochs: int) -> list[VariantJob]:
        base = {"training": {"epochs": epochs}}
        config = study(grid={"model.hidden": [4]}, seeds=[1], base=base)
        return make_jobs(config, store_folder, tmp_path)

    (former,) = job(2)
    run([former])
    previous = former.folder / "previous"
    (previous / "001").mkdir(parents=True)
    (former.folder / "training.json").rename(previous / "001" / "training.json")
    write_json(former.folder / "moving.json", {"to": "001"})
    run(job(3))
    assert [path.name for path in previous.iterdir()] == ["001"]
    assert (previous / "001" / "step-0000004").is_dir()


def test_damaged_results_are_made_again(store_folder: Path, tmp_path: Path) -> None:
    jobs = make_jobs(study(seeds=[1]), store_folder, tmp_path)
    first = run(jobs)
    (jobs[0].folder / RESULT_FILE).write_text("{")
    write_json(jobs[1].folder / RESULT_FILE, {"key": jobs[1].key, "of": "another version"})
    again = run(jobs)
    assert [outcome(r) for r in again] == [outcome(r) for r in first]
    assert not any(r.reused for r in again)


def test_a_killed_study_goes_on_where_it_was(
    calm: tuple[Path, list[VariantResult]], store_folder: Path, tmp_path: Path
) -> None:
    _, expected = calm
    config, folder = study(), tmp_path / "study"
    store = shutil.copytree(store_folder, tmp_path / "store")
    script = Path(__file__).with_name("study_support.py")
    command = [sys.executable, str(script), config.model_dump_json(), str(store)]
    paths = [str(SOURCE), str(script.parent), str(script.parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    killed = subprocess.run([*command, str(folder)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    place = folder / "hidden=2" / "seed-1"
    assert (place / "step-0000008").is_dir()
    assert not (place / RESULT_FILE).exists()
    resumed = subprocess.run(
        [*command, str(folder)], env=environment, check=True, capture_output=True, text=True
    )
    assert resumed.returncode == 0
    for result in expected:
        found = read_json(folder / result.name / f"seed-{result.seed}" / RESULT_FILE)
        # Killed and resumed trainings have the same weights and so the same scores.
        for name in ("per_unit", "history", "validation", "train", "chosen_step"):
            assert found[name] == getattr(result, name), (result.name, result.seed, name)


def test_a_killed_worker_ends_the_study_and_the_next_start_goes_on(
    store_folder: Path, tmp_path: Path
) -> None:
    store = shutil.copytree(store_folder, tmp_path / "store")
    jobs = make_jobs(study(), store, tmp_path / "study", DyingTask)
    with pytest.raises(UserError, match="one of them was killed"):
        run(jobs, workers=2)
    assert (tmp_path / MARKER).exists()
    results = run(jobs, workers=2)
    assert [r.status for r in results] == ["finished"] * 4


def test_one_that_diverges_is_a_row_and_stops_nobody(
    store_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = study(grid={"training.learning_rate": [0.01, DIVERGING]}, seeds=[1])
    jobs = make_jobs(config, store_folder, tmp_path)
    with caplog.at_level(logging.WARNING):
        good, bad = run(jobs)
    assert good.status == "finished"
    assert bad.status == "diverged"
    assert bad.reason.startswith("the loss is ")
    assert "learning_rate=1e+30, seed 1: diverged, the loss is" in caplog.text
    assert [r.reused for r in run(jobs)] == [True, True]  # it would diverge again
    assert [r.status for r in run(jobs, workers=2)] == ["finished", "diverged"]


def test_one_whose_data_is_at_fault_is_a_row_that_is_tried_again(
    store_folder: Path, tmp_path: Path
) -> None:
    own = tmp_path / "store"
    shutil.copytree(store_folder, own)
    jobs = make_jobs(study(seeds=[1]), own, tmp_path / "study")
    gone = {**jobs[1].recipe, "arguments": {**jobs[1].recipe["arguments"]}}
    gone["arguments"]["store_folder"] = str(tmp_path / "nowhere")
    good, bad = run([jobs[0], dataclasses.replace(jobs[1], recipe=gone)])
    assert (good.status, bad.status) == ("finished", "failed")
    assert "nowhere" in bad.reason
    assert not (jobs[1].folder / RESULT_FILE).exists()
    assert [r.status for r in run(jobs)] == ["finished", "finished"]


def test_a_signal_stops_the_whole_study(
    store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = make_jobs(study(), store_folder, tmp_path)
    asked: list[str] = []

    def stop(task: Any, job: VariantJob) -> Any:
        asked.append(job.name)
        raise TrainingInterrupted(job.label, "stopped", "Run the same command again to go on")

    monkeypatch.setattr(module, "_train", stop)
    with pytest.raises(TrainingInterrupted):
        run(jobs)
    assert asked == ["hidden=2"]


def test_a_disk_that_refuses_stops_the_whole_study(store_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "study").write_text("in the way")
    with pytest.raises(StorageError, match="study"):
        run(make_jobs(study(), store_folder, tmp_path / "study"))


def test_time_is_counted_over_all_starts(
    store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = study(grid={"model.hidden": [4]}, seeds=[1])
    (job,) = make_jobs(config, store_folder, tmp_path)
    run([job])
    clock = job.folder / module.CLOCK_FILE
    write_json(clock, {**read_json(clock), "seconds": 1000.0})
    (job.folder / RESULT_FILE).unlink()
    (again,) = run([job])
    assert again.seconds is not None and 1000 < again.seconds < 2000
    longer = study(grid={"model.hidden": [4]}, seeds=[1], base={"training.learning_rate": 0.5})
    (other,) = run(make_jobs(longer, store_folder, tmp_path))
    assert other.seconds is not None and other.seconds < 900  # another training


def test_trainings_on_a_gpu_run_one_after_the_other(
    store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from amt_pipeline.search import run_study as study_module

    seen: list[ParallelConfig] = []
    monkeypatch.setattr(study_module, "resolve_device", lambda name: torch.device("cuda"))

    def nothing(function: Any, jobs: Any, *, parallel: ParallelConfig, **more: Any) -> Any:
        seen.append(parallel)
        return iter([(job, VariantResult(job.name, job.seed, {}, "finished")) for job in jobs])

    monkeypatch.setattr(study_module, "map_items", nothing)
    jobs = make_jobs(study(), store_folder, tmp_path)
    run_study(jobs, label="tiny", parallel=ParallelConfig(workers=4))
    assert seen[0].is_inline


@pytest.mark.slow
def test_a_cluster_gives_the_same(
    calm: tuple[Path, list[VariantResult]], store_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("distributed")
    parallel = ParallelConfig(backend="dask", workers=2)
    jobs = make_jobs(study(), store_folder, tmp_path)
    found = run_study(jobs, label="tiny", parallel=parallel, shared=[tmp_path])
    assert [outcome(r) for r in found] == [outcome(r) for r in calm[1]]


@pytest.mark.parametrize("name", ["dropout=0.25", "a_b-c", "deep"])
def test_plain_names_are_folders(name: str) -> None:
    assert folder_name(name) == name


def test_other_names_are_made_folders_and_kept_apart() -> None:
    names = ["a/b", "a b", "a, b", "../a", "", "é", "a" * 300, "x\n", "."]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    for folder in folders:
        assert folder == Path(folder).name
        assert len(folder) < 100
        assert folder.isascii()
