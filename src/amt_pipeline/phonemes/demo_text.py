"""What the voices of the demo corpus say: sentences from a small grammar and word list.

The words are dealt like cards: every word of a list is used before any comes again, so that rare
phones (ZH, OY, UH) come up in any amount of text. An opening holds all 39 phones by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

OPENINGS = (
    "We gave the young girl a big measure of pure oil, and both huge boys took five chairs from "
    "the shore to the yard outside.",
    "That judge saw my vision of a white house, where a noisy youth put good thick cheese on each "
    "shelf, and a bird was singing over the calm lake.",
    "My thirsty cousin wore a beige jacket, so the young choir could join us in the south hall, "
    "for a cheap show with a view of the garden bed.",
)
"""Sentences with all 39 phones of ARPAbet each, so that the shortest corpus has every class."""

_WORDS = {
    "determiner": "the the the this that my your our their his her one each every another",
    "person": "boy girl teacher farmer painter singer baker doctor sailor child woman cousin judge "
    "nurse king queen stranger neighbour uncle lawyer fisher author father mother brother tourist "
    "musician shepherd youth chef",
    "thing": "book coin treasure measure toy wood garage letter bottle feather chair window shoe "
    "jacket hook orange cheese bridge cloth thumb watch kettle ladder button vision oil machine "
    "yacht bush voice picture engine wheel leather cushion jewel path onion mirage cloud",
    "place": "house garden river valley kitchen harbour village market school church forest "
    "mountain beach station yard bathhouse library castle north south hall cottage",
    "quality": "good huge young old cheap usual casual smooth thin thick loud quiet noisy yellow "
    "white rough royal curious northern fresh warm wooden beige pure strange narrow joyful heavy",
    "action": "took found carried washed pushed pulled watched chose measured enjoyed noticed "
    "showed borrowed gathered catches brings throws enjoys reaches loves hears moves joins "
    "destroys fixed changed understood polished used shook",
    "preposition": "from near behind above without beside under through over with",
    "joint": "and but while because though so when unless",
}
_PHRASES = {
    "time": "this morning,last year,at noon,after the storm,every Thursday,on a cold evening,"
    "in July,before the decision",
    "manner": "slowly,usually,with great joy,without a noise,rather badly,once again,"
    "with pleasure,as you should,in good measure",
}
WORD_LISTS: Mapping[str, tuple[str, ...]] = {
    **{kind: tuple(words.split()) for kind, words in _WORDS.items()},
    **{kind: tuple(phrases.split(",")) for kind, phrases in _PHRASES.items()},
}


class Writer:
    """Writes sentences; the same generator state gives the same ones.

    Args:
        rng: Source of all chance.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._decks: dict[str, list[str]] = {kind: [] for kind in WORD_LISTS}

    def opening(self) -> str:
        """Return a sentence with all phones."""
        return OPENINGS[int(self._rng.integers(len(OPENINGS)))]

    def text(self, n_characters: int) -> str:
        """Return sentences of about so many characters together, at least one."""
        sentences = [self.sentence()]
        while sum(map(len, sentences)) + 25 < n_characters:
            sentences.append(self.sentence())
        return " ".join(sentences)

    def sentence(self) -> str:
        """Return a sentence of one or two clauses, with commas where a reader would pause."""
        text = self._clause()
        if self._rng.random() < 0.3:
            text = f"{self._deal('time')}, {text}"
        if self._rng.random() < 0.4:
            text = f"{text}, {self._deal('joint')} {self._clause()}"
        if self._rng.random() < 0.4:
            text = f"{text} {self._deal('manner')}"
        return f"{text[0].upper()}{text[1:]}."

    def _clause(self) -> str:
        return f"{self._noun('person')} {self._deal('action')} {self._noun('thing')}"

    def _noun(self, kind: str) -> str:
        words = [self._deal("determiner"), self._deal(kind)]
        chance = self._rng.random()
        if chance < 0.6:
            words.insert(1, self._deal("quality"))
        if chance > 0.4:
            words += [self._deal("preposition"), "the", self._deal("place")]
        return " ".join(words)

    def _deal(self, kind: str) -> str:
        if not self._decks[kind]:
            words = WORD_LISTS[kind]
            self._decks[kind] = [words[index] for index in self._rng.permutation(len(words))]
        return self._decks[kind].pop()


def transcript(text: str) -> str:
    """Return a text as LibriSpeech writes it: upper case, words only."""
    return " ".join(text.upper().replace(",", " ").replace(".", " ").split())
