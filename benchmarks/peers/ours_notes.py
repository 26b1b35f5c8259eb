"""Our own transcription as `amt transcribe` does it, in a process like the others'."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from timing import Transcribe, serve


def load(threads: int, model_path: Path | None) -> Transcribe:
    """Return the transcription of one recording with the models of folder `model_path`."""
    from amt_pipeline.training.device import set_threads
    from amt_pipeline.transcription.model_folder import ModelFolder
    from amt_pipeline.transcription.transcribe import (
        TranscriptionConfig,
        TranscriptionJob,
        transcribe_recording,
    )

    if model_path is None:
        raise SystemExit("--model: the models folder is needed")
    set_threads(threads)
    models = ModelFolder.open(model_path)
    config = TranscriptionConfig(**models.decoding(), save_probabilities=False, device="cpu")
    tuned = models.joint_thresholds() or models.thresholds
    picking = config.picking(float(tuned["onset"]), float(tuned["pitch"]))

    def transcribe(audio: Path, midi: Path) -> None:
        # A folder of its own: a result of an earlier turn would be taken as it is.
        with tempfile.TemporaryDirectory(dir=midi.parent) as name:
            out = Path(name)
            job = TranscriptionJob(
                midi.stem, model_path, out, picking, config, audio_path=audio, threads=threads
            )
            transcribe_recording(job)
            shutil.move(out / midi.name, midi)

    return transcribe


if __name__ == "__main__":
    serve(load, ("torch", "amt-pipeline"))
