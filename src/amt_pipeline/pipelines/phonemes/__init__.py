"""Pipelines of the phonemes: prediction, test, report, and the whole way."""
