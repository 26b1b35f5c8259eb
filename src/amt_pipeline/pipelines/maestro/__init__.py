"""`ingest_maestro`: MAESTRO on disk (or the demo corpus) to manifest, frames and note tables."""
