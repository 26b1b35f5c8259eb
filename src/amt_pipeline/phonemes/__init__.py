"""Which phoneme is spoken in every frame of an utterance (LibriSpeech, 41 classes)."""
