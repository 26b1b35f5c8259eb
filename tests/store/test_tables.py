from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from amt_pipeline.core.errors import StoreError
from amt_pipeline.store.tables import read_parquet


def test_table_comes_back_as_it_was(tmp_path: Path) -> None:
    table = pd.DataFrame({"name": ["a", "b"], "year": pd.array([1, None], dtype="Int64")})
    table.to_parquet(tmp_path / "a.parquet", index=False)
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "a.parquet"), table)


def test_text_that_is_not_utf8_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    text = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"name": text}), path)
    with pytest.raises(StoreError, match=r"a\.parquet: cannot be read \(.*UTF8.*\)\. Again"):
        read_parquet(path, "Again")
    path.write_bytes(b"")
    with pytest.raises(StoreError, match=r"a\.parquet: cannot be read"):
        read_parquet(path)
