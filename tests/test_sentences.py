"""Where a sentence ends, whatever pieces it comes in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uservlm.runtime.server.sentences import LONGEST, Sentences

SPLIT = [
    ["Yes.", "Put on a coat."],
    ["Ask Dr. Smith.", "He knows."],
    ["It is 3.5 degrees.", "Stay in!"],
    ["Version 2.0 is out", "\nIt is new."],
    ["Well... maybe not.", "Why?!", "Because."],
    ["Wait…", "There it is."],
    ['She said "Go." and left.', '"Really?"', "(It was true.)", "So be it."],
    ['"Stop!" he cried.', "Nobody did."],
    ["Take fruit, e.g. an apple.", "Then rest."],
    ["The U.S. team won.", "J. Smith scored."],
    ["See No. 5 below.", "No.", "Five is enough."],
    ["1. Open the app.", "2. Choose a name."],
    ["Ça va ?", "« Bonjour ! » dit-il.", "« Au revoir ! »", "Il part."],
    ["Das ist z. B. Brot.", "„Gut!“", "Er geht."],
    ["今天很冷。", "你要穿外套吗？", "“好的。”", "谢谢！！"],
    ["هل أنت بخير؟", "نعم."],
    ["**Bold.**", "Plain."],
    ["I have 3.", "Take one."],
    ["First line", "\nSecond line"],
]
"""Each text is these, joined by a space where both sides are spaced; a leading newline joins so."""


def joined(sentences: list[str]) -> str:
    text = ""
    for one in sentences:
        wide = text[-1:] in "。？！”" and not one.isascii()
        text += one if one.startswith("\n") or not text or wide else f" {one}"
    return text


def split(text: str, cuts: list[int], longest: int = LONGEST) -> list[str]:
    sentences, found, last = Sentences(longest), [], 0
    for cut in sorted({min(cut, len(text)) for cut in cuts} | {len(text)}):
        found += sentences.add(text[last:cut])
        last = cut
    return found + sentences.finish()


@pytest.mark.parametrize("sentences", SPLIT, ids=lambda parts: parts[0])
def test_sentences_end_where_a_reader_ends_them(sentences: list[str]) -> None:
    expected = [one.strip() for one in sentences]
    assert split(joined(sentences), []) == expected
    assert split(joined(sentences), list(range(100))) == expected, "character by character"


def test_a_sentence_comes_with_the_first_character_of_the_next() -> None:
    sentences = Sentences()
    assert sentences.add("Put on a coat.") == [], "could be Dr."
    assert sentences.add(" ") == []
    assert sentences.add("T") == ["Put on a coat."]
    assert sentences.add("hen go") == []
    assert sentences.finish() == ["Then go"]
    assert sentences.finish() == []


def test_what_has_no_end_is_cut_at_a_pause_else_between_words_else_anywhere() -> None:
    assert split("one two three, four five six seven", [], 20) == [
        "one two three,",
        "four five six seven",
    ]
    assert split("one two three four five six", [], 20) == ["one two three four", "five six"]
    assert split("x" * 45, [], 20) == ["x" * 20, "x" * 20, "x" * 5]
    assert max(map(len, split("so, on and on " * 200, []))) <= LONGEST


def test_nothing_to_say_is_no_sentence_of_its_own() -> None:
    assert split(" \n ", []) == []
    assert split("... Well. Good.", []) == ["... Well.", "Good."]


@given(
    st.text(alphabet=st.sampled_from("aB1 .,!?…\n\"'»«)。，”Dr"), max_size=80) | st.text(),
    st.lists(st.integers(0, 80), max_size=10),
    st.integers(3, 40),
)
@settings(max_examples=300, deadline=None)
def test_nothing_is_lost_and_pieces_make_no_difference(
    text: str, cuts: list[int], longest: int
) -> None:
    found = split(text, cuts, longest)
    assert found == split(text, [], longest)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(one and len(one) <= longest for one in found)
