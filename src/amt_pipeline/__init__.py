"""From a corpus on disk to a scored audio model: ingest, train, rank, test, compare, serve."""

__version__ = "0.1.0"
