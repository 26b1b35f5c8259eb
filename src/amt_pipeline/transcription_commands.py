"""`amt transcribe`, `amt score`, `amt rank` and `amt demo`: transcription without pipelines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amt_pipeline.amt_app import command
from amt_pipeline.core.errors import MissingPredecessorError, UserError

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.transcription.transcribe import TranscriptionConfig

MODELS_VARIABLE = "AMT_MODELS"
DEFAULT_MODELS = Path("data", "06_models")


@command("transcribe")
def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Audio files, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for .res and .mid.")],
    models: Annotated[
        Path | None,
        typer.Option(help="Models folder; default $AMT_MODELS, then data/06_models here or above."),
    ] = None,
    onset_threshold: Annotated[float | None, typer.Option(help="Default: the tuned one.")] = None,
    pitch_threshold: Annotated[float | None, typer.Option(help="Default: the tuned one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default one per core.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
) -> None:
    """Turn audio into notes with a trained model."""
    from amt_pipeline.core.parallel import ParallelConfig
    from amt_pipeline.transcription.model_folder import ModelFolder
    from amt_pipeline.transcription.run import audio_files, transcribe_files

    folder = find_models(models)
    model = ModelFolder.open(folder)
    config = _checked(
        **model.decoding(),
        onset_threshold=onset_threshold,
        pitch_threshold=pitch_threshold,
        device=device,
        save_probabilities=False,
    )
    audio = [f for path in files for f in (audio_files(path) if path.is_dir() else [path])]
    outcome = transcribe_files(
        audio,
        models_folder=folder.absolute(),
        out_folder=out.absolute(),
        thresholds={**(model.joint_thresholds() or model.thresholds), "model": model.key},
        config=config,
        parallel=ParallelConfig(workers=workers),
    )
    for transcript in outcome.transcripts.values():
        typer.echo(f"{out / transcript.recording_id}.mid: {transcript.n_notes} notes")
    if outcome.failures:
        # Each was named in the log as it happened.
        typer.echo(f"{len(outcome.failures)} of {len(audio)} not transcribed, see above", err=True)
        raise typer.Exit(1)


@command("score")
def score(
    results: Annotated[Path, typer.Option("--results", "-r", help="Folder of transcriptions.")],
    labels: Annotated[Path, typer.Option("--labels", "-l", help="Folder of true notes.")],
    json: Annotated[Path | None, typer.Option(help="Write the scores to this file too.")] = None,
    tolerance: Annotated[float, typer.Option(help="Onset tolerance in seconds.")] = 0.05,
    offsets: Annotated[bool, typer.Option(help="Score offsets too (real ones needed).")] = False,
) -> None:
    """Score note files against the truth, onset only, as mir_eval does.

    Files that cannot be scored are named and do not stop the others; the exit code is then 1.
    """
    from amt_pipeline.core.files import write_json
    from amt_pipeline.transcription.folder_scoring import folder_score_json, score_folders

    result = score_folders(
        results, labels, onset_tolerance_s=tolerance, with_offsets=offsets, workers=None
    )
    if result.pieces is not None:
        _show_scores(result.pieces, result.summary, n_failed=len(result.failures))
    for side, names in (("labels", result.only_results), ("results", result.only_labels)):
        for name in names:
            typer.echo(f"not scored, no match among the {side}: {name}", err=True)
    if json is not None:
        write_json(json, folder_score_json(result))
    if result.failures:
        for error in result.failures.values():
            typer.echo(f"Error: {error}", err=True)
        n_pairs = result.n_scored + len(result.failures)
        typer.echo(f"{len(result.failures)} of {n_pairs} pairs not scored, see above", err=True)
        raise typer.Exit(1)


def _show_scores(pieces: pd.DataFrame, summary: dict[str, float], *, n_failed: int) -> None:
    typer.echo(f"{'precision':>9} {'recall':>9} {'f1':>9}  recording")
    for row in pieces.itertuples():
        typer.echo(f"{row.precision:9.4f} {row.recall:9.4f} {row.f1:9.4f}  {row.recording_id}")
    mean = [summary[f"onset/{name}"] for name in ("precision", "recall", "f1")]
    of = f" of {len(pieces) + n_failed}" if n_failed else ""  # else it would pass for that of all
    typer.echo(f"{mean[0]:9.4f} {mean[1]:9.4f} {mean[2]:9.4f}  mean of {len(pieces)}{of}")


@command("rank")
def rank(
    curve: Annotated[Path, typer.Argument(help="Event file or folder, or TensorBoard's CSV.")],
    tag: Annotated[str | None, typer.Option(help="Which scalar, if there are several.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for ranking.csv, ranking.png.")
    ] = None,
    lower_is_better: Annotated[bool, typer.Option(help="Rank a loss.")] = False,
) -> None:
    """Rank the steps of a validation curve, best first."""
    from amt_pipeline.core.files import write_text
    from amt_pipeline.ranking.choice import rank_curve
    from amt_pipeline.ranking.curves import read_curve
    from amt_pipeline.reporting.curves import as_ranking, ranking_image
    from amt_pipeline.reporting.style import save_png

    table = rank_curve(read_curve(curve, tag), higher_is_better=not lower_is_better)
    typer.echo(table.head(10).to_string(index=False))
    if len(table) > 10:
        typer.echo(f"... {len(table)} steps in all")
    if out is not None:
        write_text(out / "ranking.csv", table.to_csv(index=False))
        image = ranking_image(as_ranking(table), title=f"Curve {curve.name}", metric="value")
        save_png(image, out / "ranking.png")


@command("demo")
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the corpus goes.")],
    minutes: Annotated[float, typer.Option(help="Length of all pieces together.")] = 25.0,
    pieces: Annotated[int, typer.Option(help="Number of pieces.")] = 36,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
) -> None:
    """Make the demo corpus, in the layout of MAESTRO v3."""
    from amt_pipeline.transcription.demo import make_demo_corpus

    root = make_demo_corpus(folder, seed=seed, minutes=minutes, n_pieces=pieces)
    typer.echo(f"{root}: use it with --params maestro.root={root}")


def find_models(given: Path | None) -> Path:
    """Return the models folder: as given, else $AMT_MODELS, else `data/06_models` here or above.

    Raises:
        MissingPredecessorError: There is none; the message says how to train one.
    """
    named = given or (Path(os.environ[MODELS_VARIABLE]) if MODELS_VARIABLE in os.environ else None)
    if named is not None:
        if not named.is_dir():
            raise UserError(named, "no such models folder")
        return named
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / DEFAULT_MODELS).is_dir():
            return folder / DEFAULT_MODELS
    raise MissingPredecessorError(
        DEFAULT_MODELS,
        "no trained model here",
        "Train one with `kedro run`, or name --models FOLDER",
    )


def _checked(**values: Any) -> TranscriptionConfig:
    from pydantic import ValidationError

    from amt_pipeline.core.errors import ConfigError
    from amt_pipeline.transcription.transcribe import TranscriptionConfig

    try:
        return TranscriptionConfig(**values)
    except ValidationError as error:
        fault = error.errors()[0]
        name = "--" + str(fault["loc"][0]).replace("_", "-")
        raise ConfigError(name, f"{fault['msg']} (got {fault['input']!r})") from error
