"""What may stand where JSON is expected, and questions that are right but for a field or two."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

odd_text = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(categories=("Cs", "Cc", "Cf", "Co", "Zl", "Mn")), max_size=20),
    st.sampled_from(
        ["", " ", "\x00", "\ud800", "\udfff\ud800", "\u202e", "\ufeff", "𝕏" * 50, "e\u0301" * 90,
         "x" * 5000, "/" * 300, "../../etc/passwd", "<bos><eos><image>", "\\u0000", "'; --",
         "{{7*7}}", "${jndi:ldap://x}", "\r\n\r\n", "data: [DONE]\n\n", "9" * 400, "null", "NaN"]
    ),
)  # fmt: skip
odd_number = st.one_of(
    st.integers(), st.floats(), st.integers(-(10**40), 10**40),
    st.sampled_from([0, -1, 2**31, 2**32, 2**63, 2**64, -(2**63) - 1, 1e308, -0.0, 5e-324, 10**300,
                     float("nan"), float("inf"), -float("inf")]),
)  # fmt: skip
odd_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | odd_number | odd_text,
    lambda few: st.lists(few, max_size=4) | st.dictionaries(odd_text, few, max_size=3),
    max_leaves=6,
)
deep = st.builds(
    lambda depth, opens, closes: opens * depth + closes * depth,
    st.sampled_from([50, 200, 900, 3000, 60_000]),
    st.sampled_from(["[", '{"a":', '[{"a":']),
    st.sampled_from(["]", "}", "}]", ""]),
)
fields_of_chat: dict[str, st.SearchStrategy[Any]] = {
    "stream": st.booleans(),
    "stream_options": st.just({"include_usage": True}),
    "max_tokens": st.integers(1, 12),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0.1, 1),
    "seed": st.integers(0, 2**31),
    "stop": st.text(min_size=1, max_size=5) | st.lists(st.text(min_size=1, max_size=5), max_size=4),
    "model": st.sampled_from(["pocket", "gpt-4o", "pocket:x", ""]),
    "n": st.just(1),
    "tools": st.just([]),
    "logit_bias": st.just({}),
    "response_format": st.just({"type": "text"}),
    "uservlm": st.fixed_dictionaries(
        {},
        optional={
            "attention": st.sampled_from(["auto", "exact", "resident"]) | odd_json,
            "deadline_s": st.floats(0, 200) | odd_json,
            "heard_s": st.floats(0, 4000) | odd_json,
            "turn": st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True) | odd_json,
            "door": st.sampled_from(["http", "page", "qi"]) | odd_json,
            "pieces": st.sampled_from(["tokens", "sentences", "sentences"]) | odd_json,
            "odd": odd_json,
        },
    ),
}
message = st.one_of(
    st.just({"role": "user", "content": "Describe me."}),
    st.fixed_dictionaries({"role": st.just("user"), "content": odd_text | odd_json}),
    st.fixed_dictionaries({"role": st.sampled_from(["system", "tool"]) | odd_text}),
    st.fixed_dictionaries(
        {
            "role": st.just("user"),
            "content": st.lists(
                st.fixed_dictionaries({"type": st.just("text"), "text": odd_text})
                | st.fixed_dictionaries({"type": st.just("image_url"), "image_url": odd_json})
                | odd_json,
                max_size=3,
            ),
        }
    ),
    odd_json,
)


@st.composite
def chats(draw: st.DrawFn) -> bytes:
    """A request for an answer that is right but for one or two of its fields."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Describe me."}]}
    body["user"] = "grace"
    for name in draw(st.sets(st.sampled_from(sorted(fields_of_chat)), max_size=4)):
        body[name] = draw(fields_of_chat[name])
    odd = draw(st.sampled_from(["messages", "messages", "user", "new", "nothing", *fields_of_chat]))
    if odd == "messages":
        body["messages"] = draw(st.lists(message, max_size=4) | odd_json)
    elif odd == "user":
        body["user"] = draw(odd_json)
    elif odd == "new":
        body[draw(odd_text)] = draw(odd_json)
    elif odd != "nothing":
        body[odd] = draw(odd_json)
    written = json.dumps(body)
    if draw(st.integers(0, 19)) == 0:
        written = written.replace('"grace"', draw(deep), 1)
    if draw(st.integers(0, 9)) == 0:
        return json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    data = written.encode()
    if draw(st.integers(0, 9)) == 0:
        return data[: draw(st.integers(0, len(data)))]
    return data
