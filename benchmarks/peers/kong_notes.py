"""Kong et al. (2021), high-resolution piano transcription, by piano_transcription_inference.

Its weights are a download of their own (`--model note_F1=0.9677_pedal_F1=0.9186.pth`). Without
them the same network is timed with random ones, from audio to network outputs only: notes made from
noise would say nothing, and no MIDI file is written.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from timing import Transcribe, quiet, serve

SAMPLE_RATE = 16000
LEAST_BYTES = 1.6e8
"""Of a checkpoint: its class downloads another in place of a smaller one."""


def load(threads: int, model_path: Path | None) -> Transcribe:
    """Return its transcription with torch held to `threads`."""
    import audioread.ffdec  # noqa: F401  (the package names it without importing it)
    import librosa
    import torch
    from piano_transcription_inference import PianoTranscription
    from piano_transcription_inference.pytorch_utils import forward

    torch.set_num_threads(threads)
    if model_path is not None and model_path.stat().st_size < LEAST_BYTES:
        raise SystemExit(f"{model_path} is smaller than the published checkpoint")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = model_path or _random_checkpoint(Path(folder) / "random.pth")
        device = torch.device("cpu")
        transcriber = PianoTranscription(checkpoint_path=str(checkpoint), device=device)

    def transcribe(audio: Path, midi: Path) -> None:
        samples, _ = librosa.load(audio, sr=SAMPLE_RATE, mono=True)
        if model_path is not None:
            transcriber.transcribe(samples, str(midi))
            return
        length = transcriber.segment_samples
        padded = librosa.util.fix_length(samples, size=-(-len(samples) // length) * length)
        segments = transcriber.enframe(padded[None], length)
        for output in forward(transcriber.model, segments, batch_size=1).values():
            transcriber.deframe(output)

    return transcribe


def _random_checkpoint(path: Path) -> Path:
    import torch
    from piano_transcription_inference import config
    from piano_transcription_inference.models import Note_pedal

    torch.manual_seed(0)
    network = Note_pedal(config.frames_per_second, config.classes_num)
    weights: dict[str, Any] = {
        name: getattr(network, name).state_dict() for name in ("note_model", "pedal_model")
    }
    padding = torch.zeros(int(LEAST_BYTES) // 4)
    torch.save({"model": weights, "padding": padding}, path)
    return path


if __name__ == "__main__":
    quiet()
    serve(load, ("piano-transcription-inference", "torch"))
