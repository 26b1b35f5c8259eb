"""A training run on disk: what is there, what resuming needs, what must not be mixed.

<folder>/step-0000100/ ...   checkpoints
<folder>/events/             TensorBoard event files
<folder>/previous/<n>/       finished runs with other hyper-parameters, set aside, never deleted
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amt_pipeline.core.errors import CheckpointError, ResumeError, storage_error
from amt_pipeline.core.files import read_json, remove_folder, write_json
from amt_pipeline.core.values import flatten
from amt_pipeline.training.checkpoints import list_checkpoints, read_state, verify_checkpoint

logger = logging.getLogger(__name__)

RESULT_FILE = "training.json"
MOVING_FILE = "moving.json"
"""There while a former run is moved to `previous/`; names the place."""

EVENTS_FOLDER = "events"
VALIDATION_EVENTS_FOLDER = "events_validation"
PREVIOUS_FOLDER = "previous"
EVALUATIONS_FOLDER = "evaluations"


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return `name: old -> new` for every setting that differs."""
    before, after = flatten(old), flatten(new)
    return [
        f"{name}: {before.get(name, 'unset')} -> {after.get(name, 'unset')}"
        for name in sorted(before.keys() | after.keys())
        if _plain(before.get(name)) != _plain(after.get(name))
    ]


def find_resume_point(
    folder: Path,
    *,
    identity: dict[str, Any],
    total_steps: int,
    restart: bool = False,
    check: Callable[[], object] | None = None,
) -> Path | None:
    """Return the newest whole checkpoint to go on from, or None to begin anew.

    A finished run whose hyper-parameters (or data) differ is set aside and training begins anew; an
    unfinished one is protected: it is refused, unless `restart` says to set it aside as well. A
    finished run with the same ones stays, also with `restart`: that command given twice must not
    train for hours a second time.

    Args:
        folder: The run's folder.
        identity: What the checkpoints must have been made with.
        total_steps: Where this start would end.
        restart: Set an unfinished run aside.
        check: Called before a run is set aside; what it raises leaves that run in its place.

    Raises:
        ResumeError: An unfinished run with other hyper-parameters lies here; they are named.
    """
    if (folder / MOVING_FILE).is_file():
        logger.warning("%s: the former run is now in %s", folder, finish_setting_aside(folder))
    newest = newest_whole_checkpoint(folder)
    if newest is None:
        return None
    state = read_state(newest)
    changes = differences(state.config, identity)
    finished = (folder / RESULT_FILE).is_file()
    if state.step > total_steps and not changes:
        changes = [f"steps: {state.step} -> {total_steps}"]
    if not changes and (finished or not restart):
        if restart:
            _say_that_it_stays(folder, identity, state.step, total_steps)
        return newest
    if not finished and not restart:
        raise ResumeError(
            folder,
            f"holds an unfinished run at step {state.step} with other settings "
            f"({'; '.join(changes)})",
            f"Give those settings to resume it, or set it aside with {_setting(identity)}=true",
        )
    if check is not None:
        check()
    place = set_aside(folder)
    what = "; ".join(changes) or "restart asked for"
    logger.warning(
        "%s: the former run is now in %s (%s); training begins anew", folder, place, what
    )
    if restart and not finished:
        logger.warning(
            "Should this run be stopped, go on without %s=true: with it, the next start sets this "
            "run aside too",
            _setting(identity),
        )
    return None


def _say_that_it_stays(folder: Path, identity: dict[str, Any], step: int, total: int) -> None:
    outcome = f"training goes on from step {step}" if step < total else "nothing is trained"
    logger.warning(
        "%s: holds a finished run with these settings, which %s=true does not set aside: %s. To "
        "train anew, give another %s; to repeat this run, delete its %s first",
        folder, _setting(identity), outcome, _setting(identity, "seed"), RESULT_FILE,
    )  # fmt: skip


def _setting(identity: dict[str, Any], name: str = "restart") -> str:
    """Return a training parameter as it is typed: with the task's name."""
    return ".".join([*filter(None, [identity.get("name")]), "training", name])


def newest_whole_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint whose files are all whole; damaged ones are named in the log."""
    for path in reversed(list_checkpoints(folder)):
        try:
            verify_checkpoint(path)
        except CheckpointError as error:
            logger.warning("Skipped a damaged checkpoint: %s", error)
            continue
        return path
    return None


def prune_checkpoints(folder: Path, keep: str | int, step: int) -> None:
    """Remove out-of-turn checkpoints that the one of `step` replaces, and old ones beyond `keep`.

    Damaged ones are left for the user to see: those after `step` (the run began before them because
    they are damaged) and those whose state cannot be read.
    """
    regular: list[tuple[int, Path]] = []
    out_of_turn: list[tuple[int, Path]] = []
    for path in list_checkpoints(folder):
        try:
            state = read_state(path)
        except CheckpointError as error:
            logger.warning("A damaged checkpoint stays as it is: %s", error)
            continue
        if state.step <= step:
            (regular if state.regular else out_of_turn).append((state.step, path))
    surplus = [path for at, path in out_of_turn if at < step]
    if isinstance(keep, int):
        surplus += [path for _, path in regular[:-keep]]
    for path in surplus:
        try:
            remove_folder(path)
        except OSError as error:
            logger.warning("%s stays: %s", path, error.strerror or error)


def set_aside(folder: Path) -> Path:
    """Move the run in `folder` to the next free `previous/<n>/` and return that place."""
    store = folder / PREVIOUS_FOLDER
    number = 1
    while (place := store / f"{number:03d}").exists() and any(place.iterdir()):
        number += 1
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(place, error) from error
    # Whoever finds this file goes on where we were killed.
    write_json(folder / MOVING_FILE, {"to": f"{number:03d}"})
    return finish_setting_aside(folder)


def finish_setting_aside(folder: Path) -> Path:
    """Move what a run consists of to the place that `MOVING_FILE` names, and return that place.

    Raises:
        StorageError: The disk refused.
    """
    place: Path = folder / PREVIOUS_FOLDER / read_json(folder / MOVING_FILE)["to"]
    try:
        # The result goes first: what remains meanwhile counts as unfinished.
        # The chosen checkpoint (`best`) stays in use until a ranking replaces it.
        checkpoints = [path.name for path in list_checkpoints(folder)]
        folders = (EVENTS_FOLDER, VALIDATION_EVENTS_FOLDER, EVALUATIONS_FOLDER)
        for name in (RESULT_FILE, *folders, *checkpoints):
            if (folder / name).exists():
                shutil.move(folder / name, place / name)
        (folder / MOVING_FILE).unlink()
    except OSError as error:
        raise storage_error(place, error) from error
    return place


def _plain(value: Any) -> Any:
    # JSON has lists where pydantic has tuples.
    return list(value) if isinstance(value, tuple) else value
