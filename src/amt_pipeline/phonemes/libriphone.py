"""The course's layout: three lists, and one feature tensor per utterance.

    train_split.txt    one id per line
    train_labels.txt   an id and the class of each of its frames per line
    test_split.txt     one id per line
    test_labels.txt    as for training; the course has none
    feat/train/<id>.pt, feat/test/<id>.pt
    phone_classes.txt  number and name per line; the course has none

Lists may have blank lines and any line ends. What the lists themselves have wrong is refused; what
is wrong with the labels of one utterance of training is its own failure. An utterance of the test
list needs none: it is predicted all the same, and where its labels are missing or wrong, it counts
as unlabelled, with a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.core.wording import some_of
from amt_pipeline.phonemes.classes import read_classes
from amt_pipeline.phonemes.config import LibrispeechConfig
from amt_pipeline.phonemes.course_lists import LabelLine, read_id_list, read_label_list
from amt_pipeline.phonemes.layouts import TEST_LABELS, TEST_LIST, TRAIN_LABELS, TRAIN_LIST
from amt_pipeline.phonemes.splits import draw_splits
from amt_pipeline.phonemes.utterances import (
    CorpusReading,
    Utterance,
    name_some,
    refuse_missing,
    speaker_and_chapter,
)
from amt_pipeline.store.manifest import file_exists

Failures = list[tuple[str, CorpusError]]


@dataclass(frozen=True)
class _Part:
    """One of the two lists, with what goes with it."""

    utterances: list[Utterance]
    missing: Failures
    wrong: Failures
    warnings: list[str]


def read_libriphone(root: Path, config: LibrispeechConfig) -> CorpusReading:
    """Read the lists of a corpus in the course's layout, and look which tensors are there.

    Raises:
        CorpusError: A list cannot be used; or a tensor or labels are missing and may not be.
        ConfigError: The split leaves nothing to train or validate on.
    """
    classes = read_classes(root)
    train, test = _read_ids(root)
    split = dict.fromkeys(test, "test") | draw_splits(
        train, [speaker_and_chapter(name)[0] for name in train], config.split
    )
    labels = read_label_list(root / TRAIN_LABELS, classes)
    has_test_labels = file_exists(root / TEST_LABELS)
    test_labels = read_label_list(root / TEST_LABELS, classes) if has_test_labels else None
    parts = (
        _read_part(root, "train", train, split, labels),
        _read_part(root, "test", test, split, test_labels),
    )
    missing = [failure for part in parts for failure in part.missing]
    if config.missing == "refuse":
        refuse_missing(root, missing, len(split))
    return CorpusReading(
        "libriphone",
        utterances=tuple(one for part in parts for one in part.utterances),
        failures=(*missing, *(failure for part in parts for failure in part.wrong)),
        warnings=tuple(text for part in parts for text in part.warnings),
        classes=classes,
        drawn=("train", "validation"),
        lists={"train": tuple(train), "test": tuple(test)},
    )


def _read_ids(root: Path) -> tuple[list[str], list[str]]:
    train, test = read_id_list(root / TRAIN_LIST), read_id_list(root / TEST_LIST)
    both = sorted(set(train) & set(test))
    if both:
        problem = f"has {len(both)} ids that {TRAIN_LIST} has too (leakage): {some_of(both)}"
        raise CorpusError(root / TEST_LIST, problem, "Take them out of one of the lists")
    return train, test


def _read_part(
    root: Path,
    name: str,
    ids: list[str],
    split: dict[str, str],
    labels: dict[str, LabelLine] | None,
) -> _Part:
    """Bring ids, tensors and labels of one list together; a test list may be without labels."""
    folder, labels_path = root / "feat" / name, root / f"{name}_labels.txt"
    there, is_test = _tensors(folder), name == "test"
    part = _Part([], _absent(folder, ids, there, name), [], _unlisted(folder, ids, there, name))
    known = dict.fromkeys(ids, LabelLine(None)) if labels is None else labels
    if is_test and labels is not None:
        known = _without_faults(labels_path, ids, labels, part.warnings)
    for one in ids:
        line = known.get(one)
        if line is None:
            part.missing.append((one, CorpusError(labels_path, "has no labels for it")))
        elif line.error is not None:
            part.wrong.append((one, line.error))
        elif one in there:
            path = folder / f"{one}.pt"
            part.utterances.append(
                Utterance(
                    one,
                    split[one],
                    feature_path=path,
                    classes=line.classes,
                    optional_labels=line.where if is_test else "",
                )
            )
    extra = (labels or {}).keys() - set(ids)
    if extra:
        text = f"{labels_path} labels {len(extra)} ids that the list lacks: {name_some(extra)}"
        part.warnings.append(text)
    return part


def _without_faults(
    path: Path, ids: list[str], labels: dict[str, LabelLine], warnings: list[str]
) -> dict[str, LabelLine]:
    """Return a line for each id: one without labels where they are missing or wrong."""
    absent = [one for one in ids if one not in labels]
    if absent:
        text = f"{path} has no labels for {len(absent)} of {len(ids)} utterances of the list"
        warnings.append(f"{text}, which count as unlabelled: {name_some(absent)}")
    faults = {one: error for one in ids if one in labels and (error := labels[one].error)}
    warnings += [
        f"{error.where}: {error.problem}; the utterance counts as unlabelled"
        for error in faults.values()
    ]
    return {**labels, **dict.fromkeys((*absent, *faults), LabelLine(None))}


def _absent(folder: Path, ids: list[str], there: set[str], name: str) -> Failures:
    """Return the ids without a tensor; refuse a folder that has none of them."""
    absent = [one for one in ids if one not in there]
    if len(absent) == len(ids):
        raise CorpusError(
            folder,
            f"has none of the {len(ids)} tensors that {name}_split.txt lists",
            "The archive has feat/train and feat/test beside the lists: unpack it whole",
        )
    remedy = "Restore it from the archive"
    return [(one, CorpusError(folder / f"{one}.pt", "no such file", remedy)) for one in absent]


def _unlisted(folder: Path, ids: list[str], there: set[str], name: str) -> list[str]:
    extra = there - set(ids)
    what = f"tensors in {folder} are not in {name}_split.txt and are left out"
    return [f"{len(extra)} {what}: {name_some(extra)}"] if extra else []


def _tensors(folder: Path) -> set[str]:
    try:
        found = [path for path in folder.iterdir() if path.suffix == ".pt"]
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise CorpusError(folder, f"cannot be listed ({error.strerror or error})") from error
    return {path.stem for path in found if not path.name.startswith(".")}
