"""The files of the demo corpus, in the layout of LibriSpeech and in that of the course.

A layout says which files a speaker has, writes them, and ends the corpus with the lists of all.
"""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from amt_pipeline.audio.io import audio_info, write_flac
from amt_pipeline.core.files import atomic_path, write_text
from amt_pipeline.phonemes.alignments import Alignment
from amt_pipeline.phonemes.classes import ARPABET, CLASSES_FILE, SILENCE
from amt_pipeline.phonemes.demo_plan import Reading, Speaker
from amt_pipeline.phonemes.demo_segments import SAMPLE_RATE, AlignedSpeech
from amt_pipeline.phonemes.demo_text import transcript
from amt_pipeline.phonemes.labels import frame_classes

Readings = Sequence[Reading]
Plan = Mapping[Speaker, Readings]


class DemoLayout(ABC):
    """Where the demo corpus puts what is spoken.

    Attributes:
        products: Folders and files at the top of the corpus, in the order they are made.
    """

    products: tuple[str, ...]

    @abstractmethod
    def files(self, folder: Path, speaker: Speaker, readings: Readings) -> list[Path]:
        """Return the files of one speaker."""

    @abstractmethod
    def write(
        self,
        folder: Path,
        speaker: Speaker,
        readings: Readings,
        recordings: Sequence[AlignedSpeech],
    ) -> None:
        """Write the files of one speaker.

        Raises:
            StorageError: The disk refused.
        """

    @abstractmethod
    def finish(self, folder: Path, plan: Plan) -> None:
        """Write what names all speakers, when all of them are there.

        Raises:
            StorageError: The disk refused.
        """


class LibrispeechLayout(DemoLayout):
    """`<subset>/<speaker>/<chapter>/`: FLAC and transcripts; `alignments/<id>.csv`."""

    subsets: Mapping[str, str] = {"train": "train-clean-demo", "test": "test-clean-demo"}
    products = (*subsets.values(), "alignments", "SPEAKERS.TXT")

    def files(self, folder: Path, speaker: Speaker, readings: Readings) -> list[Path]:
        """Return audio, alignments and transcripts."""
        return [
            *(self._audio(folder, speaker, reading) for reading in readings),
            *(folder / "alignments" / f"{reading.recording_id}.csv" for reading in readings),
            *self._transcripts(folder, speaker, readings),
        ]

    def write(
        self,
        folder: Path,
        speaker: Speaker,
        readings: Readings,
        recordings: Sequence[AlignedSpeech],
    ) -> None:
        """Write audio, alignments and transcripts."""
        for reading, recording in zip(readings, recordings, strict=True):
            path = folder / "alignments" / f"{reading.recording_id}.csv"
            write_text(path, alignment_csv(recording))
            write_flac(self._audio(folder, speaker, reading), recording.samples, SAMPLE_RATE)
        for path, text in self._transcripts(folder, speaker, readings).items():
            write_text(path, text)

    def finish(self, folder: Path, plan: Plan) -> None:
        """Write the table of speakers."""
        lines = [
            "; Readers of the demo corpus: voices of espeak-ng.",
            ";ID |SEX| SUBSET |MINUTES| NAME",
        ]
        for speaker, readings in plan.items():
            paths = (self._audio(folder, speaker, reading) for reading in readings)
            minutes = sum(audio_info(path).duration_s for path in paths) / 60
            cells = (speaker.name, speaker.sex, self.subsets[speaker.split], f"{minutes:.2f}")
            lines.append(" | ".join([*cells, f"espeak-ng {speaker.voice.name}"]))
        write_text(folder / "SPEAKERS.TXT", "\n".join(lines) + "\n")

    def _audio(self, folder: Path, speaker: Speaker, reading: Reading) -> Path:
        return self._chapter(folder, speaker, reading) / f"{reading.recording_id}.flac"

    def _chapter(self, folder: Path, speaker: Speaker, reading: Reading) -> Path:
        return folder / self.subsets[speaker.split] / speaker.name / reading.chapter

    def _transcripts(self, folder: Path, speaker: Speaker, readings: Readings) -> dict[Path, str]:
        texts: dict[Path, str] = defaultdict(str)
        for reading in readings:
            name = f"{speaker.name}-{reading.chapter}.trans.txt"
            path = self._chapter(folder, speaker, reading) / name
            texts[path] += f"{reading.recording_id} {transcript(reading.text)}\n"
        return texts


