"""Which utterances train, validate and test, where the corpus does not say it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.phonemes.config import SplitConfig


def draw_splits(
    utterances: Sequence[str],
    speakers: Sequence[str],
    config: SplitConfig,
    *,
    wanted: Sequence[str] = ("validation",),
) -> dict[str, str]:
    """Share utterances out to training and to other splits.

    By utterance, and with validation only, this is the rule of the course's sample code: python's
    generator is seeded, the list shuffled in the order of its file, the first int(n x ratio) train.

    Args:
        utterances: Ids in the order of the list.
        speakers: Who speaks each; empty where unknown.
        config: Ratios, seed and what is kept together.
        wanted: The other splits: validation, test, or both.

    Returns:
        The split of each utterance.

    Raises:
        ConfigError: Nothing would be left for training or validation, or speakers are needed and
            unknown.
    """
    if config.by == "speaker":
        shares = _by_speaker(utterances, speakers, config, wanted)
    else:
        shares = _by_utterance(utterances, config, wanted)
    needed = {"train", *wanted} - {"test"}
    empty = sorted(needed - set(shares.values()))
    if empty:
        units = "speakers" if config.by == "speaker" else "utterances"
        count = len(set(speakers)) if config.by == "speaker" else len(utterances)
        raise ConfigError(
            "librispeech.split",
            f"{count} {units} with train_ratio={config.train_ratio:g} leave none for "
            + " and ".join(empty),
            "Give more of them, or another ratio",
        )
    return shares


def _by_utterance(
    utterances: Sequence[str], config: SplitConfig, wanted: Sequence[str]
) -> dict[str, str]:
    shuffled = list(utterances)
    # random.Random(seed).shuffle draws what random.seed(seed); random.shuffle draws.
    random.Random(config.seed).shuffle(shuffled)
    n_test = int(len(shuffled) * config.test_ratio) if "test" in wanted else 0
    # Test is taken from the end: whether there is one does not change who comes first.
    rest, test = shuffled[: len(shuffled) - n_test], shuffled[len(shuffled) - n_test :]
    n_train = int(len(rest) * config.train_ratio) if "validation" in wanted else len(rest)
    return {
        **dict.fromkeys(rest[:n_train], "train"),
        **dict.fromkeys(rest[n_train:], "validation"),
        **dict.fromkeys(test, "test"),
    }


def _by_speaker(
    utterances: Sequence[str],
    speakers: Sequence[str],
    config: SplitConfig,
    wanted: Sequence[str],
) -> dict[str, str]:
    unknown = [name for name, who in zip(utterances, speakers, strict=True) if not who]
    if unknown:
        raise ConfigError(
            "librispeech.split.by",
            f"the ids of {len(unknown)} utterances do not name a speaker, as {unknown[0]!r}",
            "Name them <speaker>-<chapter>-<number>, or split by utterance",
        )
    n_utterances = Counter(speakers)
    order = sorted(n_utterances)
    random.Random(config.seed).shuffle(order)
    has_test = "test" in wanted and config.test_ratio > 0
    test = _fill(order, n_utterances, config.test_ratio) if has_test else []
    rest = [who for who in order if who not in set(test)]
    has_validation = "validation" in wanted
    train = set(_fill(rest, n_utterances, config.train_ratio) if has_validation else rest)
    split = {who: "train" if who in train else "validation" for who in rest}
    split |= dict.fromkeys(test, "test")
    return {name: split[who] for name, who in zip(utterances, speakers, strict=True)}


def _fill(speakers: Sequence[str], n_utterances: Counter[str], ratio: float) -> list[str]:
    """Return speakers, in order, with at most `ratio` of the utterances; the first in any case."""
    limit = ratio * sum(n_utterances[who] for who in speakers)
    chosen: list[str] = []
    count = 0
    for who in speakers:
        if not chosen or count + n_utterances[who] <= limit:
            chosen.append(who)
            count += n_utterances[who]
    return chosen
