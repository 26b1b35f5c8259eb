"""What the benchmark of cepstra compares has the same frames and much the same content."""

from __future__ import annotations

import mfcc
import numpy as np

from amt_pipeline.features.mfcc import mfcc_frames


def test_both_describe_the_same_frames() -> None:
    # A level that rises over the utterance: coefficient 0 follows it in both.
    samples = mfcc.utterance() * np.linspace(0.01, 1, len(mfcc.utterance()), dtype=np.float32)
    ours, theirs = mfcc_frames(samples, mfcc.SPEC), mfcc.librosa_cepstra(samples)
    assert theirs.shape[0] == 13
    assert ours.shape[1] == 39
    # Their frames are 512 samples long, padded on both sides of the window.
    assert 0 <= len(ours) - theirs.shape[1] <= 1
    shared = min(len(ours), theirs.shape[1])
    assert np.corrcoef(ours[:shared, 0], theirs[0, :shared])[0, 1] > 0.95


def test_the_measured_work_counts_seconds() -> None:
    assert mfcc.mfcc_work(2)() == 2 * mfcc.UTTERANCE_S
    assert mfcc.librosa_work(1)() == mfcc.UTTERANCE_S
