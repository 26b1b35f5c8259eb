"""Transkun V2 (Yan and Duan) with the weights of its wheel, as its command `transkun` does it.

Two steps differ from that command, neither in its outcome: audio is read by soundfile (it reads
through ffmpeg), and torchaudio, whose wheels want CUDA libraries, is replaced where the network
builds a mel filter bank, which loading the weights overwrites.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

from timing import Transcribe, quiet, serve


def load(threads: int, model_path: Path | None) -> Transcribe:
    """Return Transkun's transcription with torch held to `threads`."""
    import moduleconf
    import numpy as np
    import soundfile
    import soxr
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    _stand_in_for_torchaudio()
    import transkun
    from transkun.Data import writeMidi

    pretrained = Path(transkun.__file__).parent / "pretrained"
    configured = moduleconf.parseFromFile(str(pretrained / "2.0.conf"))["Model"]
    model = configured.module.TransKun(conf=configured.config)
    checkpoint = torch.load(model_path or pretrained / "2.0.pt", "cpu", weights_only=True)
    weights = checkpoint.get("best_state_dict", checkpoint["state_dict"])
    if "framewiseFeatureExtractor.freq2mels" not in weights:
        raise SystemExit("these weights lack the mel filter bank: torchaudio is needed")
    model.load_state_dict(weights, strict=False)
    model.eval()

    def transcribe(audio: Path, midi: Path) -> None:
        samples, rate = soundfile.read(audio, dtype="int16", always_2d=True)
        samples = np.float32(samples) / 2**15
        if rate != model.fs:
            samples = soxr.resample(samples, rate, model.fs)
        notes = model.transcribe(torch.from_numpy(samples), discardSecondHalf=False)
        writeMidi(notes).write(str(midi))

    return transcribe


def _stand_in_for_torchaudio() -> None:
    import torch

    module, functional = types.ModuleType("torchaudio"), types.ModuleType("torchaudio.functional")
    functional.melscale_fbanks = lambda n_freqs, n_mels, **_: torch.zeros(n_freqs, n_mels)
    module.functional = functional
    sys.modules |= {"torchaudio": module, "torchaudio.functional": functional}


if __name__ == "__main__":
    quiet()
    serve(load, ("transkun", "torch"))
