"""First use of the libraries that prepare something on disk then: librosa and matplotlib.

Run once by `scripts/setup.sh`. numba keeps what it compiled for librosa beside librosa's files, so
the processes that come after, worker processes included, load it instead of compiling again.
"""

from __future__ import annotations

import librosa
import matplotlib.font_manager
import numpy as np

SAMPLE_RATE_HZ = 16_000


def main() -> None:
    """Transform four seconds of stereo noise, in the type the pipelines use, and look up a font."""
    noise = np.random.default_rng(0).standard_normal((2, 4 * SAMPLE_RATE_HZ)).astype(np.float32)
    librosa.feature.melspectrogram(y=noise, sr=SAMPLE_RATE_HZ)
    matplotlib.font_manager.findfont("DejaVu Sans")


if __name__ == "__main__":
    main()
