"""TensorFlow, imported at one place: quiet, without GPUs, with as many threads as we may use.

It writes and reads TFRecord files and nothing else, so it must not take a GPU's memory from torch
nor fill the log with its start-up notes. It is an optional part of the installation.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from amt_pipeline.core.errors import ConfigError

SETTINGS = {
    # Only fatal errors; ours are raised.
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Nothing is computed with it; this silences its note about rounding.
    "TF_ENABLE_ONEDNN_OPTS": "0",
}


def import_tensorflow() -> Any:
    """Return the module `tensorflow`.

    The user's own environment variables win. The first call takes some seconds.

    Raises:
        ConfigError: It is not installed, or cannot be imported.
    """
    fresh = "tensorflow" not in sys.modules
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import tensorflow
    except ImportError as error:
        problem = (
            "is needed for TFRecord files and not installed"
            if isinstance(error, ModuleNotFoundError) and error.name == "tensorflow"
            else f"cannot be imported ({error})"
        )
        remedy = 'Run `pip install "amt_pipeline[tfrecords]"`'
        raise ConfigError("tensorflow", problem, remedy) from error
    if fresh:
        tensorflow.config.set_visible_devices([], "GPU")
        threads = os.environ.get("OMP_NUM_THREADS", "")
        if threads.isdigit():
            tensorflow.config.threading.set_intra_op_parallelism_threads(int(threads))
            tensorflow.config.threading.set_inter_op_parallelism_threads(int(threads))
    return tensorflow
