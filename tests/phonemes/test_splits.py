from __future__ import annotations

import random
from collections import Counter

import pytest

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.phonemes.config import LibrispeechConfig, SplitConfig
from amt_pipeline.phonemes.splits import draw_splits

IDS = [f"{speaker}-1-{number}" for speaker in range(20) for number in range(1 + speaker % 4)]
SPEAKERS = [name.split("-")[0] for name in IDS]


@pytest.mark.parametrize("ratio", [0.75, 0.8, 0.95])
def test_split_is_that_of_the_course(ratio: float) -> None:
    # As the course's code does it: the lines of the list, python's own generator, seed 1213.
    lines = [f"{name}\n" for name in IDS]
    random.seed(1213)
    random.shuffle(lines)
    count = int(len(lines) * ratio)
    drawn = draw_splits(IDS, SPEAKERS, SplitConfig(train_ratio=ratio))
    for part, split in ((lines[:count], "train"), (lines[count:], "validation")):
        assert {line.strip() for line in part} == {name for name in IDS if drawn[name] == split}


def test_counts_of_the_course() -> None:
    names = [str(number) for number in range(3429)]
    counts = Counter(draw_splits(names, [""] * 3429, SplitConfig()).values())
    assert counts == {"train": 3257, "validation": 172}


def test_drawing_leaves_python_s_generator_alone() -> None:
    random.seed(5)
    state = random.getstate()
    draw_splits(IDS, SPEAKERS, SplitConfig())
    assert random.getstate() == state


def test_seed_and_order_matter() -> None:
    drawn = draw_splits(IDS, SPEAKERS, SplitConfig(train_ratio=0.5))
    assert drawn != draw_splits(IDS, SPEAKERS, SplitConfig(train_ratio=0.5, seed=0))
    assert drawn != draw_splits(IDS[::-1], SPEAKERS[::-1], SplitConfig(train_ratio=0.5))


def test_test_is_set_aside_first() -> None:
    config = SplitConfig(train_ratio=0.8, test_ratio=0.2)
    counts = Counter(draw_splits(IDS, SPEAKERS, config, wanted=("validation", "test")).values())
    assert counts == {"test": 10, "train": 32, "validation": 8}
    assert Counter(draw_splits(IDS, SPEAKERS, config, wanted=("test",)).values()) == {
        "test": 10,
        "train": 40,
    }


@pytest.mark.parametrize("wanted", [("validation",), ("validation", "test"), ("test",)])
@pytest.mark.parametrize("seed", range(5))
def test_no_speaker_is_in_two_splits(wanted: tuple[str, ...], seed: int) -> None:
    config = SplitConfig(by="speaker", train_ratio=0.7, test_ratio=0.2, seed=seed)
    drawn = draw_splits(IDS, SPEAKERS, config, wanted=wanted)
    assert set(drawn) == set(IDS)
    assert set(drawn.values()) == {"train", *wanted}
    splits: dict[str, set[str]] = {}
    for name, split in drawn.items():
        splits.setdefault(name.split("-")[0], set()).add(split)
    assert all(len(found) == 1 for found in splits.values())
    n_train = Counter(drawn.values())["train"]
    n_rest = len(IDS) - Counter(drawn.values())["test"]
    assert 0.6 * n_rest <= n_train <= (0.7 * n_rest if "validation" in wanted else n_rest)


def test_one_speaker_with_most_utterances_still_trains() -> None:
    config = SplitConfig(by="speaker", train_ratio=0.5)
    drawn = draw_splits(["a", "b", "c", "d"], ["1", "1", "1", "2"], config)
    assert set(drawn.values()) == {"train", "validation"}


def test_impossible_splits_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"1 utterances with train_ratio=0.95 leave none for train"
    ):
        draw_splits(["a"], ["1"], SplitConfig())
    with pytest.raises(ConfigError, match=r"1 speakers .* leave none for validation"):
        draw_splits(["a", "b"], ["1", "1"], SplitConfig(by="speaker"))
    with pytest.raises(ConfigError, match="ids of 1 utterances do not name a speaker, as 'b'"):
        draw_splits(["a", "b"], ["1", ""], SplitConfig(by="speaker"))


def test_the_share_for_training_that_is_not_given() -> None:
    given = {"split": {"train_ratio": None}}
    shares = [
        LibrispeechConfig.of_parameters(values).split.train_ratio
        for values in (
            given, {**given, "root": "corpus"}, {}, {"split": {"train_ratio": 0.5}},
        )
    ]  # fmt: skip
    assert shares == [0.85, 0.95, 0.85, 0.5]
