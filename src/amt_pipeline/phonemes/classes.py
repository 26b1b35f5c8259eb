"""The 41 classes of a frame: silence, spoken noise, and the 39 phones of ARPAbet without stress.

Symbols are those of the CMU pronouncing dictionary, which LibriSpeech's lexicon is made of.
Aligners decorate them: vowels carry a stress digit (`AH0`), Kaldi adds a position in the word
(`AH0_B`), and each has its own names for what is no phone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.phonemes.text_files import read_lines
from amt_pipeline.store.manifest import file_exists

SILENCE, NOISE = "SIL", "SPN"
PHONES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH",
    "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH",
    "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
CLASSES_FILE = "phone_classes.txt"
MOST_CLASSES = 256
"""Classes are stored as bytes."""

OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("", "SIL", "SP", "<EPS>", "<SIL>"), SILENCE),
        **dict.fromkeys(("SPN", "NSN", "<UNK>"), NOISE),
    }
)
"""What aligners (Montreal, Kaldi) call silence and spoken noise, in upper case; the Montreal
aligner leaves the text of a silent interval empty."""

_DECORATION = re.compile(r"(?P<phone>[A-Z]+)[0-2]?(?:_[BIES])?")
_REMEDY = "Each line has a number and a name, the numbers 0, 1, 2, ... in any order"


@dataclass(frozen=True)
class PhoneClasses:
    """Names of the classes.

    Attributes:
        names: Name of class 0, 1, ...; each once.
    """

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {name.upper(): number for number, name in enumerate(self.names)}

    def find(self, symbol: str) -> int | None:
        """Return the class of an aligner's symbol, or None where there is none.

        A name is taken as it is; else letter case, stress digit and position in the word do not
        count, and silence and spoken noise have the names of `OTHER_NAMES`.
        """
        plain = symbol.strip().upper()
        if plain in self._number:
            return self._number[plain]
        match = _DECORATION.fullmatch(plain)
        bare = match["phone"] if match else plain
        return self._number.get(OTHER_NAMES.get(plain, OTHER_NAMES.get(bare, bare)))

    @property
    def silence(self) -> int | None:
        """The class of silence; None where these classes have none."""
        return self.find(SILENCE)


ARPABET = PhoneClasses((SILENCE, NOISE, *PHONES))
"""The 41 classes in the order that `phone_classes.txt` has them where a corpus brings none."""


MANNERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "vowels": ("IY", "IH", "EH", "AE", "AA", "AO", "AH", "UH", "UW", "ER"),
        "diphthongs": ("EY", "AY", "OY", "AW", "OW"),
        "approximants": ("Y", "W", "R", "L"),
        "nasals": ("M", "N", "NG"),
        "fricatives": ("F", "V", "TH", "DH", "S", "Z", "SH", "ZH", "HH"),
        "affricates": ("CH", "JH"),
        "stops": ("P", "B", "T", "D", "K", "G"),
        "no phone": (SILENCE, NOISE),
    }
)
"""The phones of ARPAbet by manner of articulation; vowels from front to back, consonants from the
lips to the throat with the voiceless one of a pair first. Confusions mostly stay within a group."""


def by_manner(names: Sequence[str]) -> dict[str, list[int]]:
    """Return the numbers of classes by manner of articulation, in the order of `MANNERS`.

    Args:
        names: Of class 0, 1, ...; those that ARPAbet does not have come last, as "other".
    """
    number = {name.upper(): place for place, name in enumerate(names)}
    groups = {
        manner: [number[name] for name in members if name in number]
        for manner, members in MANNERS.items()
    }
    known = {place for members in groups.values() for place in members}
    groups["other"] = [place for place in range(len(names)) if place not in known]
    return {manner: members for manner, members in groups.items() if members}


def read_classes(root: Path) -> PhoneClasses:
    """Return the classes that a corpus names in `phone_classes.txt`; `ARPABET` where it has none.

    Raises:
        CorpusError: The file cannot be read, or does not number its names from 0 without gaps.
    """
    path = root / CLASSES_FILE
    if not file_exists(path):
        return ARPABET
    names: dict[int, str] = {}
    for line in read_lines(path):
        words = line.text.split()
        if len(words) != 2 or not (words[0].isascii() and words[0].isdigit()):
            raise CorpusError(f"{path} line {line.number}", "has no number and name", _REMEDY)
        number = int(words[0]) if len(words[0]) <= len(str(MOST_CLASSES)) else MOST_CLASSES
        if number in names or number >= MOST_CLASSES:
            problem = f"class {words[0][:9]} is named twice, or beyond {MOST_CLASSES - 1}"
            raise CorpusError(f"{path} line {line.number}", problem, _REMEDY)
        names[number] = words[1]
    if sorted(names) != list(range(len(names))) or len(names) < 2:
        raise CorpusError(path, "does not number two or more classes from 0 on", _REMEDY)
    if len({name.upper() for name in names.values()}) < len(names):
        raise CorpusError(path, "gives one name to two classes", _REMEDY)
    return PhoneClasses(tuple(names[number] for number in range(len(names))))
