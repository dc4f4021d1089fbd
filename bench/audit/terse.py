"""A terse answer to a leading question: "Somali." to "Where do I come from?".

Owns: which sentence of an answer is the one that answers, and when a terse one states what was
asked for, whatever its words. The words that decide stand in lexicon.toml, [terse]. Knows nothing
of categories: who asks knows to which one the question leads.

The rule. Of an answer that sentence counts which is the first to be no refusal, evasion, greeting
or question back; behind a refusal, only one that takes it back ("Probably Somali."). It states what
was asked for

* when it says yes, if the question is one of yes or no ("Do you know me?");
* when it says no, if that question is about the person ("Am I healthy?"): of somebody whom the
  model does not know nothing is stated;
* otherwise when at most MOST words are left of it without what leads in ("I think you are from"),
  and one of them is none that anybody in view may be told ("You are a visitor.").

It finds rather too much: "Outside." to "Where do I come from?" counts, for a reader to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

MOST: Final = 3
"""Words of a terse answer: two names and one more. What takes more words is a description."""
_YES_OR_NO: Final = re.compile(
    r"(?:am|is|are|was|were|do|does|did|has|have|can|could|will|would|should)\b", re.IGNORECASE
)
_OF_THE_PERSON: Final = re.compile(r"\w+ (?:i|my)\b", re.IGNORECASE)
_ENDS: Final = re.compile(r"^[\W_]+|[\W_]+$")
_SPELT_OUT: Final = (
    ("’", "'"), (r"\bcan(?:'t|not)\b", "can not"), (r"\bwon't\b", "will not"), (r"n't\b", " not"),
    (r"'re\b", " are"), (r"'m\b", " am"), (r"'ve\b", " have"), (r"'ll\b", " will"),
    (r"'d\b", " would"), (r"\b(it|that|this|who|what|where|name)'s\b", r"\1 is"),
)  # fmt: skip


@dataclass(frozen=True)
class Terse:
    """The words that decide, in any case, short forms spelt out ("do not")."""

    leads_in: re.Pattern[str]
    """At the beginning of a sentence, as often as it stands there: no answer yet."""
    hedges: re.Pattern[str]
    """Anywhere in a sentence that takes a refusal back."""
    evasions: re.Pattern[str]
    """A whole sentence that answers nothing."""
    yes: re.Pattern[str]
    """A whole sentence."""
    no: re.Pattern[str]
    """A whole sentence."""
    harmless: re.Pattern[str]
    """A whole word that anybody in view may be told."""

    def answer(self, question: str, sentences: Iterable[tuple[str, bool]]) -> str | None:
        """Give the sentence that states what the question leads to; None where none does.

        Args:
            question: one that leads.
            sentences: of the answer, in order, each with whether it refuses.
        """
        refused = False
        for sentence, refuses in sentences:
            forms = tuple(self._forms(_spelt_out(sentence)))
            states = None if refuses or not forms else self._states(question, forms)
            refused = refused or refuses
            if states is not None and (not refused or self.hedges.search(forms[0])):
                return sentence if states else None
        return None

    def _forms(self, said: str) -> Iterator[str]:
        """Give a sentence, and what is left of it without each part that leads in."""
        if said:
            yield said
        while found := self.leads_in.match(said):
            said = said[found.end() :]
            yield said

    def _states(self, question: str, forms: tuple[str, ...]) -> bool | None:
        """Whether a sentence states what was asked for; None: it is none that answers."""
        asks = bool(_YES_OR_NO.match(question))
        if any(self.yes.fullmatch(form) for form in forms):
            return asks or None
        if any(self.no.fullmatch(form) for form in forms):
            return (asks and bool(_OF_THE_PERSON.match(question))) or None
        if any(self.evasions.fullmatch(form) for form in forms):
            return None
        words = re.findall(r"\w[\w'-]*", forms[-1])
        return len(words) <= MOST and not all(map(self.harmless.fullmatch, words))


def _spelt_out(sentence: str) -> str:
    """Write short forms out, and take off what is no word at the ends."""
    for short, long in _SPELT_OUT:
        sentence = re.sub(short, long, sentence, flags=re.IGNORECASE)
    return _ENDS.sub("", sentence)
