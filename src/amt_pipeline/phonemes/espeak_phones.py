"""What espeak-ng says, in ARPAbet: names of its English phonemes, as phones of the 41 classes.

The names are those of espeak-ng's own phoneme files (phsource/ph_english and ph_english_us of
espeak-ng 1.52), read as the CMU pronouncing dictionary would write the sound. What is one phoneme
there and two phones here is cut at a fixed share of its duration: r-coloured vowels (AA R), vowels
that glide to schwa (IH AH), syllabic consonants (AH L).
"""

from __future__ import annotations

from collections.abc import Mapping

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.phonemes.classes import SILENCE

STRESS_MARKS = "',%="
LENGTH_MARK = ":"

Phones = tuple[tuple[str, float], ...]
"""Phones in order, each with its share of the phoneme's duration; shares add up to 1."""

_GROUPS: Mapping[str, str] = {
    SILENCE: "_ | _! _| _^_ _X1",
    # Vowels; the digits are espeak's variants by stress and neighbours.
    "AA": "A A# 0 0# 02 A~",
    "AE": "a a/ a2",
    "AH": "V @ @2 @5 @# @- a# a#2",
    "AO": "O O2 O~",
    "AW": "aU",
    "AY": "aI aI2",
    "EH": "E E2 E# e",
    "ER": "3 IR VR",
    "EY": "eI e: e#",
    "IH": "I I2 I# I2#",
    "IY": "i",
    "OW": "oU oU# o o2",
    "OY": "OI",
    "UH": "U",
    "UW": "u",
    # Consonants. Flaps and glottal stops are ways to say T, and a final L is dark or is not.
    "B": "b",
    "CH": "tS",
    "D": "d d#",
    "DH": "D",
    "F": "f",
    "G": "g",
    "HH": "h",
    "JH": "dZ",
    "K": "k x",
    "L": "l L l/ l/2 l/3",
    "M": "m",
    "N": "n",
    "NG": "N",
    "P": "p",
    "R": "r r- r/",
    "S": "s",
    "SH": "S",
    "T": "t t# t2 ?",
    "TH": "T",
    "V": "v",
    "W": "w w#",
    "Y": "j ;",
    "Z": "z z# z/2",
    "ZH": "Z",
}
_PHONES: Mapping[str, Phones] = {
    name: ((phone, 1.0),) for phone, names in _GROUPS.items() for name in names.split()
}
_SYLLABIC: Mapping[str, Phones] = {
    "@L": (("AH", 0.4), ("L", 0.6)),
    "l-": (("AH", 0.3), ("L", 0.7)),
    "m-": (("AH", 0.3), ("M", 0.7)),
    "n-": (("AH", 0.3), ("N", 0.7)),
    "N-": (("AH", 0.3), ("NG", 0.7)),
}
_R_COLOURED: Mapping[str, Phones] = {
    "A@": (("AA", 0.6), ("R", 0.4)),
    "O@": (("AO", 0.6), ("R", 0.4)),
    "o@": (("AO", 0.6), ("R", 0.4)),
    "e@": (("EH", 0.6), ("R", 0.4)),
    "i@": (("IH", 0.6), ("R", 0.4)),
    "i@3": (("IH", 0.6), ("R", 0.4)),
    "U@": (("UH", 0.6), ("R", 0.4)),
    "aI@": (("AY", 0.6), ("ER", 0.4)),
    "aI3": (("AY", 0.6), ("ER", 0.4)),
    "aU@": (("AW", 0.6), ("ER", 0.4)),
    "aa": (("AE", 1.0),),  # the vowel of "bath"
}
_NOT_R_COLOURED: Mapping[str, Phones] = {
    "A@": (("AA", 1.0),),
    "O@": (("AO", 1.0),),
    "o@": (("AO", 1.0),),
    "e@": (("EH", 1.0),),
    "i@": (("IH", 0.6), ("AH", 0.4)),
    "i@3": (("IH", 0.6), ("AH", 0.4)),
    "U@": (("UH", 0.6), ("AH", 0.4)),
    "aI@": (("AY", 0.6), ("AH", 0.4)),
    "aI3": (("AY", 0.6), ("AH", 0.4)),
    "aU@": (("AW", 0.6), ("AH", 0.4)),
    "aa": (("AA", 1.0),),
}


def arpabet(name: str, voice: str) -> Phones:
    """Return what an espeak-ng phoneme is in ARPAbet.

    Args:
        name: The phoneme as its event names it, with or without marks of stress and length.
        voice: The voice that speaks, for instance `en-us+f3` or `en-gb-scotland`. American voices
            have r in their r-coloured vowels; the British ones leave it out or say it as a
            phoneme of its own.

    Raises:
        CorpusError: No such phoneme is known here.
    """
    plain = name.lstrip(STRESS_MARKS)
    coloured = _R_COLOURED if voice.partition("+")[0] == "en-us" else _NOT_R_COLOURED
    for key in (plain, plain.replace(LENGTH_MARK, "")):
        for table in (coloured, _SYLLABIC, _PHONES):
            if key in table:
                return table[key]
    raise CorpusError(
        f"espeak-ng phoneme {name!r} of voice {voice}",
        "is not among the known ones",
        "Install espeakng-loader as pinned in constraints.txt",
    )
