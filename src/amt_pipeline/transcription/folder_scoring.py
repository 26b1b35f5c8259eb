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
from amt_pipeline.transcription.piece_scoring import Piece, score_readable_pieces
from amt_pipeline.transcription.scoring import summarise

if TYPE_CHECKING:
    import pandas as pd

NOTE_SUFFIXES = (".res", ".txt", ".tsv", *MIDI_SUFFIXES)


@dataclass(frozen=True, eq=False)
class FolderScore:
    """Scores of a folder of results against a folder of labels.

    Attributes:
        pieces: One row per piece that was scored; see `summarise`. None without any.
        summary: Means over these, and intervals; see `summarise`.
        failures: What is wrong with the pieces that could not be scored, by name.
        only_results: Files without a label file, by name.
        only_labels: Label files without a result, by name.
        onset_tolerance_s: Tolerance that was used.
    """

    pieces: pd.DataFrame | None
    summary: dict[str, float]
    failures: dict[str, UserError]
    only_results: list[str]
    only_labels: list[str]
    onset_tolerance_s: float

    @property
    def n_scored(self) -> int:
        """Number of pieces that could be scored."""
        return 0 if self.pieces is None else len(self.pieces)


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
        UserError: A folder is missing, or nothing matches.
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
    pairs, failures = _pairs(names, labels, results)
    scores, unreadable = score_readable_pieces(
        pairs,
        onset_tolerance_s=onset_tolerance_s,
        with_offsets=with_offsets,
        parallel=ParallelConfig(workers=workers),
    )
    table, summary = summarise(scores, seed=seed) if scores else (None, {})
    return FolderScore(
        table,
        summary,
        dict(sorted({**failures, **unreadable}.items())),
        sorted(p.name for n in results.keys() - labels.keys() for p in results[n]),
        sorted(p.name for n in labels.keys() - results.keys() for p in labels[n]),
        onset_tolerance_s,
    )


def folder_score_json(result: FolderScore) -> dict[str, Any]:
    """Return a folder score as plain JSON: pieces, mean, failures, settings, files left over.

    `mean` has precision, recall, f1 with their `_low` and `_high` and, where offsets were scored,
    the same under `mean_with_offsets`. What is not known (an interval over one piece) is null.
    `failed` lists the pieces that that `mean` lacks, which is empty without any other.
    """
    rows = [] if result.pieces is None else result.pieces.to_dict(orient="records")
    pieces = [finite_or_none(row) for row in rows]
    means: dict[str, dict[str, float]] = {"onset": {}, "onset_offset": {}}
    for key, value in result.summary.items():
        kind, name = key.split("/")
        means[kind][name] = value
    answer: dict[str, Any] = {"pieces": pieces, "mean": finite_or_none(means["onset"])}
    if means["onset_offset"]:
        answer["mean_with_offsets"] = finite_or_none(means["onset_offset"])
    answer["failed"] = [
        {"recording_id": name, "file": e.where, "reason": e.problem, "remedy": e.remedy}
        for name, e in result.failures.items()
    ]
    answer["settings"] = {"onset_tolerance_s": result.onset_tolerance_s, "pitch": "same key"}
    answer["only_results"], answer["only_labels"] = result.only_results, result.only_labels
    return answer


def _pairs(
    names: list[str], labels: dict[str, list[Path]], results: dict[str, list[Path]]
) -> tuple[list[Piece], dict[str, UserError]]:
    """Return which file is scored against which, and why other names have no such pair."""
    pairs: list[Piece] = []
    failures: dict[str, UserError] = {}
    for name in names:
        try:
            pairs.append((name, _only(labels[name]), _only(results[name])))
        except UserError as error:
            failures[name] = error
    return pairs, failures


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
