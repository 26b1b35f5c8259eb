"""The lists of the course's layout: ids, and the classes of the frames of each.

What a list has wrong as a whole is refused; what is wrong with the labels of one utterance is told
of it alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.core.wording import some_of
from amt_pipeline.phonemes.classes import PhoneClasses
from amt_pipeline.phonemes.text_files import read_lines
from amt_pipeline.phonemes.utterances import SAFE_ID


@dataclass(frozen=True, eq=False)
class LabelLine:
    """The labels of one utterance, or what is wrong with them.

    Attributes:
        classes: uint8 `[n_frames]`, or None where they are wrong.
        error: Names utterance, line and value; None where they are right.
        where: File, line and utterance.
    """

    classes: npt.NDArray[np.uint8] | None
    error: CorpusError | None = None
    where: str = ""


def read_id_list(path: Path) -> list[str]:
    """Return the ids of a list in its order.

    Raises:
        CorpusError: The list cannot be read, is empty, or has an id twice or one that is no name.
    """
    lines = read_lines(path)
    faults = [
        f"{line.text[:40]!r} (line {line.number})"
        for line in lines
        if not SAFE_ID.fullmatch(line.text)
    ]
    if faults:
        problem = f"has lines that are no id: {some_of(faults)}"
        raise CorpusError(path, problem, "A list has one id per line, without folder or suffix")
    _refuse_repetitions(path, [(line.text, line.number) for line in lines])
    return [line.text for line in lines]


def read_label_list(path: Path, classes: PhoneClasses) -> dict[str, LabelLine]:
    """Return the labels of each utterance of a label list.

    Raises:
        CorpusError: The list cannot be read, or has an id twice.
    """
    found: list[tuple[str, int, list[str]]] = []
    for line in read_lines(path):
        name, *labels = line.text.split()
        found.append((name, line.number, labels))
    _refuse_repetitions(path, [(name, number) for name, number, _ in found])
    return {
        name: _parse_labels(f"{path} line {number} ({name[:40]})", labels, len(classes))
        for name, number, labels in found
    }


def _parse_labels(where: str, words: list[str], n_classes: int) -> LabelLine:
    # Looked up, not converted: python's int takes what nobody means as a label ("1_0", "+3").
    number_of = {str(number): number for number in range(n_classes)}
    odd = [frame for frame, word in enumerate(words) if word not in number_of]
    if not odd:
        return LabelLine(np.array([number_of[word] for word in words], np.uint8), where=where)
    shown = ", ".join(f"{words[frame][:20]!r} (frame {frame})" for frame in odd[:3])
    more = ", ..." if len(odd) > 3 else ""
    problem = f"labels that are no class from 0 to {n_classes - 1}: {shown}{more}"
    remedy = "Correct the line, or take the utterance out of the list"
    return LabelLine(None, CorpusError(where, problem, remedy), where)


def _refuse_repetitions(path: Path, names: list[tuple[str, int]]) -> None:
    lines: dict[str, list[int]] = {}
    for name, number in names:
        lines.setdefault(name, []).append(number)
    twice = [
        f"{name[:40]!r} (lines {', '.join(map(str, numbers))})"
        for name, numbers in lines.items()
        if len(numbers) > 1
    ]
    if twice:
        problem = f"has ids more than once: {some_of(twice)}"
        raise CorpusError(path, problem, "Keep one line of each")
