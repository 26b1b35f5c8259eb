from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from amt_pipeline.core.errors import StorageError, UserError
from amt_pipeline.core.files import (
    TEMPORARY_PREFIX,
    atomic_folder,
    atomic_path,
    locked,
    read_json,
    remove_leftovers,
    scratch_folder,
    write_json,
    write_text,
)

# Writes new content over old again and again, each time killed at the next file operation. Prints
# what a reader finds after each, or `done` when the write came through.
CRASH = """
import os, signal, sys
from pathlib import Path
from amt_pipeline.core.files import atomic_folder, atomic_path

kind, target = sys.argv[1], Path(sys.argv[2])
WATCHED = ("open", "os.", "shutil.", "tempfile.")

def write(folder, text):
    if kind == "file":
        with atomic_path(target) as path:
            path.write_text(text)
        return
    with atomic_folder(target) as path:
        for name in "abc":
            (path / name).write_text(text)

def found():
    if not target.exists():
        return "absent"
    paths = [target] if kind == "file" else sorted(target.iterdir())
    return f"{len(paths)} " + " ".join(sorted({path.read_text() for path in paths}))

for operation in range(200):
    write(target, "old")
    child = os.fork()
    if child == 0:
        left = operation
        def kill_at(event, arguments):
            global left
            if event.startswith(WATCHED) and event != "os.kill":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(kill_at)
        write(target, "new")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(found())
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
        print("done")
        break
"""


@pytest.mark.parametrize(
    ("kind", "allowed"), [("file", {"1 old", "1 new"}), ("folder", {"3 old", "3 new", "absent"})]
)
def test_killed_at_any_file_operation_leaves_all_or_nothing(
    kind: str, allowed: set[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH, kind, str(tmp_path / "target")],
        capture_output=True,
        text=True,
        check=True,
    )
    *states, last = done.stdout.splitlines()
    assert last == "done", done.stderr
    assert len(states) > 4
    assert set(states) <= allowed
    assert {states[0][2:], states[-1][2:]} == {"old", "new"}
    leftovers = [path.name for path in tmp_path.iterdir() if path.name != "target"]
    assert leftovers
    assert all(name.startswith(TEMPORARY_PREFIX) for name in leftovers)
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_folder_that_goes_while_leftovers_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{TEMPORARY_PREFIX}x").touch()
    look = os.scandir

    def remove_and_look(path: object) -> object:
        if str(path) == str(tmp_path / "b"):
            shutil.rmtree(tmp_path / "b")
        return look(path)

    monkeypatch.setattr(os, "scandir", remove_and_look)
    remove_leftovers(tmp_path, deep=True)
    monkeypatch.undo()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["a", "c"]


def test_new_folder_that_is_taken_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, made = tempfile.mkdtemp, []

    def make_and_lose(**place: str) -> str:
        made.append(make(**place))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose)
    with scratch_folder(tmp_path) as folder:
        assert folder.is_dir()
    assert len(made) == 2
    assert list(tmp_path.iterdir()) == []


def test_file_appears_with_its_suffix_kept_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "frames.npy"
    with atomic_path(target) as path:
        assert path.suffix == ".npy"
        assert path.parent == target.parent
        path.write_bytes(b"1")
        assert not target.exists()
    assert target.read_bytes() == b"1"
    assert [p.name for p in target.parent.iterdir()] == ["frames.npy"]


@pytest.mark.parametrize("writer", [atomic_path, atomic_folder])
def test_a_defect_in_the_block_leaves_no_trace(writer: object, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), writer(tmp_path / "x"):  # type: ignore[operator]
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_results_are_readable_for_others(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "a")
        with atomic_folder(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o750


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for name in ("first", "second"):
        with atomic_folder(target) as path:
            (path / "deep").mkdir()
            (path / "deep" / name).write_text(name)
    assert [p.name for p in target.rglob("*")] == ["deep", "second"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("writer", [atomic_path, atomic_folder])
def test_a_full_disk_is_named(writer: object, tmp_path: Path) -> None:
    target = tmp_path / "model"
    with (
        pytest.raises(StorageError, match=r"model: the disk is full\. Free space"),
        writer(target),  # type: ignore[operator]
    ):
        Path("/dev/full").write_text("x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("writer", [atomic_path, atomic_folder])
def test_a_place_that_cannot_be_is_named(writer: object, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(StorageError, match=r"file/x: cannot be written"),
        writer(tmp_path / "file" / "x"),  # type: ignore[operator]
    ):
        pytest.fail("must not be reached")


@pytest.fixture
def no_longer_root() -> Iterator[None]:
    """Root may write anywhere; become nobody for the file system."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.mark.usefixtures("no_longer_root")
def test_a_folder_without_permission_is_named() -> None:
    with pytest.raises(StorageError, match=r"/x: no permission to write here\. Choose"):
        write_text("/x", "x")


def test_text_has_unix_line_ends_and_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "x.txt", "Für Elise\n")
    assert (tmp_path / "x.txt").read_bytes() == "Für Elise\n".encode()


def test_json_round_trip_and_refusal_of_nan(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"titel": "Für", "x": [1, 0.1, None]})
    assert read_json(path) == {"titel": "Für", "x": [1, 0.1, None]}
    assert "Für" in path.read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, float("nan"))
    assert json.loads(path.read_text())["titel"] == "Für"


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe"])
def test_damaged_json_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.json: cannot be read as JSON .*Delete it"):
        read_json(path)


def test_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.json: no such file"):
        read_json(tmp_path / "x.json")


def test_a_lock_is_waited_for_and_goes_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    script = (
        "import sys, time; from pathlib import Path; from amt_pipeline.core.files import locked\n"
        f"with locked(Path({str(path)!r})):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    with locked(path):
        pass
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    order: list[str] = []

    def take() -> None:
        with locked(path):
            order.append("taken")

    waiting = threading.Thread(target=take)
    waiting.start()
    waiting.join(0.3)
    order.append("killed")
    holder.kill()
    waiting.join(30)
    holder.wait()
    holder.stdout.close()
    assert order == ["killed", "taken"]


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError), locked(tmp_path / "file" / "lock"):
        pass
