"""Cepstra of speech: CPU time per hour of sound, beside librosa's.

Noise of 12 s in memory, one utterance at a time, as LibriSpeech has them. Ours computes 39 values a
frame: 13 cepstra as Kaldi does, their first and second differences, scaled per utterance. librosa's
computes the 13 cepstra only, with the same frames, window length and number of bands.

    .venv/bin/python benchmarks/mfcc.py [--quick]
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
from measure import Claim, Figure, Work, arguments, compare, show

from amt_pipeline.features.mfcc import MfccSpec, mfcc_frames

SPEC = MfccSpec()
UTTERANCE_S = 12
HOUR_S = 3600


def main(quick: bool = False) -> list[Claim | Figure]:
    """Measure both, in turn."""
    utterances, turns = (10, 2) if quick else (100, 5)
    claim = compare(
        "cepstra of speech",
        ("mfcc_frames", partial(mfcc_work, utterances)),
        ("librosa.feature.mfcc", partial(librosa_work, utterances)),
        unit="s of audio", target=1, repeats=turns,
        note=f"{utterances} utterances of {UTTERANCE_S} s; ours with differences and scaling",
    )  # fmt: skip
    costs = [
        Figure(f"cost of {name}", HOUR_S / rate, "CPU s per hour of speech", note="median")
        for name, rate in ((claim.ours, claim.ours_rate), (claim.theirs, claim.theirs_rate))
    ]
    return [claim, *costs]


def utterance(seed: int = 0) -> npt.NDArray[np.float32]:
    """Return `[UTTERANCE_S * sample_rate]` of noise."""
    rng = np.random.default_rng(seed)
    return (0.1 * rng.normal(size=UTTERANCE_S * SPEC.sample_rate)).astype(np.float32)


def librosa_cepstra(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return `[coefficients, frames]`, without differences."""
    import librosa

    cepstra: npt.NDArray[np.float32] = librosa.feature.mfcc(
        y=samples, sr=SPEC.sample_rate, n_mfcc=SPEC.coefficients, n_mels=SPEC.mel_bands,
        n_fft=SPEC.n_fft, win_length=SPEC.frame_samples, hop_length=SPEC.hop_samples,
        fmin=SPEC.fmin_hz, fmax=SPEC.fmax_hz, lifter=SPEC.lifter, htk=True, center=False,
    )  # fmt: skip
    return cepstra


def mfcc_work(utterances: int) -> Work:
    """Ours."""
    samples = utterance()

    def work() -> float:
        for _ in range(utterances):
            mfcc_frames(samples, SPEC)
        return float(utterances * UTTERANCE_S)

    return work


def librosa_work(utterances: int) -> Work:
    """librosa's; it compiles in the unmeasured call."""
    samples = utterance()

    def work() -> float:
        for _ in range(utterances):
            librosa_cepstra(samples)
        return float(utterances * UTTERANCE_S)

    return work


if __name__ == "__main__":
    show(main(arguments(str(__doc__).partition("\n")[0]).quick))
