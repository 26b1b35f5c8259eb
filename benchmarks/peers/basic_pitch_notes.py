"""basic-pitch (Spotify, ICASSP 2022), its own `predict` with the model of its wheel, ONNX.

Of its runtimes ONNX took the fewest CPU seconds (TensorFlow 6 % more, TFLite a third more).
Its thresholds are the defaults of its command line.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path

from timing import Transcribe, quiet, serve


def load(threads: int, model_path: Path | None) -> Transcribe:
    """Return basic-pitch's `predict` with its session held to `threads`."""
    logging.disable(logging.WARNING)  # that other runtimes are not installed
    import basic_pitch
    import onnxruntime
    from basic_pitch import inference

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # It starts its session without options; there is no other way to say how many threads.
    session = onnxruntime.InferenceSession
    onnxruntime.InferenceSession = functools.partial(session, sess_options=options)
    bundled = basic_pitch.build_icassp_2022_model_path(basic_pitch.FilenameSuffix.onnx)
    model = inference.Model(model_path or bundled)

    def transcribe(audio: Path, midi: Path) -> None:
        _, notes, _ = inference.predict(audio, model)
        notes.write(str(midi))

    return transcribe


if __name__ == "__main__":
    quiet()
    serve(load, ("basic-pitch", "onnxruntime", "librosa"))
