"""The pipelines `predict_phoneme`, `test_phoneme`, `report_phonemes` and `phonemes`."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from amt_pipeline.pipelines.librispeech import pipeline as librispeech
from amt_pipeline.pipelines.phonemes.nodes import (
    draw_class_scores,
    draw_confusion,
    predict_frames,
    score_predictions,
)
from amt_pipeline.pipelines.phonemes.report import gather_phoneme_images, write_phoneme_record
from amt_pipeline.pipelines.ranking import pipeline as ranking
from amt_pipeline.pipelines.training import pipeline as training

CORPUS = {
    "manifest": "librispeech_manifest",
    "summary": "librispeech_summary",
}


def create_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines of this family by name, the umbrella `phonemes` among them."""
    own = {
        "predict_phoneme": _predict(),
        "test_phoneme": _test(),
        "report_phonemes": _report(),
    }
    before = [
        librispeech.create_pipelines()["ingest_librispeech"],
        training.create_pipelines()["train_phoneme"],
        ranking.create_pipelines()["rank_phoneme"],
    ]
    return {**own, "phonemes": sum([*before, *own.values()], Pipeline([]))}


def _predict() -> Pipeline:
    predict = Node(
        predict_frames,
        inputs={
            "best": "phoneme_best",
            "models_folder": "models_folder",
            "frames_folder": "librispeech_frames_folder",
            "predictions_folder": "phoneme_predictions_folder",
            "predict": "params:phoneme_predict",
            **CORPUS,
        },
        outputs="phoneme_predictions",
        name="predict_frames",
        tags=["gpu"],
    )
    return Pipeline([predict])


def _test() -> Pipeline:
    score = Node(
        score_predictions,
        inputs={
            "predictions": "phoneme_predictions",
            "predictions_folder": "phoneme_predictions_folder",
            "labels_folder": "librispeech_labels_folder",
            "scoring": "params:phoneme_scoring",
            **CORPUS,
        },
        outputs=["phoneme_scores", "phoneme_class_scores", "phoneme_confusion", "phoneme_summary"],
        name="score_predictions",
        tags=["cpu"],
    )
    confusion = Node(
        draw_confusion,
        inputs="phoneme_confusion",
        outputs=["phoneme_confusion_figure", "phoneme_confusion_image"],
        name="draw_confusion",
        tags=["report"],
    )
    classes = Node(
        draw_class_scores,
        inputs="phoneme_class_scores",
        outputs=["phoneme_classes_figure", "phoneme_classes_image"],
        name="draw_class_scores",
        tags=["report"],
    )
    return Pipeline([score, confusion, classes])


def _report() -> Pipeline:
    images = Node(
        gather_phoneme_images,
        inputs=["phoneme_ranking_image", "phoneme_confusion_image", "phoneme_classes_image"],
        outputs="phoneme_report_images",
        name="gather_phoneme_images",
        tags=["report"],
    )
    record = Node(
        write_phoneme_record,
        inputs={
            "training": "phoneme_training",
            "best": "phoneme_best",
            "summary": "librispeech_summary",
            "predictions": "phoneme_predictions",
            "test": "phoneme_summary",
            "class_scores": "phoneme_class_scores",
            "images": "phoneme_report_images",
            "preset": "params:preset",
            "settings": "params:phoneme",
            "reporting_folder": "phoneme_reporting_folder",
        },
        outputs=["phoneme_record", "phoneme_record_markdown", "phoneme_record_html"],
        name="write_phoneme_record",
        tags=["report"],
    )
    return Pipeline([images, record])
