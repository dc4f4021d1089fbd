"""Values and signatures of the qi protocol in plain Python: both ways, and what is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uservlm.pepper_app.qi_wire_signature import CodecError, parse
from uservlm.pepper_app.qi_wire_values import META, decode, encode
from uservlm.pepper_app.service import Value

ALL = bytes(range(256))
TYPED = {
    **{"s": "grüße", "b": True, "i": -5, "I": 2**32 - 1, "l": -(2**63), "L": 2**63 - 1},
    **{"f": 0.5, "d": 1e300, "c": -128, "W": 65535, "[i]": [1, 2, 3], "[s]": [], "{sm}": {"a": 1}},
    **{"{is}": {1: "one", 2: "two"}, "(si)": ("x", 4), "[(sb)]": [("x", False)], "r": ALL},
    **{"[[d]]": [[0.5], []], "+s": "there"},
}

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, min_size=1, max_size=3).map(tuple)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)
"""What libqi sends on as it came, too; it makes text of bytes where they are not declared."""


@given(plain | st.binary() | st.integers(2**63, 2**64 - 1))
def test_whatever_is_sent_without_a_type_comes_back(value: Value) -> None:
    assert decode("m", encode("m", value)) == value


@given(st.sampled_from(sorted(TYPED)), st.data())
def test_no_part_of_a_value_passes_for_a_value(form: str, data: st.DataObject) -> None:
    whole = encode(form, TYPED[form])
    assert decode(form, whole) == TYPED[form]
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(CodecError, match="ends before it should"):
        decode(form, whole[:cut])


@given(st.binary(max_size=200), st.sampled_from([*TYPED, "m", META, "[m]", "o", "+m", "{ms}"]))
@settings(max_examples=500)
def test_any_bytes_are_a_value_or_refused(payload: bytes, form: str) -> None:
    try:
        decode(form, payload)
    except CodecError:
        pass


@given(st.text(st.sampled_from("bisrmo[](){}<>,+#~vX"), max_size=40))
def test_any_text_is_a_signature_or_refused(text: str) -> None:
    try:
        assert parse(text).kind == text[0]
    except CodecError:
        pass


def test_what_is_too_much_is_refused_before_it_is_made() -> None:
    many = struct.pack("<I", 2**32 - 1)
    for form, payload, why in (
        ("[v]", many, "more than"),
        ("[()]", many, "more than"),
        ("[s]", many + bytes(400), "ends before"),
        ("s", many, "ends before"),
        ("{si}", many + bytes(400), "ends before"),
        ("[[b]]", struct.pack("<I", 10**6) + bytes(4 * 10**6), "more than"),
        ("[" * 100 + "b" + "]" * 100, b"", "too deep"),
        ("(" * 5000, b"", "too long"),
        ("m", b"\1\0\0\0m" * 100, "too deep"),
        ("{[i]s}", b"\1\0\0\0", "keys are"),
        ("{ms}", b"\1\0\0\0\3\0\0\0[s]\0\0\0\0", "keys are"),
        ("X", b"", "should be"),
        ("ii", bytes(8), "behind its end"),
    ):
        with pytest.raises(CodecError, match=why):
            decode(form, payload)


@pytest.mark.parametrize(
    ("form", "value"),
    [("s", 1), ("i", 2**31), ("i", "1"), ("b", 1), ("r", "x"), ("I", -1), ("(ss)", ("x",)),
     ("v", 1), ("m", object()), ("o", {}), ("[i]", 3), ("f", 1e300)],
)  # fmt: skip
def test_what_is_of_another_type_is_not_sent(form: str, value: Value) -> None:
    with pytest.raises(TypeError):
        encode(form, value)


def test_what_holds_itself_is_not_sent() -> None:
    endless: list[Value] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="holds itself"):
        encode("m", endless)


def test_members_have_the_names_that_the_signature_gives() -> None:
    form = "(si)<Person,name,age>"
    assert decode(form, encode(form, {"age": 4, "name": "x"})) == {"name": "x", "age": 4}
    assert decode(form, encode(form, ("x", 4))) == {"name": "x", "age": 4}