class LibriphoneLayout(DemoLayout):
    """`feat/<split>/<id>.pt`: `[frames, 39]` MFCC; lists and labels of both splits."""

    products = (
        "feat",
        "demo-labels",
        "phone_classes.txt",
        *(f"{split}_{kind}.txt" for kind in ("labels", "split") for split in ("train", "test")),
    )

    def files(self, folder: Path, speaker: Speaker, readings: Readings) -> list[Path]:
        """Return the tensors, and the speaker's lines of the labels."""
        return [
            *(self._tensor(folder, speaker, reading) for reading in readings),
            self._labels(folder, speaker),
        ]

    def write(
        self,
        folder: Path,
        speaker: Speaker,
        readings: Readings,
        recordings: Sequence[AlignedSpeech],
    ) -> None:
        """Write the tensors, and the speaker's lines of the labels."""
        import torch

        from amt_pipeline.features.mfcc import mfcc_frames
        from amt_pipeline.features.mfcc_spec import MfccSpec

        spec = MfccSpec()
        lines: list[str] = []
        for reading, recording in zip(readings, recordings, strict=True):
            # As whoever reads the audio layout hears it: in steps of 16 bits.
            samples = np.rint(recording.samples * 32768) / 32768
            frames = mfcc_frames(samples.astype(np.float32), spec)
            encoded = io.BytesIO()
            torch.save(torch.from_numpy(frames), encoded)
            with atomic_path(self._tensor(folder, speaker, reading)) as path:
                path.write_bytes(encoded.getbuffer())
            labels = frame_classes(
                alignment(recording), len(frames), spec.grid, ARPABET.names.index(SILENCE)
            )
            lines.append(" ".join([reading.recording_id, *map(str, labels)]))
        write_text(self._labels(folder, speaker), "\n".join(lines) + "\n")

    def finish(self, folder: Path, plan: Plan) -> None:
        """Write classes, labels and lists."""
        names = enumerate(ARPABET.names)
        write_text(folder / CLASSES_FILE, "".join(f"{number} {name}\n" for number, name in names))
        for split in ("train", "test"):
            speakers = [speaker for speaker in plan if speaker.split == split]
            files = (self._labels(folder, speaker) for speaker in speakers)
            parts = (path.read_text(encoding="utf-8") for path in files)
            write_text(folder / f"{split}_labels.txt", "".join(parts))
            ids = [reading.recording_id for speaker in speakers for reading in plan[speaker]]
            write_text(folder / f"{split}_split.txt", "".join(f"{name}\n" for name in ids))

    def _tensor(self, folder: Path, speaker: Speaker, reading: Reading) -> Path:
        return folder / "feat" / speaker.split / f"{reading.recording_id}.pt"

    def _labels(self, folder: Path, speaker: Speaker) -> Path:
        return folder / "demo-labels" / f"{speaker.name}.txt"


LAYOUTS: Mapping[str, DemoLayout] = {
    "librispeech": LibrispeechLayout(),
    "libriphone": LibriphoneLayout(),
}


def alignment(recording: AlignedSpeech) -> Alignment:
    """Return the segments as whoever reads them from a file has them."""
    edges_s = np.array([(one.first, one.end) for one in recording.segments]) / SAMPLE_RATE
    numbers = [ARPABET.names.index(segment.phone) for segment in recording.segments]
    return Alignment(edges_s[:, 0], edges_s[:, 1], np.array(numbers, np.uint8), ())


def alignment_csv(recording: AlignedSpeech) -> str:
    """Return the segments as `start_s,end_s,phone`; the times are exact."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("start_s", "end_s", "phone"))
    for segment in recording.segments:
        times = (f"{edge / SAMPLE_RATE:.4f}" for edge in (segment.first, segment.end))
        writer.writerow((*times, segment.phone))
    return table.getvalue()
