"""TensorFlow is optional, quiet, and leaves GPUs alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.store.tensorflow import import_tensorflow

QUIET = """
from amt_pipeline.store.tensorflow import import_tensorflow
tf = import_tensorflow()
assert tf.strings.length("four").numpy() == 4
assert tf.config.get_visible_devices("GPU") == []
assert tf.config.threading.get_intra_op_parallelism_threads() == 3
assert import_tensorflow() is tf
"""


def test_absence_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ConfigError, match=r"tensorflow: .*not installed") as refused:
        import_tensorflow()
    assert 'pip install "amt_pipeline[tfrecords]"' in refused.value.remedy


def test_first_import_says_nothing_and_takes_the_threads_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for name in ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS"):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run(
        [sys.executable, "-c", QUIET], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
