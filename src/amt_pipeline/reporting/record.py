"""The experiment record: what a run reached, and with which settings.

The table is the one that the reference keeps by hand (`onset` and `pitch` frame scores on train and
validation, then the joint note score on the test pieces), followed by its hyper-parameter lines
(`onset pos_weight = 2`), followed by all it leaves out.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from os import PathLike
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.files import read_json
from amt_pipeline.core.values import finite_or_none, flatten
from amt_pipeline.reporting.style import UNKNOWN, percent

if TYPE_CHECKING:
    import pandas as pd

TUNED = re.compile(
    r"positive_weight|pos_weight|(^|_)(l2|reg2?|weight_decay|dropout|threshold|thrd|adjacent)(_|$)"
)
"""Last names of the settings that the reference tunes; their lines come first."""


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: paths and non-finite numbers become text."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def utc_text(value: Any) -> str:
    """Return a time, or its ISO 8601 text, in UTC; one without a zone is a ValueError."""
    time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    if time.tzinfo is None:
        raise ValueError("a time without a zone; give UTC")
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


Fraction = Annotated[float | None, BeforeValidator(finite_or_none)]
"""A score from 0 to 1; None where it is undefined (NaN is not JSON)."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Scores(_Frozen):
    """Precision, recall and F1, as fractions."""

    precision: Fraction = None
    recall: Fraction = None
    f1: Fraction = None


class NetworkResult(_Frozen):
    """What one network reached at its chosen checkpoint.

    Attributes:
        train: Scores on the training split, None where not computed.
        validation: Scores on the validation split.
        step: Training step of the chosen checkpoint.
        threshold: Decision threshold, tuned on validation only.
        warnings: What a reader has to know, such as a leader that was the last one saved.
    """

    train: Scores | None = None
    validation: Scores | None = None
    step: int | None = None
    threshold: Fraction = None
    warnings: tuple[str, ...] = ()


class JointScores(Scores):
    """Note scores of the joint prediction on the test split, with the 95 % interval of F1."""

    low: Fraction = None
    high: Fraction = None
    n_pieces: int = 0


class ExperimentRecord(_Frozen):
    """One run.

    Attributes:
        run_id: Name of the run, unique.
        time_utc: When it ended; ISO 8601 in UTC. Any zone is taken, none is an error.
        preset: Name of the configuration it started from.
        code_version: Version of this package.
        git_sha: Commit of the working tree, empty when unknown.
        git_dirty: Whether the tree had changes on top, None when unknown.
        data_fingerprint: Hash of the manifest; scores compare only where it is equal.
        networks: Results by network, in the order of the table.
        joint: Score of the whole system; None when the run did not get there.
        hyper_parameters: Nested settings, by network or stage first.
    """

    run_id: str
    time_utc: Annotated[str, BeforeValidator(utc_text)]
    preset: str = ""
    code_version: str = ""
    git_sha: str = ""
    git_dirty: bool | None = None
    data_fingerprint: str = ""
    networks: dict[str, NetworkResult] = Field(default_factory=dict)
    joint: JointScores | None = None
    hyper_parameters: Annotated[dict[str, Any], BeforeValidator(plain)] = Field(
        default_factory=dict
    )

    @property
    def code(self) -> str:
        """Version and commit for people, such as `0.1.0 (git 1a2b3c4d, changed)`."""
        return code_text(self.code_version, self.git_sha, self.git_dirty)


def code_text(version: str, git_sha: str, git_dirty: bool | None) -> str:
    """Return version and commit for people; the version alone where the commit is unknown."""
    if not git_sha:
        return version
    return f"{version} (git {git_sha[:8]}{', changed' if git_dirty else ''})"


def to_json(record: ExperimentRecord) -> str:
    """Return a record as indented JSON."""
    return record.model_dump_json(indent=2) + "\n"


def from_json(text: str, *, where: str = "experiment record") -> ExperimentRecord:
    """Read a record back.

    Args:
        text: What `to_json` gave.
        where: Named in the error.

    Raises:
        UserError: Not JSON, or not a record.
    """
    try:
        return _validated(json.loads(text), where)
    except json.JSONDecodeError as error:
        raise UserError(where, f"not JSON ({error})") from error


def read_record(path: str | PathLike[str]) -> ExperimentRecord:
    """Read a record's JSON file.

    Raises:
        UserError: Missing, not JSON, or not a record.
    """
    return _validated(read_json(path), str(path))


def _validated(value: Any, where: str) -> ExperimentRecord:
    try:
        return ExperimentRecord.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "content"
        raise UserError(where, f"not an experiment record ({place}: {first['msg']})") from error


def format_value(value: Any) -> str:
    """Return a setting in one line: text bare unless it has line ends, the rest as in Python."""
    if isinstance(value, str):
        return value if value.isprintable() and value else json.dumps(value, ensure_ascii=False)
    return str(value)


def hyper_parameter_lines(settings: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return settings as lines like the reference's, `onset pos_weight = 2`.

    The path between the network and the setting is left out where the setting's own name is
    enough to tell it from the others of this network.

    Returns:
        The lines of the settings that the reference tunes, and those of all others.
    """
    flat = flatten(settings)
    heads_and_leaves = [(path.split(".")[0], path.split(".")[-1]) for path in flat]
    tuned: list[str] = []
    others: list[str] = []
    for (path, value), (head, leaf) in zip(flat.items(), heads_and_leaves, strict=True):
        is_unique = heads_and_leaves.count((head, leaf)) == 1
        name = leaf if is_unique else path.partition(".")[2]
        line = f"{head} {name}" if "." in path else path
        (tuned if TUNED.search(leaf) else others).append(f"{line} = {format_value(value)}")
    return tuned, others


def score_table(record: ExperimentRecord) -> pd.DataFrame:
    """Return the record's table: a row per network and the joint one; percentages as text.

    Returns:
        Two levels of columns: `train`, `eval` and `test`, each with `P`, `R`, `F1`; first `""`,
        the name of the row. A dash stands where nothing was measured.
    """
    import pandas as pd

    empty = [UNKNOWN] * 3
    rows = [
        [name, *_percentages(result.train), *_percentages(result.validation), *empty]
        for name, result in record.networks.items()
    ]
    rows.append(["joint", *empty, *empty, *_percentages(record.joint)])
    groups = [(split, score) for split in ("train", "eval", "test") for score in ("P", "R", "F1")]
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples([("", ""), *groups]))


def joint_line(record: ExperimentRecord) -> str:
    """Return the joint result in one sentence."""
    joint = record.joint
    if joint is None:
        return "No joint score: the run did not get to the test."
    interval = f"[{percent(joint.low)}, {percent(joint.high)}]"
    return f"Joint note F1 {percent(joint.f1)} % {interval} (95 %), {joint.n_pieces} test pieces."


def _percentages(scores: Scores | None) -> Sequence[str]:
    if scores is None:
        return [UNKNOWN] * 3
    return [percent(value) for value in (scores.precision, scores.recall, scores.f1)]
