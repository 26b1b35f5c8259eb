"""Score a folder of transcriptions against a folder of labels: what `amt score` does."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.core.values import finite_or_none
from amt_pipeline.transcription.matching import ONSET_TOLERANCE_S
from amt_pipeline.transcription.note_files import MIDI_SUFFIXES
from amt_pipeline.transcription.piece_scoring import score_pieces
from amt_pipeline.transcription.scoring import summarise

if TYPE_CHECKING:
    import pandas as pd

NOTE_SUFFIXES = (".res", ".txt", ".tsv", *MIDI_SUFFIXES)


@dataclass(frozen=True, eq=False)
class FolderScore:
    """Scores of a folder of results against a folder of labels.

    Attributes:
        pieces: One row per piece; see `summarise`.
        summary: Means and intervals; see `summarise`.
        only_results: Files without a label file, by name.
        only_labels: Label files without a result, by name.
        onset_tolerance_s: Tolerance that was used.
    """

    pieces: pd.DataFrame
    summary: dict[str, float]
    only_results: list[str]
    only_labels: list[str]
    onset_tolerance_s: float


def score_folders(
    res_dir: str | PathLike[str],
    label_dir: str | PathLike[str],
    *,
    onset_tolerance_s: float = ONSET_TOLERANCE_S,
    with_offsets: bool = False,
    workers: int | None = 1,
    seed: int = 0,
) -> FolderScore:
    """Score every result file whose name, without suffix, is that of a label file.

    Either side may hold text (`.res`, `.txt`, `.tsv`) or MIDI (`.mid`, `.midi`), in subfolders too;
    where a text and a MIDI of one name lie side by side, the text counts.

    Args:
        res_dir: Folder of the transcriptions.
        label_dir: Folder of the truth.
        onset_tolerance_s: See `score_notes`.
        with_offsets: See `score_notes`.
        workers: Processes; None is one per processor where there are enough pieces to gain by it.
        seed: Of the bootstrap.

    Raises:
        UserError: A folder is missing; nothing matches; a name occurs twice on one side; or a file
            cannot be read (a mean over the others would pass for the score of all).
    """
    results, labels = _by_stem(Path(res_dir)), _by_stem(Path(label_dir))
    names = sorted(results.keys() & labels.keys())
    if not names:
        raise UserError(
            res_dir,
            f"no result ({len(results)} note files) has the name of a label in {label_dir} "
            f"({len(labels)} note files)",
            "A result piece.res belongs to a label piece.txt or piece.midi",
        )
    pairs = [(name, _only(labels[name]), _only(results[name])) for name in names]
    scores = score_pieces(
        pairs,
        onset_tolerance_s=onset_tolerance_s,
        with_offsets=with_offsets,
        parallel=ParallelConfig(workers=workers),
    )
    table, summary = summarise(scores, seed=seed)
    only_results = sorted(p.name for n in results.keys() - labels.keys() for p in results[n])
    only_labels = sorted(p.name for n in labels.keys() - results.keys() for p in labels[n])
    return FolderScore(table, summary, only_results, only_labels, onset_tolerance_s)


def folder_score_json(result: FolderScore) -> dict[str, Any]:
    """Return a folder score as plain JSON values: pieces, mean, settings, files left over.

    `mean` has precision, recall, f1 with their `_low` and `_high` and, where offsets were scored,
    the same under `mean_with_offsets`. What is not known (an interval over one piece) is null.
    """
    pieces = [finite_or_none(row) for row in result.pieces.to_dict(orient="records")]
    means: dict[str, dict[str, float]] = {"onset": {}, "onset_offset": {}}
    for key, value in result.summary.items():
        kind, name = key.split("/")
        means[kind][name] = value
    answer: dict[str, Any] = {"pieces": pieces, "mean": finite_or_none(means["onset"])}
    if means["onset_offset"]:
        answer["mean_with_offsets"] = finite_or_none(means["onset_offset"])
    answer["settings"] = {"onset_tolerance_s": result.onset_tolerance_s, "pitch": "same key"}
    answer["only_results"], answer["only_labels"] = result.only_results, result.only_labels
    return answer


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """Return the note files at and below a folder, by name without suffix; hidden ones left out."""
    if not folder.is_dir():
        raise UserError(folder, "no such folder")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        hidden = path.name.startswith(".")
        if path.suffix.lower() in NOTE_SUFFIXES and not hidden and path.is_file():
            found.setdefault(path.stem, []).append(path)
    return found


def _only(paths: list[Path]) -> Path:
    """Return the file that counts: of a text and a MIDI side by side, as we write them, the text.

    Raises:
        UserError: Files of one name lie in several folders, or are of one kind.
    """
    texts = [path for path in paths if path.suffix.lower() not in MIDI_SUFFIXES]
    if len(paths) == 2 and len(texts) == 1 and paths[0].parent == paths[1].parent:
        return texts[0]
    if len(paths) > 1:
        raise UserError(
            paths[0], f"{paths[1]} has the same name, and only one can count", "Keep one of them"
        )
    return paths[0]
