"""Stop texts: whatever the pieces, the answer is what stands before the first of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from uservlm.runtime.spelling import Piece, until

LETTERS = st.text("ab ", max_size=6)
STOPS = st.lists(st.text("ab ", min_size=1, max_size=4), max_size=3).map(tuple)


def pieces(texts: list[str]) -> list[Piece]:
    said = [Piece(text, count + 1) for count, text in enumerate(texts)]
    return [*said, Piece("", len(texts), "length")]


def wanted(whole: str, stops: tuple[str, ...]) -> str:
    """What a reader of the whole text would cut; a stop is found as soon as it is complete."""
    ends = [at + len(stop) for stop in stops if (at := whole.find(stop)) >= 0]
    if not ends:
        return whole
    heard = whole[: min(ends)]
    return heard[: min(heard.find(stop) for stop in stops if stop in heard)]


@given(st.lists(st.text("ab ", max_size=1), max_size=12), STOPS)
def test_nothing_of_a_stop_text_is_given_out(texts: list[str], stops: tuple[str, ...]) -> None:
    given_out = list(until(iter(pieces(texts)), stops))
    assert "".join(piece.text for piece in given_out) == wanted("".join(texts), stops)
    assert [piece.finish for piece in given_out[:-1]] == [None] * (len(given_out) - 1)
    stopped = any(stop in "".join(texts) for stop in stops)
    assert given_out[-1].finish == ("stop" if stopped else "length")


@given(st.lists(LETTERS, max_size=8))
def test_without_stop_texts_nothing_changes(texts: list[str]) -> None:
    assert list(until(iter(pieces(texts)), ())) == pieces(texts)


@given(st.lists(LETTERS, max_size=8), STOPS)
def test_only_what_may_begin_a_stop_text_is_held_back(
    texts: list[str], stops: tuple[str, ...]
) -> None:
    heard = ""
    for piece in until(iter(pieces(texts)), stops):
        heard += piece.text
        said = "".join(texts[: piece.tokens])
        assert said.startswith(heard)
        if piece.finish is None:
            held = said[len(heard) :]
            assert not held or any(stop.startswith(held) for stop in stops)
