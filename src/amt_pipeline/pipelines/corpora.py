"""What the ingestion pipelines of all corpora have in common."""

from __future__ import annotations

from typing import Any

from amt_pipeline.core.errors import ConfigError


def require_located(
    corpus: dict[str, Any], wanted: dict[str, Any], parameter: str, pipeline: str
) -> None:
    """Check that the corpus that was located is the one that the parameters name.

    Args:
        corpus: What the node before has written: `root`, and more.
        wanted: What it would write now.
        parameter: Group of parameters that names the corpus.
        pipeline: Which one to run as a whole.

    Raises:
        ConfigError: They differ; both are named.
    """
    if corpus != wanted:
        raise ConfigError(
            f"parameter {parameter}",
            f"names the corpus {_shown(wanted)}, but located was {_shown(corpus)}",
            f"Run `kedro run --pipelines {pipeline}` as a whole, with these parameters",
        )


def _shown(corpus: dict[str, Any]) -> str:
    more = {name: value for name, value in corpus.items() if name != "root" and value}
    return f"{corpus['root']} {more}" if more else str(corpus["root"])
