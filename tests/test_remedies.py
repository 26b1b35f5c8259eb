"""Commands in messages are completed with the data root that was given."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from amt_pipeline.remedies import complete_log_lines, given_data_root, with_data_root

Run = Callable[..., Result]


@pytest.mark.parametrize(
    ("text", "completed"),
    [
        ("Run `kedro run --pipelines a`", "Run `kedro run --pipelines a --params data_root=/x`"),
        ("`kedro run` trains one", "`kedro run --params data_root=/x` trains one"),
        (
            "`kedro run --pipelines a`, then `kedro run --pipelines b`",
            "`kedro run --pipelines a --params data_root=/x`, "
            "then `kedro run --pipelines b --params data_root=/x`",
        ),
        ("`kedro run --params a.b=1`", "`kedro run --params data_root=/x,a.b=1`"),
        ("`kedro run --params data_root=/y`", "`kedro run --params data_root=/y`"),
        ("Run kedro run, or `kedro runner`", "Run kedro run, or `kedro runner`"),
    ],
)
def test_commands_name_the_data_root(text: str, completed: str) -> None:
    assert with_data_root(text, "/x") == completed
    assert with_data_root(text, None) == text


def test_data_root_can_be_pasted_into_a_shell() -> None:
    completed = with_data_root("`kedro run`", "/my data")
    assert completed == "`kedro run --params 'data_root=/my data'`"


def test_data_root_is_found_among_the_options() -> None:
    assert given_data_root({"params": {"data_root": "/x", "onset": {}}}) == "/x"
    assert given_data_root({"params": {}}) is given_data_root({"params": None}) is None
    assert given_data_root({}) is None


def test_only_our_log_lines_are_completed_and_only_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours, other = logging.getLogger("amt_pipeline.remedies"), logging.getLogger("elsewhere")
    with complete_log_lines("/x"):
        ours.warning("%s: rank with `kedro run`", "onset")
        ours.warning("100 %% of %s", "it")
        other.warning("see `kedro run`")
    ours.warning("see `kedro run`")
    assert caplog.messages == [
        "onset: rank with `kedro run --params data_root=/x`",
        "100 % of it",
        "see `kedro run`",
        "see `kedro run`",
    ]


def test_every_refusal_of_a_run_repeats_the_data_root(
    kedro_run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "elsewhere"
    given = ("--env", "test", "--params", f"make.count=1,data_root={root}")
    missing = kedro_run("--pipelines", "add", *given)
    assert f"Run `kedro run --pipelines make --params data_root={root}` first" in missing.stderr
    assert kedro_run("--pipelines", "make", *given).exit_code == 0
    refused = kedro_run("--pipelines", "refer", *given)
    assert f"Run `kedro run --pipelines whole --params data_root={root}`\n" in refused.stderr
    assert f"with `kedro run --pipelines make --params data_root={root}`" in caplog.text
    default = kedro_run("--pipelines", "add", "--env", "test")
    assert "Run `kedro run --pipelines make` first" in default.stderr
