"""The phonemes through Kedro, run for real on a tiny demo corpus with a tiny network."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from amt_pipeline.core.errors import ConfigError, MissingPredecessorError, StoreError
from amt_pipeline.phonemes.config import LibrispeechConfig
from amt_pipeline.phonemes.demo import make_demo_corpus
from amt_pipeline.phonemes.label_store import LabelPart, read_label_index, write_label_pack
from amt_pipeline.pipelines.phonemes.nodes import _headline
from amt_pipeline.pipelines.phonemes.task import announce_level

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, run_pipeline: Run) -> Path:
    """The data root of one run of `phonemes`; to be read only."""
    root = tmp_path_factory.mktemp("phonemes") / "data"
    run_pipeline("phonemes", root)
    return root


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "data"))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_whole_way_leaves_what_is_promised(finished: Path) -> None:
    manifest = pd.read_parquet(finished / "03_primary/librispeech/manifest.parquet")
    assert set(manifest["split"]) == {"train", "validation", "test"}
    test = manifest[manifest["split"] == "test"].sort_values("list_position")
    answers = pd.read_csv(finished / "07_model_output/phonemes/prediction.csv")
    assert list(answers.columns) == ["Id", "Class"]
    assert answers["Id"].tolist() == list(range(int(test["n_frames"].sum())))
    assert answers["Class"].between(0, 40).all()
    reports = finished / "08_reporting/phonemes"
    summary = read(reports / "summary.json")
    assert summary["n_frames"] == len(answers)
    assert summary["accuracy"] > 1.5 * summary["majority"]["accuracy"] > 0
    scores = pd.read_csv(reports / "utterance_scores.csv")
    mean = (scores["accuracy"] * scores["n_frames"]).sum() / scores["n_frames"].sum()
    assert mean == pytest.approx(summary["accuracy"])
    confusion = pd.read_csv(reports / "confusion.csv").iloc[:, 1:].to_numpy()
    assert confusion.trace() / confusion.sum() == pytest.approx(summary["accuracy"])
    for name in ("confusion.png", "classes.png", "confusion_figure.html", "record.md"):
        assert (reports / name).stat().st_size > 1000
    page = (reports / "record.html").read_text()
    assert "<tr><td>boss</td><td class=number>0.83017</td></tr>" in page
    assert page.count("data:image/png;base64") == 3
    ranking = pd.read_csv(finished / "08_reporting/phoneme/ranking.csv")
    assert {"accuracy", "accuracy_low", "pooled_accuracy", "loss"} <= set(ranking.columns)
    history = read(finished / "06_models/phoneme/training.json")["history"]
    assert sum("validation/accuracy" in row for row in history) == len(ranking) == 4


def test_a_second_run_does_nothing_again(
    copied: Path, run_pipeline: Run, caplog: pytest.LogCaptureFixture
) -> None:
    before = {
        path: path.stat().st_mtime_ns
        for folder in ("01_raw", "04_feature", "06_models")
        for path in (copied / folder).rglob("*.*")
        if path.suffix in {".flac", ".npy", ".safetensors"} and "best" not in path.parts
    }
    announce_level.cache_clear()
    with caplog.at_level(logging.INFO):
        run_pipeline("phonemes", copied)
    # Training and ranking both open the task.
    assert caplog.text.count("Preset simple of size cpu; choose with --params phoneme.preset=") == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert ", 0 predicted" in caplog.text
    n = len(pd.read_parquet(copied / "03_primary/librispeech/manifest.parquet"))
    assert f"Ingested {n} utterances" in caplog.text
    assert f"; {n} unchanged, 0 quarantined)" in caplog.text


@pytest.mark.parametrize(
    ("pipeline", "named"),
    [("train_phoneme", "ingest_librispeech"), ("rank_phoneme", "train_phoneme"),
     ("predict_phoneme", "rank_phoneme"), ("test_phoneme", "predict_phoneme")],
)  # fmt: skip
def test_a_missing_step_is_named(
    finished: Path, tmp_path: Path, run_pipeline: Run, pipeline: str, named: str
) -> None:
    parts = {"rank_phoneme": 4, "predict_phoneme": 4, "test_phoneme": 4}
    for layer in ("01_raw", "02_intermediate", "03_primary", "04_feature")[
        : parts.get(pipeline, 0)
    ]:
        shutil.copytree(finished / layer, tmp_path / "data" / layer)
    with pytest.raises(MissingPredecessorError, match=named):
        run_pipeline(pipeline, tmp_path / "data")


def test_parts_of_two_runs_make_no_record(copied: Path, run_pipeline: Run) -> None:
    changed = {"phoneme": {"model": {"hidden_units": 24}, "training": {"epochs": 1}}}
    run_pipeline("train_phoneme", copied, **changed)
    with pytest.raises(MissingPredecessorError, match="rank_phoneme"):
        run_pipeline("report_phonemes", copied, **changed)
    run_pipeline("rank_phoneme", copied, **changed)
    with pytest.raises(MissingPredecessorError, match="predict_phoneme,test_phoneme"):
        run_pipeline("report_phonemes", copied, **changed)
    run_pipeline("predict_phoneme", copied, **changed)
    with pytest.raises(MissingPredecessorError, match="test_phoneme"):
        run_pipeline("report_phonemes", copied, **changed)


def test_predictions_of_a_former_test_list_are_not_scored(copied: Path, run_pipeline: Run) -> None:
    manifest = pd.read_parquet(copied / "03_primary/librispeech/manifest.parquet")
    name = manifest["recording_id"][manifest["split"] == "test"].iloc[0]
    (path,) = (copied / "01_raw").rglob(f"{name}.flac")
    samples, rate = soundfile.read(path)
    soundfile.write(path, 0.5 * samples, rate)
    run_pipeline("ingest_librispeech", copied)
    with pytest.raises(MissingPredecessorError, match=r"another corpus.*predict_phoneme"):
        run_pipeline("test_phoneme", copied)
    run_pipeline("predict_phoneme", copied)
    run_pipeline("test_phoneme", copied)


def course_corpus(folder: Path) -> Path:
    demo = LibrispeechConfig.model_validate({"demo": {"minutes": 1.5, "speakers": 4}}).demo
    return make_demo_corpus(folder, layout="libriphone", config=demo, workers=1)


def test_one_labelled_test_utterance_is_scored_without_an_interval(
    tmp_path: Path, run_pipeline: Run, caplog: pytest.LogCaptureFixture
) -> None:
    root = course_corpus(tmp_path / "corpus")
    labels = root / "test_labels.txt"
    labels.write_text(labels.read_text().splitlines()[0])
    with caplog.at_level(logging.INFO):
        run_pipeline(
            "phonemes", tmp_path / "data", librispeech={"root": str(root)},
            phoneme={"training": {"epochs": 1}}, phoneme_scoring={"level": 0.9},
        )  # fmt: skip
    (line,) = [text for text in caplog.messages if "test utterances: accuracy" in text]
    assert "frames of 1 test utterances: accuracy 0." in line
    assert "interval" not in line
    assert ", always SIL 0." in line
    summary = read(tmp_path / "data/08_reporting/phonemes/summary.json")
    assert (summary["accuracy_low"], summary["level"]) == (None, 0.9)


def test_the_line_of_a_score_says_what_there_is() -> None:
    found = {"n_frames": 9, "n_utterances": 2, "accuracy": 0.5, "accuracy_low": 0.4,
             "accuracy_high": 0.6, "level": 0.9, "majority": {}}  # fmt: skip
    said = "9 frames of 2 test utterances: accuracy 0.5000"
    assert _headline(found) == f"{said}, 90 % interval by utterance 0.4000 to 0.6000"
    majority = {"name": "SIL", "accuracy": 0.25}
    alone = {**found, "accuracy_low": None, "accuracy_high": None, "majority": majority}
    assert _headline(alone) == f"{said}, always SIL 0.2500"


@pytest.mark.parametrize("pipeline", ["train_phoneme", "test_phoneme"])
def test_labels_of_another_corpus_are_refused(
    copied: Path, run_pipeline: Run, pipeline: str
) -> None:
    folder = copied / "02_intermediate/librispeech/labels"
    for path in folder.glob("*.npy"):
        name, classes = path.stem, np.load(path)
        index = read_label_index(folder, name)
        ends = np.cumsum([part.n_labels for part in index.parts])
        turned = [
            LabelPart(part.recording_id, (classes[end - part.n_labels : end] + 1) % 41, part.extra)
            for part, end in zip(index.parts, ends, strict=True)
        ]
        write_label_pack(folder, name, turned)
    with pytest.raises(
        StoreError,
        match=r"utterances were made from other files than the manifest.*ingest_librispeech",
    ):
        run_pipeline(pipeline, copied)


def test_a_test_list_without_labels_is_predicted_all_the_same(
    tmp_path: Path, run_pipeline: Run, caplog: pytest.LogCaptureFixture
) -> None:
    root = course_corpus(tmp_path / "corpus")
    (root / "test_labels.txt").unlink()
    with caplog.at_level(logging.WARNING):
        run_pipeline(
            "phonemes", tmp_path / "data", librispeech={"root": str(root)},
            phoneme={"training": {"epochs": 1}},
        )  # fmt: skip
    assert "have no labels" in caplog.text
    summary = read(tmp_path / "data/08_reporting/phonemes/summary.json")
    assert summary["accuracy"] is None
    assert len(pd.read_csv(tmp_path / "data/07_model_output/phonemes/prediction.csv")) > 100
    assert (tmp_path / "data/08_reporting/phonemes/record.html").is_file()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"phoneme": {"model": {"window_frames": 4}}},
            "window_frames must be odd, so that it has a centre (got 4)",
        ),
        ({"phoneme": {"preset": "expert"}}, "phoneme.preset=expert"),
        ({"phoneme": {"training": {"epoch": 3}}}, "did you mean epochs"),
        (
            {"phoneme": {"preset": "utterance", "model": {"hidden_units": "matched"}}},
            "phoneme.model.hidden_units=matched: lstm_utterance has no matching width",
        ),
        (
            {"phoneme": {"model": {"hidden_units": "matched", "hidden_layers": "two"}}},
            "phoneme.model.hidden_layers: Input should be a valid integer",
        ),
        (
            {"phoneme": {"model": {"hidden_units": "matched", "hidden_layers": None}}},
            "phoneme.model.hidden_layers: Input should be a valid integer",
        ),
        (
            {"phoneme": {"model": {"hidden_units": "matched", "window_frames": 4}}},
            "phoneme.model.window_frames: window_frames must be odd",
        ),
        (
            {"phoneme": {"model": {"hidden_units": "matched", "hidden_layers": 100_000}}},
            "phoneme.model.hidden_layers=100000: 100000 hidden layers of a single unit",
        ),
        ({"phoneme": {"model": "mlp"}}, "phoneme.model: Input should be a valid dictionary"),
        ({"phoneme": {"model": None}}, "phoneme.model: Input should be a valid dictionary"),
        ({"phoneme": {"training": None}}, "phoneme.training: Input should be a valid dictionary"),
        ({"phoneme": {"ranking": 3}}, "phoneme.ranking: Input should be a valid dictionary"),
        ({"phoneme": {"preset": ["strong"]}}, "phoneme.preset=['strong']: is not among"),
        (
            {"phoneme": {"model": {"batch_norm": True}, "training": {"batch_size": 1}}},
            "phoneme: training.batch_size must be 2 at least with model.batch_norm",
        ),
        ({"phoneme": {"features": {"delta_axis": "time"}}}, "phoneme.features: is not a"),
        ({"phoneme_features": {"delta": "time"}}, "phoneme_features.delta: unknown"),
        ({"librispeech": {"split": {"ratio": 0.5}}}, "librispeech.split.ratio: unknown"),
        ({"phoneme": {"training": {"schedule": {"kind": "poly"}}}}, "schedule.kind"),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_named_before_anything_runs(
    tmp_path: Path, run_pipeline: Run, given: Any, said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        run_pipeline("ingest_librispeech", tmp_path / "data", **given)
    assert said in str(error.value)
    assert not (tmp_path / "data").exists()
