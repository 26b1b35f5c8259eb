"""Praat's TextGrids in their two text forms, long and short.

Praat reads both by one rule: what counts are free-standing numbers, texts in double quotes (a quote
within is doubled) and flags in angle brackets; everything else, such as `xmin =` or
`intervals [1]:`, is for people, and so is the rest of a line after a free-standing exclamation
mark.
Source: Praat manual, "TextGrid file formats".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from amt_pipeline.core.errors import CorpusError

_TOKEN = re.compile(r'"(?P<text>(?:[^"]|"")*+)"|(?P<comment>![^\n]*)|(?P<word>[^\s"]+)|(?P<odd>")')
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_PHONE_TIERS = ("phones", "phone")


@dataclass(frozen=True)
class Interval:
    """A stretch of time with a text.

    Attributes:
        start_s: Where it begins.
        end_s: Where it ends.
        text: What is written there.
        line: Line of the file where it begins, counted from 1.
    """

    start_s: float
    end_s: float
    text: str
    line: int


def read_phone_tier(text: str, path: Path) -> list[Interval]:
    """Return the intervals of the tier of phones.

    It is the one that is called `phones`, alone or behind a speaker (`Anna - phones`).

    Raises:
        CorpusError: The text is no TextGrid, is cut short, or has no such tier, or several.
    """
    tiers = _read_tiers(_Tokens(text, path), path)
    chosen = [
        (name, intervals)
        for name, intervals in tiers
        if name.strip().lower().rpartition(" - ")[2] in _PHONE_TIERS
    ]
    if len(chosen) != 1:
        names = ", ".join(repr(name[:40]) for name, _ in tiers) or "none"
        how_many = "several tiers" if chosen else "no tier"
        problem = f"has {how_many} of phones (interval tiers: {names})"
        raise CorpusError(path, problem, "Name the one that counts 'phones'")
    return chosen[0][1]


class _Tokens:
    """The tokens that count, with their lines."""

    def __init__(self, text: str, path: Path) -> None:
        self._path, self._line = path, 1
        self._tokens = self._scan(text)

    def text(self) -> str:
        """Return the next token, which has to be a text."""
        token = self._next("a text in quotes")
        if not isinstance(token, str):
            self.refuse(f"has the number {token:g} where a text in quotes should be")
        return token

    def number(self) -> float:
        """Return the next token, which has to be a number."""
        token = self._next("a number")
        if isinstance(token, str):
            self.refuse(f"has the text {token[:40]!r} where a number should be")
        return token

    def count(self) -> int:
        """Return the next token, which has to be a count."""
        value = self.number()
        if not (0 <= value < 1e9 and value.is_integer()):
            self.refuse(f"{value:g} is no count")
        return int(value)

    @property
    def line(self) -> int:
        """Line of the token returned last."""
        return self._line

    def refuse(self, problem: str) -> NoReturn:
        """Raise an error that names the line."""
        remedy = "Save it again with Praat or the aligner, as a text file"
        raise CorpusError(f"{self._path} line {self._line}", problem, remedy)

    def _next(self, what: str) -> str | float:
        for token in self._tokens:
            return token
        self.refuse(f"the file ends where {what} should be: it is cut short")

    def _scan(self, text: str) -> Iterator[str | float]:
        place = 0
        for match in _TOKEN.finditer(text):
            self._line += text.count("\n", place, match.start())
            place = match.start()
            if match["odd"]:
                self.refuse("a text whose quote is never closed: the file is cut short")
            elif match["text"] is not None:
                yield match["text"].replace('""', '"')
            elif match["word"] == "<exists>":
                continue
            elif match["word"] and _NUMBER.fullmatch(match["word"]):
                value = float(match["word"])
                if not math.isfinite(value):
                    self.refuse(f"{match['word'][:20]} is beyond any time")
                yield value


def _read_tiers(tokens: _Tokens, path: Path) -> list[tuple[str, list[Interval]]]:
    """Return the interval tiers; tiers of points are passed over."""
    if tokens.text() != "ooTextFile" or tokens.text() != "TextGrid":
        raise CorpusError(path, "is not a TextGrid in text form", "Save it with Praat as text")
    _skip_times(tokens)
    tiers = []
    for _ in range(tokens.count()):
        kind, name = tokens.text(), tokens.text()
        _skip_times(tokens)
        n_items = tokens.count()
        if kind == "IntervalTier":
            tiers.append((name, [_interval(tokens) for _ in range(n_items)]))
        elif kind == "TextTier":
            for _ in range(n_items):
                tokens.number()
                tokens.text()
        else:
            tokens.refuse(f"{kind[:40]!r} is no kind of tier")
    return tiers


def _skip_times(tokens: _Tokens) -> None:
    """Pass over the start and end of a file or tier: the intervals say it again."""
    tokens.number()
    tokens.number()


def _interval(tokens: _Tokens) -> Interval:
    start_s = tokens.number()
    line = tokens.line
    return Interval(start_s, tokens.number(), tokens.text(), line)
