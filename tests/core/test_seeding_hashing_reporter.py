from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from amt_pipeline.core.hashing import file_sha256, value_sha256
from amt_pipeline.core.reporter import NullReporter, Reporter
from amt_pipeline.core.seeding import derive_rng, derive_seed


def test_seed_is_the_hash_of_seed_and_purpose() -> None:
    digest = hashlib.sha256(b"1/epoch/3").digest()
    assert derive_seed(1, "epoch", 3) == int.from_bytes(digest[:8], "big") // 2


def test_seeds_differ_by_seed_and_purpose_and_fit_63_bits() -> None:
    seeds = [derive_seed(seed, name, n) for seed in (0, 1) for name in "ab" for n in range(50)]
    assert len(set(seeds)) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generators_of_one_purpose_agree() -> None:
    first, again = derive_rng(1, "x").random(5), derive_rng(1, "x").random(5)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, derive_rng(1, "y").random(5))


def test_hash_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    assert file_sha256(path) == hashlib.sha256(bytes(range(256)) * 1000).hexdigest()


def test_hash_of_a_value_knows_no_key_order_but_every_value() -> None:
    assert value_sha256({"a": 1, "b": [1, 2]}) == value_sha256({"b": [1, 2], "a": 1})
    hashes = {value_sha256(v) for v in ({"a": 1}, {"a": 1.5}, {"a": "1"}, {"b": 1}, ["a", 1], None)}
    assert len(hashes) == 6
    assert value_sha256(Path("x")) == value_sha256("x")


def test_null_reporter_is_a_reporter(tmp_path: Path) -> None:
    reporter = NullReporter()
    assert isinstance(reporter, Reporter)
    reporter.scalars({"loss": 1.0}, 1)
    reporter.file(tmp_path)
    assert not isinstance(object(), Reporter)
