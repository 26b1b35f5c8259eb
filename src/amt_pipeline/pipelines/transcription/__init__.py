"""`transcribe`, `test_notes`, `report_transcription`, and `transcription`, the whole way."""
