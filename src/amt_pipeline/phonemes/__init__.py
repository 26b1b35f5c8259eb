"""The second system: which phoneme is spoken in each frame of an utterance."""
