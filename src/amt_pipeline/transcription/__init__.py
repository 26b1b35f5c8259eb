"""Piano transcription: when was which piano key struck? (MAESTRO, onset and pitch networks)."""
