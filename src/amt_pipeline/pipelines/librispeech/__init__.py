"""The pipeline `ingest_librispeech`."""
