"""What the documents say is so: pipelines, parameters, commands, numbers, links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf

import amt_pipeline
from amt_pipeline.commands import app
from amt_pipeline.core.errors import ConfigError
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.hooks import SHELL_PARAMETERS
from amt_pipeline.mlflow_run import TrackingSettings
from amt_pipeline.parameters import Parameters, check_parameters
from amt_pipeline.phonemes.task_config import PhonemeTaskConfig
from amt_pipeline.pipeline_registry import register_pipelines
from amt_pipeline.ranking.rank import RankingConfig
from amt_pipeline.transcription.parameters import resolve_task
from amt_pipeline.transcription.task_config import FrameTaskConfig
from amt_pipeline.transcription.transcribe import TranscriptionConfig

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
IMAGES = sorted((REPOSITORY / "docs/images").iterdir())
TEXT = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
README = TEXT[REPOSITORY / "README.md"]
MAX_IMAGE_BYTES = 300_000

# Blocks of parameters, and what documents leave out before them where both networks have one.
NETWORK_BLOCKS = ("input", "labels", "model", "training", "augment", "evaluation", "ranking")
BLOCKS = ("features", "onset", "pitch", "transcribe", "maestro", "ingest", "parallel", "export")
BLOCKS += ("scoring", "curve", "phoneme_features", "phoneme", "librispeech")
DOTTED = re.compile(rf"(?:{'|'.join(NETWORK_BLOCKS + BLOCKS)})(?:\.[a-z_][a-z0-9_]*)+")


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    """Parameters of conf/base, as Kedro loads them."""
    loader = OmegaConfigLoader(str(REPOSITORY / "conf"), base_env="base", default_run_env="base")
    return dict(loader["parameters"])


def code_in(text: str) -> list[str]:
    """Return the code blocks and code spans of a document."""
    found = re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", text, re.DOTALL)
    return [block or span for block, span in found]


def examples() -> list[tuple[str, str]]:
    """Return every text that a document shows behind `--params`, and every `a.b=c` in its prose."""
    found = []
    for path, text in TEXT.items():
        shown = re.findall(r"(?:--params[ \n]+|PARAMS=)\"?([\w.]+=[^\s`\"]+)", text)
        shown += [code for code in code_in(text) if re.fullmatch(rf"{DOTTED.pattern}=\S+", code)]
        found += [(path.name, code) for code in shown if not code.startswith("name=")]
    return found


def accept(given: dict[str, Any], base: dict[str, Any]) -> None:
    """Check parameters as a run does, those of the shell included."""
    TrackingSettings.model_validate(given.get("mlflow", {}))
    merged: Any = OmegaConf.to_container(OmegaConf.merge(base, given))
    check_parameters({name: merged[name] for name in merged if name not in SHELL_PARAMETERS})


@pytest.mark.parametrize(("path", "shown"), examples())
def test_parameters_that_are_shown_are_accepted(
    path: str, shown: str, base: dict[str, Any]
) -> None:
    # "labels.end=..." stands for both networks, "..." for a value of the reader's own.
    whole = f"onset.{shown}" if shown.partition(".")[0] in NETWORK_BLOCKS else shown
    # As Kedro does it: commas separate, values are YAML.
    given: Any = OmegaConf.to_container(
        OmegaConf.from_dotlist(whole.replace("...", "x").split(","))
    )
    accept(given, base)
    assert given.keys() <= {*Parameters.model_fields, *SHELL_PARAMETERS}
    with pytest.raises(ConfigError, match="misspelt: unknown parameter"):
        accept({**given, "misspelt": 1}, base)


def test_there_are_examples_of_parameters() -> None:
    shown = "onset.training.epochs=2,onset.model.label_frames=9"
    assert ("README.md", shown) in examples()
    assert "transcription.md" in {name for name, _ in examples()}


def test_configuration_that_is_shown_is_accepted(base: dict[str, Any]) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", "\n".join(TEXT.values()), re.DOTALL)
    runs = [yaml.safe_load(block)["run"] for block in blocks]
    assert runs
    for run in runs:
        assert set(run["pipelines"].split(",")) <= set(register_pipelines())
        accept(run["params"], base)


@pytest.mark.parametrize("document", ["README.md", "docs/transcription.md", "docs/phonemes.md"])
def test_parameters_that_are_named_exist(document: str) -> None:
    spans = re.findall(r"`([^`\n=]+)", TEXT[REPOSITORY / document])
    named = {name for name in spans if DOTTED.fullmatch(name)}
    named = {name for name in named if not name.endswith((".json", ".csv", ".png"))}
    assert named
    assert {name for name in named if not is_parameter(name)} == set()
    assert not is_parameter("onset.training.epoch")


def is_parameter(name: str) -> bool:
    """Return whether a dotted name leads to a field of the parameter models."""
    steps = name.split(".")
    if steps[0] in NETWORK_BLOCKS:
        steps = ["onset", *steps]
    model: Any = Parameters
    if steps[0] in ("onset", "pitch"):
        model = RankingConfig if steps[1] == "ranking" else FrameTaskConfig
        steps = steps[2:] if steps[1] == "ranking" else steps[1:]
    elif steps[0] == "transcribe":
        model, steps = TranscriptionConfig, steps[1:]
    elif steps[0] == "features":
        model = FrameTaskConfig
    elif steps[0] == "phoneme_features":
        model, steps = MfccSpec, steps[1:]
    elif steps[0] == "phoneme":
        model = RankingConfig if steps[1] == "ranking" else PhonemeTaskConfig
        steps = steps[2:] if steps[1] in ("ranking", "preset") else steps[1:]
    for step in steps:
        fields = getattr(model, "model_fields", {})
        if step not in fields:
            return False
        model = fields[step].annotation
    return True


def test_readme_lists_the_registered_pipelines() -> None:
    section = README.split("\n## Pipelines\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(register_pipelines())


def test_commands_that_are_shown_exist() -> None:
    code = "\n".join(piece for text in TEXT.values() for piece in code_in(text))
    assert "--pipeline " not in code, "Kedro warns of --pipeline; use --pipelines"
    shown = {
        name for names in re.findall(r"--pipelines ([a-z_,]+)", code) for name in names.split(",")
    }
    assert shown
    assert shown <= set(register_pipelines())
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= targets
    commands = {command.name for command in app.registered_commands}
    assert set(re.findall(r"^amt ([a-z]+)", code, re.MULTILINE)) <= commands


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT[path]):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file).resolve() if file else path
        assert place.is_file(), f"{path.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}
            assert anchor in anchors, f"{path.name}: {target}"


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_images_are_small_and_shown(path: Path) -> None:
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert path.stat().st_size < MAX_IMAGE_BYTES
    assert any(f"images/{path.name})" in text for text in TEXT.values())


def test_no_path_of_anyones_machine() -> None:
    private = re.compile(r"(?<![\w.~/])/(?:home|root|Users|work|tmp|mnt|private|var)/\S*")
    files = [*DOCUMENTS, REPOSITORY / "CITATION.cff", *REPOSITORY.glob("notebooks/*.ipynb")]
    for path in files:
        assert not private.findall(path.read_text(encoding="utf-8")), path.name


def test_training_table_is_that_of_the_presets(base: dict[str, Any]) -> None:
    table = TEXT[REPOSITORY / "docs/transcription.md"]
    columns = [(name, preset) for preset in ("reference", "cpu") for name in ("onset", "pitch")]
    rows = {
        "labelled frames": "{model.label_frames}",
        "batch, windows": "{training.batch_size}",
        "decay": "\N{MULTIPLICATION SIGN} {training.schedule.decay_rate:g} every "
        "{training.schedule.decay_steps}",
        "epochs": "{training.epochs:g}",
        "checkpoint every": "{training.save_every_steps} steps",
    }
    tasks = [resolve_task(base["presets"][p], {}, {"name": name}).task for name, p in columns]
    for label, form in rows.items():
        cells = [form.format(model=task.model, training=task.training) for task in tasks]
        assert f"| {label} | {' | '.join(cells)} |" in table, f"{label}: {cells}"


def test_network_sizes_are_true(base: dict[str, Any]) -> None:
    from amt_pipeline.transcription.networks import build_network

    for preset in ("cpu", "reference"):
        sizes = []
        for name in ("onset", "pitch"):
            task = resolve_task(base["presets"][preset], {}, {"name": name}).task
            network = build_network(task.features, task.model)
            sizes.append(sum(weight.numel() for weight in network.parameters()))
        shown = f"| weights, `{preset}` preset | onset {sizes[0]:,}, pitch {sizes[1]:,} |"
        assert shown in README


def test_changelog_and_citation_are_of_this_version() -> None:
    changelog = TEXT[REPOSITORY / "CHANGELOG.md"]
    assert re.findall(r"^## (.+)$", changelog, re.MULTILINE)[0] == "Unreleased"
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == amt_pipeline.__version__
    assert citation["license"] == "MIT"
