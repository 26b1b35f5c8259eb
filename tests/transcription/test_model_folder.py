"""A trained transcriber on disk: what is opened, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from amt_pipeline.core.errors import CheckpointError, ConfigError, MissingPredecessorError
from amt_pipeline.core.files import read_json, write_json
from amt_pipeline.training.checkpoints import copy_checkpoint, list_checkpoints, write_file_list
from amt_pipeline.transcription.model_folder import JOINT_FILE, ModelFolder

CPU = torch.device("cpu")


def change_state(best: Path, *path: str, value: object) -> None:
    """Change a setting in a checkpoint, as if it had been trained with it."""
    state = read_json(best / "state.json")
    block = state["config"]
    for name in path[:-1]:
        block = block[name]
    block[path[-1]] = value
    write_json(best / "state.json", state)
    write_file_list(best)


def test_folder_holds_both_networks_and_their_thresholds(models_folder: Path) -> None:
    models = ModelFolder.open(models_folder)
    assert (models.onset.name, models.pitch.name) == ("onset", "pitch")
    assert models.onset.features == models.pitch.features
    assert models.thresholds == {"onset": 0.4, "pitch": 0.4}
    network = models.load("pitch", CPU)
    assert not network.training
    with torch.inference_mode():
        frames = torch.rand(1, 2, 8 + 2 * network.context_frames, 88)
        assert network(frames).shape == (1, 8, 88)


def test_key_follows_the_weights_not_the_place(models_folder: Path, trained_models: Path) -> None:
    key = ModelFolder.open(models_folder).key
    assert key == ModelFolder.open(trained_models).key
    shutil.rmtree(models_folder / "pitch")
    newest = list_checkpoints(trained_models / "pitch")[-1]
    copy_checkpoint(newest, models_folder / "pitch" / "best", {"best.json": {"threshold": 0.4}})
    assert ModelFolder.open(models_folder).key == key  # the same checkpoint, copied again
    weights = models_folder / "pitch" / "best" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    write_file_list(weights.parent)
    assert ModelFolder.open(models_folder).key != key


@pytest.mark.parametrize("task", ["onset", "pitch"])
def test_network_that_was_not_ranked_yet_is_named(task: str, models_folder: Path) -> None:
    shutil.rmtree(models_folder / task)
    with pytest.raises(MissingPredecessorError, match=f"no chosen {task} checkpoint") as missing:
        ModelFolder.open(models_folder)
    assert f"rank_{task}" in missing.value.remedy


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "best.json", "files.json"])
@pytest.mark.parametrize("harm", ["remove", "cut"])
def test_damaged_checkpoint_is_named_with_the_file(
    name: str, harm: str, models_folder: Path
) -> None:
    path = models_folder / "onset" / "best" / name
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError) as refused:
        ModelFolder.open(models_folder)
    assert refused.value.where == str(path)


def test_checkpoint_without_a_ranking_is_refused(models_folder: Path) -> None:
    best = models_folder / "onset" / "best"
    (best / "best.json").write_text(json.dumps({"step": 3}))
    write_file_list(best)
    with pytest.raises(CheckpointError, match="does not say its threshold"):
        ModelFolder.open(models_folder)
    (best / "best.json").unlink()
    write_file_list(best)
    with pytest.raises(CheckpointError, match=r"best\.json: does not say its threshold"):
        ModelFolder.open(models_folder)


def test_networks_of_different_features_do_not_go_together(models_folder: Path) -> None:
    change_state(models_folder / "pitch" / "best", "features", "hop_samples", value=512)
    with pytest.raises(ConfigError, match="trained on different features"):
        ModelFolder.open(models_folder)


def test_checkpoint_of_another_version_is_refused(models_folder: Path) -> None:
    change_state(models_folder / "onset" / "best", "model", "layers", value=9)
    with pytest.raises(CheckpointError, match="made by another version of the package"):
        ModelFolder.open(models_folder)


def test_weights_of_another_network_are_refused(models_folder: Path) -> None:
    change_state(models_folder / "onset" / "best", "model", "dense_units", value=8)
    with pytest.raises(CheckpointError, match="weights of another network"):
        ModelFolder.open(models_folder).load("onset", CPU)


def test_joint_thresholds_count_for_the_weights_they_were_tuned_on(models_folder: Path) -> None:
    models = ModelFolder.open(models_folder)
    assert models.joint_thresholds() is None
    joint = {"onset": 0.3, "pitch": 0.5, "model": models.key}
    write_json(models_folder / JOINT_FILE, joint)
    assert models.joint_thresholds() == {"onset": 0.3, "pitch": 0.5}
    write_json(models_folder / JOINT_FILE, {**joint, "model": "retrained"})
    assert models.joint_thresholds() is None
