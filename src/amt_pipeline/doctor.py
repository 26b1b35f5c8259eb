"""What this installation can do: the findings behind `amt doctor`."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import amt_pipeline
from amt_pipeline.core.parallel import cpu_count

SOUNDFONT_PACKAGE = "pretty_midi"
SOUNDFONT_NAME = "TimGM6mb.sf2"
SPEECH_PACKAGE = "espeakng-loader"
LITTLE_SPACE_BYTES = 5 * 2**30
PACKAGES = ("tensorboard", "mlflow")
EXTRAS = {
    "tfrecords": (("tensorflow-cpu", "tensorflow"), "windows as TFRecords"),
    "dask": (("distributed",), "work on a Dask cluster"),
}
"""What an extra brings (one of these packages) and what it is for."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: What was looked at.
        text: What was found, and what to do where something lacks.
        fine: False for what a user may want to change.
    """

    subject: str
    text: str
    fine: bool = True


def examine(data_root: Path) -> list[Finding]:
    """Look at Python, the devices, the data root, what makes the demo corpora, the trained models.

    Args:
        data_root: Folder that holds `01_raw` to `08_reporting`; need not exist.
    """
    return [
        Finding("amt_pipeline", amt_pipeline.__version__),
        Finding("Python", f"{platform.python_version()} on {platform.platform(terse=True)}"),
        Finding("processors", str(cpu_count())),
        *_torch(),
        *(_package(name) for name in PACKAGES),
        *(_extra(name, *extra) for name, extra in EXTRAS.items()),
        _soundfont(),
        _speech(),
        _space(data_root),
        _models(data_root),
    ]


def _torch() -> list[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        return [Finding("torch", f"cannot be imported ({error}); nothing can be trained", False)]
    findings = [Finding("torch", torch.__version__)]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        size = _bytes(properties.total_memory)
        findings.append(Finding(f"device cuda:{index}", f"{properties.name}, {size}"))
    if torch.backends.mps.is_available():
        findings.append(Finding("device mps", "Apple GPU"))
    if len(findings) == 1:
        findings.append(Finding("device", "cpu only; full-size training wants a GPU", False))
    return findings


def _package(name: str) -> Finding:
    try:
        return Finding(name, version(name))
    except PackageNotFoundError:
        return Finding(name, "not installed", False)


def _extra(extra: str, packages: tuple[str, ...], purpose: str) -> Finding:
    for name in packages:
        try:
            return Finding(name, version(name))
        except PackageNotFoundError:
            continue
    text = f'not installed; for {purpose}: pip install "amt_pipeline[{extra}]"'
    return Finding(packages[0], text, False)


def _soundfont() -> Finding:
    # Looked up without importing the package, which takes a while.
    spec = importlib.util.find_spec(SOUNDFONT_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / SOUNDFONT_NAME
        if path.is_file():
            return Finding("soundfont", f"{path.name} of {SOUNDFONT_PACKAGE}")
    return Finding("soundfont", f"none; install {SOUNDFONT_PACKAGE}, it brings one", False)


def _speech() -> Finding:
    # Loaded, not only looked up: the library within is made for one system and its C library.
    try:
        import espeakng_loader

        ctypes.CDLL(espeakng_loader.get_library_path())
    except (ImportError, OSError) as error:
        remedy = f"install {SPEECH_PACKAGE}, or set librispeech.root to a corpus of your own"
        text = f"cannot be loaded ({error}), so phonemes has no demo corpus; {remedy}"
        return Finding("espeak-ng", text, False)
    text = f"of {SPEECH_PACKAGE} {version(SPEECH_PACKAGE)}; speaks the demo corpus of phonemes"
    return Finding("espeak-ng", text)


def _space(data_root: Path) -> Finding:
    # The nearest folder that exists has the disk that the data root would be on.
    folder = data_root.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{_bytes(free)} free at {data_root}"
    if free < LITTLE_SPACE_BYTES:
        return Finding("disk", f"{text}; features of a real corpus need much more", False)
    return Finding("disk", text)


def _models(data_root: Path) -> Finding:
    root = data_root / "06_models"
    folders = sorted({path.parent.relative_to(root) for path in root.rglob("*.safetensors")})
    if not folders:
        text = f"none under {root}; `kedro run` trains one on the demo corpus"
        return Finding("trained models", text, False)
    return Finding("trained models", f"{len(folders)} under {root}, the last is {folders[-1]}")


def _bytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
