"""Kedro datasets: thin, atomic, with previews for Kedro-Viz."""

from amt_pipeline.datasets.figure import FigureDataset
from amt_pipeline.datasets.image import ImageDataset
from amt_pipeline.datasets.json_file import JsonDataset
from amt_pipeline.datasets.path import PathDataset
from amt_pipeline.datasets.recordings import RecordingsDataset
from amt_pipeline.datasets.table import TableDataset
from amt_pipeline.datasets.text import TextDataset
from amt_pipeline.datasets.transcriptions import TranscriptionsDataset

__all__ = [
    "FigureDataset",
    "ImageDataset",
    "JsonDataset",
    "PathDataset",
    "RecordingsDataset",
    "TableDataset",
    "TextDataset",
    "TranscriptionsDataset",
]
