"""The tables of a phoneme record, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amt_pipeline.reporting.style import UNKNOWN, percent
from amt_pipeline.store.manifest import SPLITS

if TYPE_CHECKING:
    import pandas as pd

N_CONFUSIONS = 10


def key_figures(
    corpus: Mapping[str, Any], test: Mapping[str, Any], network: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return what a reader looks for first."""
    level = f"{100 * test['level']:g} %"
    majority = test["majority"].get("accuracy")
    top = next(name for name in test if name.startswith("top") and name.endswith("_accuracy"))
    by_utterance = _interval(test["accuracy_low"], test["accuracy_high"])
    by_speaker = _interval(test["accuracy_speaker_low"], test["accuracy_speaker_high"])
    return [
        ("frame accuracy on test (%)", percent(test["accuracy"])),
        (f"{level} interval, utterances drawn", by_utterance),
        (f"{level} interval, {test['n_speakers']} speakers drawn", by_speaker),
        (f"always {test['majority'].get('name', UNKNOWN)} (%)", percent(majority)),
        ("without frames of silence (%)", percent(test["accuracy_without_silence"])),
        (f"right class among the first {top[3:-9]} (%)", percent(test[top])),
        ("mean recall of classes (%)", percent(test["balanced_accuracy"])),
        ("test frames", f"{test['n_frames']:,} of {test['n_utterances']:,} utterances"),
        ("corpus", f"{corpus['corpus']} ({corpus['layout']}, {corpus['hours']:.2f} h)"),
        ("network", f"{network['kind']}, {network['parameters']:,} parameters"),
    ]


def accuracy_rows(
    corpus: Mapping[str, Any], best: Mapping[str, Any], test: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return by split the accuracy over frames and the mean over utterances, loss, baseline."""
    rows = {
        split: {
            "accuracy": best[split]["pooled_accuracy"],
            "utterance_accuracy": best[split]["accuracy"],
            "cross_entropy": best[split]["pooled_loss"],
        }
        for split in ("train", "validation")
    }
    rows["test"] = {
        name: test[name] for name in ("accuracy", "utterance_accuracy", "cross_entropy")
    }
    share = corpus["majority"].get("share", {})
    return {split: {**row, "majority": share.get(split)} for split, row in rows.items()}


def accuracy_table(rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return `accuracy_rows` for people."""
    import pandas as pd

    return pd.DataFrame(
        [
            (
                split,
                percent(row["accuracy"]),
                percent(row["utterance_accuracy"]),
                percent(row["majority"]),
                UNKNOWN if row["cross_entropy"] is None else f"{row['cross_entropy']:.4f}",
            )
            for split, row in rows.items()
        ],
        columns=["", "frames", "mean of utterances", "baseline", "cross-entropy (nats)"],
    )


def class_rows(per_class: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of classes for people, lowest recall first, absent classes last."""
    import pandas as pd

    rows = per_class.sort_values(["recall", "frames"], na_position="last").to_dict("records")
    return pd.DataFrame(
        [
            (
                str(row["name"]),
                f"{row['frames']:,}",
                percent(row["recall"], 1),
                percent(row["precision"], 1),
                percent(row["f1"], 1),
                _else_said(row),
            )
            for row in rows
        ],
        columns=["class", "frames", "recall", "precision", "F1", "else said"],
    )


def confusion_rows(test: Mapping[str, Any]) -> pd.DataFrame:
    """Return the most frequent confusions for people."""
    import pandas as pd

    return pd.DataFrame(
        [
            (row["truth"], row["said"], f"{row['frames']:,}", percent(row["share"], 1))
            for row in test["top_confusions"][:N_CONFUSIONS]
        ],
        columns=["true", "said", "frames", "of the true class (%)"],
    )


def corpus_rows(corpus: Mapping[str, Any]) -> pd.DataFrame:
    """Return utterances, frames and speakers of every split."""
    import pandas as pd

    shared, share = corpus["speakers_shared"], corpus["majority"].get("share", {})
    rows = [
        (
            split,
            f"{corpus['splits'][split]:,}",
            f"{corpus['frames_per_split'][split]:,}",
            f"{corpus['speakers'][split]:,}",
            UNKNOWN if split == "train" else f"{shared.get(f'train/{split}', 0):,}",
            percent(share.get(split)),
        )
        for split in SPLITS
        if split in corpus["splits"]
    ]
    name = corpus["majority"].get("name", "class of most frames")
    heads = ["split", "utterances", "frames", "speakers", "of them in training", f"{name} (%)"]
    return pd.DataFrame(rows, columns=heads)


def speakers_note(corpus: Mapping[str, Any]) -> str:
    """Return how far the splits tell of unknown voices; empty where no speaker is known."""
    if not any(corpus["speakers"].values()):
        return ""
    known = [name for name in SPLITS[1:] if corpus["speakers_shared"].get(f"train/{name}")]
    if not known:
        return "No speaker of training is in another split: their scores are of new voices."
    others = " and ".join(known)
    return f"Speakers of {others} are in training too: scores there are not of new voices alone."


def training_rows(
    training: Mapping[str, Any], best: Mapping[str, Any], network: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return how the network was trained and chosen."""
    own = training["config"]["training"]
    formula, counted = network["parameters_by_formula"], network["parameters"]
    rate = f"{own['learning_rate']:g}, schedule {own['schedule']['kind']}"
    return [
        ("parameters by formula", f"{formula:,} (counted: {counted:,})"),
        ("window", f"{network['window_frames']} frames"),
        ("optimiser", f"{own['optimiser']}, learning rate {rate}"),
        ("steps", f"{training['steps']:,} of {own['batch_size']:,} windows"),
        ("training windows", f"{training['windows']:,}"),
        ("chosen", f"step {best['step']:,} of {best['n_checkpoints']} checkpoints"),
        ("because", best["reason"]),
        ("device", f"{training['device']}, {training['precision']}"),
        ("processes", str(training["processes"])),
    ]


def reference_rows(scores: Mapping[str, float]) -> pd.DataFrame:
    """Return the reference's levels for people."""
    import pandas as pd

    rows = [(level, f"{score:.5f}") for level, score in scores.items()]
    return pd.DataFrame(rows, columns=["level", "the reference's public score"])


def _interval(low: float | None, high: float | None) -> str:
    return UNKNOWN if low is None or high is None else f"[{percent(low)}, {percent(high)}]"


def _else_said(row: Mapping[Any, Any]) -> str:
    name = row["mistaken_for"]
    if not isinstance(name, str) or not name:
        return ""
    return f"{name} {percent(row['mistaken_share'], 0)} %"
