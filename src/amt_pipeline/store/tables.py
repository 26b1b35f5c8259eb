"""Tables as parquet files, read without trust."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd


def read_parquet(path: str | PathLike[str], remedy: str = "") -> pd.DataFrame:
    """Return the table of a parquet file, every value of it checked.

    Args:
        path: The file.
        remedy: Named in the error.

    Raises:
        StoreError: The file cannot be opened, or is damaged anywhere.
    """
    import pandas as pd
    from pyarrow import parquet

    try:
        # A text that is not UTF-8 would be told only by whoever looks at it.
        parquet.read_table(path).validate(full=True)
        return pd.read_parquet(path)
    except Exception as error:  # arrow and pandas let many types escape from damaged metadata
        lines = str(error).splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise StoreError(path, f"cannot be read ({reason})", remedy) from error
