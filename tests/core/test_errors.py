from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from amt_pipeline.core import errors
from amt_pipeline.core.errors import StorageError, UserError, storage_error


def test_message_has_place_problem_and_remedy() -> None:
    error = UserError(Path("a/b.mid"), "is empty", "Delete it")
    assert str(error) == "a/b.mid: is empty. Delete it"
    assert (error.where, error.problem, error.remedy) == ("a/b.mid", "is empty", "Delete it")
    assert str(UserError("a", "is empty")) == "a: is empty"


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, UserError)
    ],
)
def test_every_error_survives_the_way_back_from_a_worker(kind: type[UserError]) -> None:
    back = pickle.loads(pickle.dumps(kind("file", "is bad", "mend it")))
    assert type(back) is kind
    assert str(back) == "file: is bad. mend it"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full. Free space"),
        (errno.EDQUOT, "quota is used up. Free space"),
        (errno.EACCES, "no permission to write here. Choose a writable place"),
        (errno.EPERM, "no permission to write here. Choose a writable place"),
        (errno.EROFS, "file system is read-only. Choose a writable place"),
        (errno.EFBIG, "cannot be written (File too large). Check the path"),
    ],
)
def test_refusals_of_the_disk_have_a_remedy(number: int, words: str) -> None:
    error = storage_error("data/x.npy", OSError(number, os.strerror(number)))
    assert isinstance(error, StorageError)
    assert str(error).startswith("data/x.npy: ")
    assert words in str(error)


def test_a_short_write_points_at_the_disk() -> None:
    error = storage_error("x.npy", OSError("1000 requested and 62 written"))
    assert "1000 requested and 62 written" in str(error)
    assert "Free space" in error.remedy
