"""Check text files as a commit hook: no trailing blanks, one final newline, nothing huge.

The usual hooks for this are fetched from a repository on the network; this one needs nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

MAX_BYTES = 1_000_000


def find_faults(path: Path) -> list[str]:
    """Name what is wrong with one file; binary files are only looked at for their size."""
    content = path.read_bytes()
    if len(content) > MAX_BYTES:
        return [f"{path}: {len(content) / 1e6:.1f} MB; data and models do not belong in git"]
    if b"\0" in content or not content:
        return []
    faults = [
        f"{path}:{number}: trailing blanks"
        for number, line in enumerate(content.splitlines(), start=1)
        if line != line.rstrip()
    ]
    if not content.endswith(b"\n") or content.endswith(b"\n\n"):
        faults.append(f"{path}: should end with one newline")
    return faults


def main(names: list[str]) -> int:
    """Print the faults of the named files; 1 when there are any."""
    faults = [fault for name in names for fault in find_faults(Path(name))]
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
