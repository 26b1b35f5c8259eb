"""Studies through Kedro: their names, their checks, and one run for real on a tiny corpus."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.pipeline import Pipeline

from amt_pipeline import __version__, tracking
from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.files import read_json
from amt_pipeline.datasets.table import read_table
from amt_pipeline.mlflow_run import MlflowRun, resolve_settings
from amt_pipeline.parameters import Parameters
from amt_pipeline.phonemes import parameters as phonemes
from amt_pipeline.phonemes.models import ModelConfig
from amt_pipeline.phonemes.parameter_count import parameter_total
from amt_pipeline.pipelines.studies import pipeline as module
from amt_pipeline.pipelines.studies.configured import configured_studies
from amt_pipeline.pipelines.studies.families import FAMILIES
from amt_pipeline.search.study import StudyConfig
from amt_pipeline.transcription.parameters import resolve_task

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = (
    "pos_weight", "regularisation_onset", "regularisation_pitch", "label_frames", "schedulers",
    "depth_width", "dropout", "context", "learning_rate",
)  # fmt: skip

Run = Callable[..., Any]


def tiny(**study: Any) -> dict[str, Any]:
    """Parameters of a study that takes a few seconds."""
    given = {
        "grid": {"training.pos_weight": [1, 4]},
        "seeds": [1, 2],
        "base": {"training": {"epochs": 2, "save_every_steps": 5, "log_every_steps": 2}},
    }
    return {"studies": {"pos_weight": {**given, **study}}}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory, run_pipeline: Run) -> Path:
    root = tmp_path_factory.mktemp("studies") / "data"
    run_pipeline("ingest_maestro", root)
    run_pipeline("ingest_librispeech", root)
    return root


@pytest.fixture(scope="module")
def compared(ingested: Path, run_pipeline: Run) -> Path:
    """A data root with a finished study."""
    run_pipeline("compare_pos_weight", ingested, **tiny())
    return ingested


def project(folder: Path, **files: str) -> Path:
    (folder / "conf").mkdir(parents=True)
    text = "[tool.kedro]\npackage_name='x'\nproject_name='x'\nkedro_init_version='1.7.0'\n"
    (folder / "pyproject.toml").write_text(text)
    for name, content in files.items():
        path = folder / "conf" / f"{name.replace('__', '/')}.yml"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(content)
    return folder


def test_shipped_studies_are_pipelines() -> None:
    assert set(SHIPPED) <= set(configured_studies(REPOSITORY))
    made = module.create_pipelines()
    assert {f"compare_{name}" for name in SHIPPED} <= set(made)
    for pipeline in made.values():
        assert [n.name.rpartition(".")[2] for n in pipeline.nodes] == [
            "run_study", "compare_variants", "draw_study", "write_study_page",
        ]  # fmt: skip


def test_studies_of_the_user_are_pipelines_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = project(
        tmp_path,
        base__parameters_studies="studies:\n  one: {task: onset}\n  two: {task: pitch}\n",
        local__parameters="a: 1\nstudies:\n  two: {seeds: [1]}\n  three: {task: onset}\n",
        local__catalog="studies:\n  no: {task: onset}\n",
        test__parameters__deep="studies: {four: {task: pitch}}\n",
    )
    expected = {"one": "onset", "two": "pitch", "three": "onset", "four": "pitch"}
    assert configured_studies(place) == expected
    assert configured_studies(place / "conf") == expected
    monkeypatch.chdir(place)
    assert set(module.create_pipelines()) == {f"compare_{name}" for name in expected}


@pytest.mark.parametrize(
    "text", ["{studies: {one: {task: onset}}}\n", "'studies':\n  one: {task: onset}\n"]
)
def test_studies_may_be_written_in_any_style(tmp_path: Path, text: str) -> None:
    assert configured_studies(project(tmp_path, local__parameters=text)) == {"one": "onset"}


def test_outside_a_project_there_are_none(tmp_path: Path) -> None:
    assert configured_studies(tmp_path) == {}


def test_files_that_are_no_studies_do_not_break_the_list_of_pipelines(tmp_path: Path) -> None:
    place = project(
        tmp_path,
        base__parameters_a="studies: {good: {task: onset}, Bad Name: {task: onset}, 3: {}}\n",
        base__parameters_b="studies: [1, 2]\n",
        base__parameters_c="studies:\n  - {\n",
        base__parameters_d="studies: {odd: 7, none: }\n",
    )
    assert configured_studies(place) == {"good": "onset", "odd": "", "none": ""}


def test_a_study_of_an_unknown_task_says_so_when_it_is_run(
    ingested: Path, run_pipeline: Run
) -> None:
    with pytest.raises(ConfigError, match=r"'onsets' is no task \(did you mean onset\?\)"):
        run_pipeline("compare_pos_weight", ingested, **tiny(task="onsets"))
    assert isinstance(module._compare("x", "nonsense"), Pipeline)
    with pytest.raises(ConfigError, match=r"studies.x.task: 'nonsense' is no task"):
        module.run_study(Path("x"), {"task": "nonsense", "grid": {"a": [1]}}, {})


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"referense": "a"}, r"pos_weight.referense: unknown parameter \(did you mean reference\?"),
        ({"refference": "a"}, r"^--params, parameter studies.pos_weight.refference: "),
        (
            {"variants": [{"name": "b"}, {"name": "c", "sat": {}}]},
            r"variants\[1\].sat: unknown parameter \(did you mean set\?\)",
        ),
        ({"variants": [{"name": "b", "set": 3}]}, r"pos_weight.variants\[0\].set: .*got 3"),
        ({"task": "onsets"}, r"pos_weight.task: 'onsets' is no task \(did you mean onset\?\)"),
        ({"seeds": []}, r"studies.pos_weight.seeds: is empty"),
        ({"reference": "pos_weight=9"}, r"studies.pos_weight.reference=pos_weight=9: is no var"),
        ({"grid": {"training.pos_weight": []}}, r"studies.pos_weight.grid.training.pos_weight: is"),
        ({"grid": {"training.pos_weight": [1, 1]}}, r"the variant 'pos_weight=1': occurs twice"),
        ({"variants": [{"name": "a"}]}, r"studies.pos_weight: has both variants and a grid"),
    ],
)
def test_what_makes_no_study_is_named_before_anything_runs(
    study: dict[str, Any], message: str, ingested: Path, run_pipeline: Run
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_pipeline("compare_pos_weight", ingested, **tiny(**study))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            {"training": {"epoch": 3}},
            r"studies.pos_weight, variant pos_weight=1: onset.training.epoch: unknown parameter "
            r"\(did you mean epochs\?\)",
        ),
        (
            {"modle.x": 3},
            r"variant pos_weight=1: onset.modle: unknown parameter \(did you mean model\?\)",
        ),
        ({"model.dense_unit": 3}, r"onset.model.dense_unit: .*\(did you mean dense_units\?\)"),
        ({"features": {"binz": 3}}, r"features.binz: unknown parameter \(did you mean bins\?\)"),
        ({"ranking.rul": 3}, r"ranking.rul: unknown parameter \(did you mean rule\?\)"),
        ({"dropout": 0.1}, r"onset.dropout: unknown parameter \(did you mean model.dropout\?\)"),
        ({"training.epochs": -1}, r"onset.training.epochs: .*greater than 0.*got -1"),
        ({"name": "pitch"}, r"variant pos_weight=1: name: cannot be varied"),
    ],
)
def test_unknown_settings_are_named_before_anything_is_trained(
    base: dict[str, Any], message: str, ingested: Path, run_pipeline: Run
) -> None:
    with pytest.raises(ConfigError, match=message):
        run_pipeline("compare_pos_weight", ingested, **tiny(base=base))
    assert not list((ingested / "06_models" / "studies").rglob("step-*0003"))


def test_a_misspelt_parameter_of_a_grid_is_answered_with_the_nearest(
    ingested: Path, run_pipeline: Run
) -> None:
    study = {"grid": {"model.dropuot": [0.1, 0.2]}, "reference": None}
    with pytest.raises(ConfigError, match=r"model.dropuot: .*\(did you mean dropout\?\)"):
        run_pipeline("compare_context", ingested, studies={"context": study})


def test_the_last_variant_is_checked_before_the_first_is_trained(
    ingested: Path, tmp_path: Path, run_pipeline: Run
) -> None:
    grid = {"training.pos_weight": [2, 3, -1]}
    with pytest.raises(ConfigError, match=r"variant pos_weight=-1: onset.training.pos_weight"):
        run_pipeline("compare_pos_weight", ingested, **tiny(grid=grid))
    assert not (ingested / "06_models" / "studies" / "pos_weight" / "pos_weight=2").exists()


def test_a_study_leaves_tables_figures_and_a_page(compared: Path) -> None:
    place = compared / "08_reporting" / "studies" / "pos_weight"
    table = read_table(place / "table.csv")
    assert set(table["variant"]) == {"pos_weight=1", "pos_weight=4"}
    assert list(table["seeds"]) == [2, 2]
    assert table["validation_f1"].between(0, 1).all()
    units = read_table(place / "per_unit.csv")
    assert len(units) == 2 * units["unit"].nunique() > 0
    for name in ("learning_curves", "learning_rates"):
        assert {p.suffix for p in place.glob(f"{name}.*")} == {".json", ".html", ".png"}
    assert (place / "scores.png").is_file() and (place / "scores_interactive.html").is_file()
    page = (place / "study.html").read_text()
    assert page.count("data:image/png") == 3
    for target in ("learning_curves.html", "scores_interactive.html", "per_unit.csv"):
        assert f'href="{target}"' in page
        assert (place / target).is_file()
    text = (place / "study.md").read_text()
    assert "How much should an onset weigh" in text
    results = read_json(compared / "06_models" / "studies" / "pos_weight" / "results.json")
    assert [(r["name"], r["seed"]) for r in results["results"]] == [
        ("pos_weight=1", 1), ("pos_weight=1", 2), ("pos_weight=4", 1), ("pos_weight=4", 2),
    ]  # fmt: skip
    trained = results["results"][3]["config"]["training"]
    assert (trained["pos_weight"], trained["seed"], trained["epochs"]) == (4, 2, 2)
    data = results["results"][0]["data"]
    for said in (
        "| preset | cpu |",
        "| device | cpu, float32 |",
        f"| training data | {data[:12]} |",
    ):
        assert said in text
    assert f"| amt_pipeline | {__version__} |" in text.replace("\\", "")


def test_a_second_run_trains_only_what_is_new_and_records_all(
    compared: Path, run_pipeline: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from amt_pipeline.search import run_variant

    done: list[str] = []
    real = run_variant._train

    def count(task: Any, job: Any) -> Any:
        done.append(f"{job.name}, {job.seed}")
        return real(task, job)

    monkeypatch.setattr(run_variant, "_train", count)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = resolve_settings({}, {}, tmp_path)
    parent = MlflowRun.start(settings, "compare_pos_weight", {})
    assert parent is not None
    monkeypatch.setattr("amt_pipeline.hooks.begin_run", lambda run: tracking.begin_run(parent))
    grid = {"training.pos_weight": [4, 2]}
    run_pipeline("compare_pos_weight", compared, **tiny(grid=grid, seeds=[1]))
    assert done == ["pos_weight=2, 1"]
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    (experiment,) = (e for e in client.search_experiments() if e.name == settings.experiment)
    runs = {
        run.data.tags["variant"]: run
        for run in client.search_runs([experiment.experiment_id])
        if run.data.tags.get("mlflow.parentRunId") == parent.run_id
    }
    assert {name: run.data.tags["reused"] for name, run in runs.items()} == {
        "pos_weight=4": "true", "pos_weight=2": "false",
    }  # fmt: skip
    for name, run in runs.items():
        assert run.info.status == "FINISHED"
        assert (run.data.tags["study"], run.data.tags["seed"]) == ("pos_weight", "1")
        assert run.data.params["variant.training.pos_weight"] == name[-1]
        assert 0 <= run.data.metrics["chosen/validation/f1"] <= 1
        for metric in ("train/loss", "validation/f1"):
            assert len(client.get_metric_history(run.info.run_id, metric)) > 1


def test_tracking_that_fails_only_warns(
    compared: Path, run_pipeline: Run, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    class Broken:
        def refuse(self, *args: Any, **more: Any) -> Any:
            raise RuntimeError("no server")

        log_batch = create_run = set_tag = set_terminated = refuse

    parent = MlflowRun(Broken(), "x", "y")
    monkeypatch.setattr("amt_pipeline.hooks.begin_run", lambda run: tracking.begin_run(parent))
    with caplog.at_level(logging.WARNING):
        run_pipeline("compare_pos_weight", compared, **tiny())
    assert caplog.text.count("Tracking stops here, the run goes on: MLflow failed (no server)") <= 2
    assert "no server" in caplog.text


def test_shipped_studies_of_known_tasks_fit_their_parameters(
    ingested: Path, open_session: Callable[..., Any]
) -> None:
    from amt_pipeline.pipelines.studies.variants import open_jobs

    with open_session(ingested) as session:
        context = session.load_context()
        values = {k: v for k, v in context.params.items() if k not in ("data_root", "mlflow")}
        studies = Parameters.model_validate(values).studies
        known = {name: study for name, study in studies.items() if study.task in FAMILIES}
        assert len(known) >= 4
        assert {study.task for study in known.values()} == {"onset", "pitch", "phoneme"}
        for name, study in known.items():
            inputs = {
                argument: context.catalog.load(dataset)
                for argument, dataset in FAMILIES[study.task].inputs.items()
            }
            jobs, reference = open_jobs(name, study, ingested / name, inputs)
            assert reference in {job.name for job in jobs}
            assert len({job.key for job in jobs}) == len(jobs)
            assert len({job.folder for job in jobs}) == len(jobs)
    # The presets for a GPU take them, too.
    for name, study in known.items():
        for variant in study.expand(name):
            settings = {"name": study.task, **variant.overrides}
            if study.task == "phoneme":
                phonemes.resolve_task(values["phoneme_presets"]["reference"], {}, settings)
            else:
                resolve_task(values["presets"]["reference"], {}, settings)


def test_a_matched_width_is_that_of_the_reference_variant(
    ingested: Path, open_session: Callable[..., Any]
) -> None:
    from amt_pipeline.pipelines.studies.variants import open_jobs

    with open_session(ingested) as session:
        context = session.load_context()
        study = StudyConfig.model_validate(context.params["studies"]["depth_width"])
        inputs = {
            argument: context.catalog.load(dataset)
            for argument, dataset in FAMILIES["phoneme"].inputs.items()
        }
        jobs, _ = open_jobs("depth_width", study, ingested / "depth_width", inputs)
    models = [
        ModelConfig.model_validate(job.recipe["arguments"]["config"]["model"])
        for job in jobs
        if job.seed == study.seeds[0]
    ]
    assert [model.hidden_layers for model in models] == [6, 2]
    deep, shallow = (parameter_total(39, 41, model) for model in models)
    assert abs(deep - shallow) / deep < 0.02
    assert models[1].hidden_units > models[0].hidden_units
