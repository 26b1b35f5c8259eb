"""Small corpora of speech in both layouts, for the tests of the phonemes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.config import LibrispeechConfig
from amt_pipeline.phonemes.corpus_ingest import CorpusIngestion, ingest_corpus
from amt_pipeline.phonemes.models import ModelConfig
from amt_pipeline.phonemes.networks import build_network
from amt_pipeline.training.checkpoints import CheckpointState, copy_checkpoint, save_checkpoint

INLINE = ParallelConfig(workers=1)
RATE_HZ = 16000
N_FRAMES = 12
WIDTH, N_CLASSES = 39, 41


def frames_of(seed: int, n_frames: int = N_FRAMES) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(seed).standard_normal((n_frames, WIDTH)).astype(np.float32)
    )


def write_libriphone(
    root: Path,
    train: Sequence[str] = ("1-1-0", "1-1-1", "2-1-0", "3-1-0"),
    test: Sequence[str] = ("9-1-0", "9-1-1"),
    *,
    test_labels: bool = False,
) -> Path:
    """Write the course's layout; labels of an utterance are its number in the list."""
    for name, ids, labelled in (("train", train, True), ("test", test, test_labels)):
        (root / "feat" / name).mkdir(parents=True)
        for seed, one in enumerate(ids):
            torch.save(frames_of(seed + 100 * (name == "test")), root / f"feat/{name}/{one}.pt")
        (root / f"{name}_split.txt").write_text("".join(f"{one}\n" for one in ids))
        if labelled:
            lines = (f"{one} {' '.join([str(n)] * N_FRAMES)}\n" for n, one in enumerate(ids))
            (root / f"{name}_labels.txt").write_text("".join(lines))
    return root


def write_speech(
    root: Path,
    subsets: Mapping[str, Sequence[str]] = {"train-clean-5": ("1-5-0", "2-5-0", "3-5-0", "4-5-0")},
    *,
    seconds: float = 0.5,
    aligned: bool = True,
) -> Path:
    """Write LibriSpeech's layout: noise, transcripts, alignments of silence, AH and silence."""
    for subset, ids in subsets.items():
        for one in ids:
            speaker, chapter, _ = one.split("-")
            folder = root / subset / speaker / chapter
            folder.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(list(one.encode()))
            sound = 0.1 * rng.standard_normal(round(seconds * RATE_HZ))
            soundfile.write(folder / f"{one}.flac", sound, RATE_HZ)
            with (folder / f"{speaker}-{chapter}.trans.txt").open("a") as stream:
                stream.write(f"{one} A WORD\n")
            if aligned:
                (root / "alignments").mkdir(exist_ok=True)
                text = "start_s,end_s,phone\n0.00,0.10,SIL\n0.10,0.30,AH0\n0.30,0.50,SIL\n"
                (root / "alignments" / f"{one}.csv").write_text(text)
    return root


@pytest.fixture
def make_libriphone(tmp_path: Path) -> Callable[..., Path]:
    """Writes a corpus in the course's layout."""

    def make(*args: Any, name: str = "libriphone", **options: Any) -> Path:
        return write_libriphone(tmp_path / name, *args, **options)

    return make


@pytest.fixture
def make_speech(tmp_path: Path) -> Callable[..., Path]:
    """Writes a corpus in LibriSpeech's layout."""

    def make(*args: Any, name: str = "LibriSpeech", **options: Any) -> Path:
        return write_speech(tmp_path / name, *args, **options)

    return make


@pytest.fixture
def ingest(tmp_path: Path) -> Callable[..., CorpusIngestion]:
    """Ingests a corpus into the test's folder, inline."""

    def run(
        root: Path,
        into: str = "data",
        parallel: ParallelConfig = INLINE,
        spec: MfccSpec | None = None,
        **settings: Any,
    ) -> CorpusIngestion:
        return ingest_corpus(
            root,
            config=LibrispeechConfig.model_validate({"max_bad_fraction": 0.5, **settings}),
            spec=spec or MfccSpec(),
            store_folder=tmp_path / into / "frames",
            labels_folder=tmp_path / into / "labels",
            parallel=parallel,
        )

    return run


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Writes a checkpoint of a network with drawn weights, as a ranking leaves it."""

    def make(kind: str = "mlp", *, seed: int = 0, name: str = "best", **settings: Any) -> Path:
        model = ModelConfig.model_validate({"kind": kind, "hidden_units": 8, **settings})
        torch.manual_seed(seed)
        network = build_network(WIDTH, N_CLASSES, model)
        config = {
            "features": MfccSpec().model_dump(mode="json"),
            "model": model.model_dump(mode="json"),
            "classes": N_CLASSES,
        }
        written = save_checkpoint(
            tmp_path / "checkpoints",
            state=CheckpointState(4, True, config, "", {}, ""),
            network=network,
            optimiser=torch.optim.SGD(network.parameters(), 0.1),
            history=[],
        )
        copy_checkpoint(written, tmp_path / name, {})
        return tmp_path / name

    return make
