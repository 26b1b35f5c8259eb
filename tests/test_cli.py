"""`kedro run` and `amt`: what a user sees and which code comes back."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from typer.testing import CliRunner as TyperRunner

from amt_pipeline import cli, commands, console, doctor
from amt_pipeline.core.errors import StorageError, UserError
from amt_pipeline.training.result import TrainingInterrupted

TEST_ENV = ("--env", "test")


Run = Callable[..., Result]


def write_numbers(tiny_project: Path) -> None:
    (tiny_project / "data").mkdir()
    (tiny_project / "data" / "numbers.json").write_text("[1, 2]")


def test_run_makes_its_files_under_the_project(tiny_project: Path, kedro_run: Run) -> None:
    result = kedro_run(*TEST_ENV)
    assert result.exit_code == 0, result.stderr
    assert json.loads((tiny_project / "data" / "total.json").read_text()) == 3


def test_data_root_moves_all_data(tiny_project: Path, tmp_path: Path, kedro_run: Run) -> None:
    elsewhere = tmp_path / "elsewhere"
    result = kedro_run(*TEST_ENV, "--params", f"data_root={elsewhere}")
    assert result.exit_code == 0, result.stderr
    assert (elsewhere / "total.json").is_file()
    assert not (tiny_project / "data").exists()


def test_parameters_of_the_command_line_are_merged(tiny_project: Path, kedro_run: Run) -> None:
    result = kedro_run(*TEST_ENV, "--params", "make.count=5")
    assert result.exit_code == 0, result.stderr
    assert json.loads((tiny_project / "data" / "numbers.json").read_text()) == [0, 1, 2, 3, 4]


def test_environment_overrides_one_parameter_of_a_group(tiny_project: Path, kedro_run: Run) -> None:
    (tiny_project / "conf" / "test" / "parameters_tiny.yml").write_text("make: { count: 1 }\n")
    result = kedro_run(*TEST_ENV)
    assert result.exit_code == 0, result.stderr
    assert json.loads((tiny_project / "data" / "numbers.json").read_text()) == [0]


REFUSED = {
    "unknown pipeline": (["--pipelines", "nosuch"], "no pipeline is called 'nosuch'. All are"),
    "misspelt pipeline": (["--pipelines", "wole"], "Did you mean whole? All are shown by"),
    "unknown node": (["--nodes", "nosuch"], "does not contain nodes named ['nosuch']"),
    "unknown tag": (["--tags", "nosuch"], "contains no nodes"),
    "unknown runner": (["--runner", "NoSuchRunner"], "no attribute 'NoSuchRunner'"),
    "unknown environment": (["--env", "nosuch"], "conf/nosuch"),
    "ill-typed parameter": (["--params", "make.count=x"], "a valid integer, unable to parse"),
    "unknown parameter": (
        ["--params", "make.nosuch=1"],
        "Extra inputs are not permitted (it is 1)",
    ),
    "unknown tracking setting": (["--params", "mlflow.nosuch=1"], "mlflow.yml: nosuch"),
    "tracking not a group": (["--params", "mlflow=no"], "--params mlflow: is a group"),
    "missing predecessor": (["--pipelines", "add"], "Run `kedro run --pipelines make` first"),
    "missing corpus": (["--pipelines", "read"], "corpus: no such file or folder"),
    "missing parameter": (["--pipelines", "misspelt"], "maek: no such parameter"),
    "dataset in no catalog": (["--pipelines", "lost"], "Add it to conf/base/catalog*.yml"),
    "slice from memory": (
        ["--pipelines", "in_memory", "--nodes", "double"],
        "Begin at the node that makes it: --from-nodes add_numbers",
    ),
}


@pytest.mark.parametrize(("arguments", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_refusal_is_one_line_and_code_1(
    arguments: list[str], expected: str, kedro_run: Run
) -> None:
    environment = () if "--env" in arguments else TEST_ENV
    result = kedro_run(*arguments, *environment)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: ")
    assert expected in result.stderr


def test_broken_configuration_names_the_file(tiny_project: Path, kedro_run: Run) -> None:
    (tiny_project / "conf" / "base" / "parameters_tiny.yml").write_text("make: [1, 2\n")
    result = kedro_run(*TEST_ENV)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "parameters_tiny.yml" in result.stderr


def test_unresolvable_configuration_is_one_line(tiny_project: Path, kedro_run: Run) -> None:
    (tiny_project / "conf" / "base" / "parameters_tiny.yml").write_text(
        "make: ${runtime_params:must}\n"
    )
    result = kedro_run(*TEST_ENV)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "must" in result.stderr


def test_damaged_input_file_is_one_line(tiny_project: Path, kedro_run: Run) -> None:
    write_numbers(tiny_project)
    (tiny_project / "data" / "numbers.json").write_text("[1, ")
    result = kedro_run("--pipelines", "add", *TEST_ENV)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "numbers.json: cannot be read as JSON" in result.stderr


@pytest.mark.parametrize(
    ("pipeline", "kind"), [("crash", RuntimeError), ("broken_save", Exception)]
)
def test_defect_is_not_swallowed(
    pipeline: str, kind: type[Exception], tiny_project: Path, kedro_run: Run
) -> None:
    write_numbers(tiny_project)
    result = kedro_run("--pipelines", pipeline, *TEST_ENV)
    assert isinstance(result.exception, kind)
    assert not isinstance(result.exception, SystemExit)
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")],
)
def test_signals_end_the_run_in_one_line(
    number: int,
    code: int,
    word: str,
    tiny_project: Path,
    kedro_run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_numbers(tiny_project)
    monkeypatch.setenv("TINY_SIGNAL", str(int(number)))
    before = signal.getsignal(signal.SIGTERM)
    result = kedro_run("--pipelines", "wait", *TEST_ENV)
    assert result.exit_code == code
    assert result.stderr.startswith(word)
    assert result.stderr.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) == before


def kedro(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kedro", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_refused_inside_a_node_says_one_line_besides_its_progress(
    tiny_project: Path,
) -> None:
    write_numbers(tiny_project)
    done = kedro(tiny_project, "run", "--pipelines", "refuse", *TEST_ENV)
    assert done.returncode == 1
    running, error = done.stderr.splitlines()
    assert "Running node: refuse" in running
    assert error == "Error: corpus/index.csv: has no header. Download it again"
    assert done.stdout == ""


def test_command_with_a_defect_shows_one_plain_traceback_from_a_subfolder(
    tiny_project: Path,
) -> None:
    write_numbers(tiny_project)
    done = kedro(tiny_project / "conf", "run", "--pipelines", "crash", *TEST_ENV)
    assert done.returncode == 1
    assert done.stderr.count("Traceback (most recent call last)") == 1
    assert done.stderr.rstrip().endswith("RuntimeError: a defect")
    assert "\x1b[" not in done.stderr


def test_other_commands_of_kedro_still_work(tiny_project: Path) -> None:
    done = kedro(tiny_project, "registry", "list")
    assert done.returncode == 0, done.stderr
    assert "- whole" in done.stdout.splitlines()


def test_options_are_those_of_kedro() -> None:
    from kedro.framework.cli.project import run as original

    assert [option.name for option in cli.run.params] == [o.name for o in original.params]
    assert cli.cli.commands["run"] is cli.run


@pytest.fixture
def amt() -> TyperRunner:
    return TyperRunner()


def test_amt_shows_help_and_version(amt: TyperRunner) -> None:
    assert "doctor" in amt.invoke(commands.app, ["--help"]).stdout
    assert amt.invoke(commands.app, ["--version"]).stdout.startswith("amt_pipeline 0.")


def test_amt_runs_through_either_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["amt", "--version"])
    for entry in (commands.main, cli.main):
        with pytest.raises(SystemExit) as caught:
            entry()
        assert caught.value.code == 0


def test_registered_command_shows_a_mistake_in_one_line(amt: TyperRunner) -> None:
    @commands.command("refuse-for-test")
    def refuse() -> None:
        """Refuse."""
        raise UserError("a.wav", "is empty", "Record again")

    try:
        result = amt.invoke(commands.app, ["refuse-for-test"])
    finally:
        commands.app.registered_commands.pop()
    assert (result.exit_code, result.stderr) == (1, "Error: a.wav: is empty. Record again\n")


def test_doctor_looks_at_everything(amt: TyperRunner, tmp_path: Path) -> None:
    result = amt.invoke(commands.app, ["doctor", "--data-root", str(tmp_path / "none")])
    assert result.exit_code == 0
    assert "mlflow" in result.stdout
    for subject in ("Python", "torch", "disk", "soundfont", "espeak-ng", "trained models"):
        assert subject in result.stdout
    assert "none under" in result.stdout


def test_doctor_finds_a_trained_model(tmp_path: Path) -> None:
    folder = tmp_path / "06_models" / "onset" / "best"
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").touch()
    (finding,) = [f for f in doctor.examine(tmp_path) if f.subject == "trained models"]
    assert finding.fine
    assert "onset/best" in finding.text


def test_doctor_tells_what_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr(doctor, "SOUNDFONT_NAME", "nosuch.sf2")
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))
    monkeypatch.setattr(doctor, "EXTRAS", {"dask": (("no-extra",), "work on a Dask cluster")})
    monkeypatch.setattr(doctor, "LITTLE_SPACE_BYTES", 2**80)
    lacking = {f.subject: f.text for f in doctor.examine(tmp_path) if not f.fine}
    packages = {"torch", "no-such-package", "no-extra"}
    assert lacking.keys() == packages | {"soundfont", "espeak-ng", "disk", "trained models"}
    assert "install espeakng-loader, or set librispeech.root" in lacking["espeak-ng"]
    assert 'pip install "amt_pipeline[dask]"' in lacking["no-extra"]


def test_full_disk_anywhere_is_a_storage_error() -> None:
    line = console.explain(OSError(28, "No space left on device", "data/x"))
    assert line is not None
    assert "the disk is full" in line
    assert console.explain(StorageError("x", "is full")) == "x: is full"
    assert console.explain(OSError(5, "Input/output error", "x")) is None
    assert console.explain(ValueError("ours")) is None


def test_errors_can_be_shown_outside_the_main_thread() -> None:
    codes: list[int] = []

    def refuse() -> None:
        try:
            with console.one_line_errors():
                raise UserError("here", "is wrong")
        except click.exceptions.Exit as stop:
            codes.append(stop.exit_code)

    thread = threading.Thread(target=refuse)
    thread.start()
    thread.join()
    assert codes == [1]


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")],
)
def test_training_that_saved_itself_ends_as_any_other_stop(
    number: int, code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = TrainingInterrupted("Onset network", "stopped at step 5", "Run again").by(number)
    with pytest.raises(click.exceptions.Exit) as ended, console.one_line_errors():
        raise stop
    assert ended.value.exit_code == code
    assert capsys.readouterr().err == f"{word}: Onset network: stopped at step 5. Run again\n"


def test_forked_child_ends_at_sigterm_without_unwinding() -> None:
    with console.one_line_errors():
        child = os.fork()
        if child == 0:
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                os._exit(7)  # reached only when the handler raised instead of ending the child
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 143


def test_log_records_about_other_errors_pass_the_filter() -> None:
    silence = console._ExplainedElsewhere(console.explain)
    record = logging.makeLogRecord({"name": "kedro.pipeline.node", "msg": "x"})
    assert silence.filter(record)
    try:
        raise UserError("a", "b")
    except UserError:
        assert not silence.filter(record)
        assert silence.filter(logging.makeLogRecord({"name": "amt_pipeline.store"}))


def test_package_runs_as_a_module(tiny_project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "amt_pipeline", "--help"],
        cwd=tiny_project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--only-missing-outputs" in done.stdout
    assert CliRunner().invoke(cli.run, ["--help"]).exit_code == 0
