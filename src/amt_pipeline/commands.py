"""The `amt` command: what a person does without thinking of pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# Imported for its commands, which register themselves.
from amt_pipeline import transcription_commands
from amt_pipeline.amt_app import app, command

__all__ = ["app", "command", "main", "transcription_commands"]


@command("doctor")
def doctor(
    data_root: Annotated[Path, typer.Option(help="Folder of data and trained models.")] = Path(
        "data"
    ),
) -> None:
    """Show what this installation can do, and what it lacks."""
    from amt_pipeline.doctor import examine

    findings = examine(data_root)
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        mark = "ok  " if finding.fine else "note"
        typer.echo(f"{mark}  {finding.subject:<{width}}  {finding.text}")


def main() -> None:
    """Run the `amt` command."""
    app()
