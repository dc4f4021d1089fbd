"""Bytes that are nearly HTTP, as strangers may send them."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True)
class Raw:
    """What is sent on a connection."""

    data: bytes
    answered: bool
    """Whether the server has to answer: it knows all it needs."""


HOST = b"Host: 127.0.0.1\r\nConnection: close\r\n"
_TARGETS = (
    b"/", b"/healthz", b"/v1/users", b"/v1/users/a", b"/v1/cancel/a", b"/v1/models", b"/v1/state",
    b"/nowhere", b"*", b"//", b"/%00", b"/%ff%fe", b"/page/..%2fbrain.py", b"/?" + b"a=b&" * 99,
    b"http://evil.example/v1/users", b"/v1/users/" + b"%2F" * 400, b"/v1/users/" + b"a" * 9000,
)  # fmt: skip
_METHODS = (
    b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"PATCH", b"CONNECT", b"PROPFIND", b"get", b"X" * 3000,
)  # fmt: skip
_NAMES = (
    b"Origin", b"Origin", b"Host", b"Authorization", b"Sec-Fetch-Site", b"Content-Type", b"Cookie",
    b"Content-Length", b"Transfer-Encoding", b"Expect", b"Upgrade", b"Connection", b"Range",
    b"Accept", b"Content-Encoding", b"X-Forwarded-For", b"X-Forwarded-Proto", b"Forwarded",
)  # fmt: skip
_VALUES = (
    b"http://[::1", b"null", b"http://127.0.0.1", b"[::1", b"a:b:c", b"-1", b"0", b"5",
    b"99999999999999999999", b"chunked", b"gzip, chunked", b"100-continue", b"websocket", b"h2c",
    b"close", b"bytes=0-", b"Bearer ", b"Basic Og==", b"application/json;charset=x",
    b"multipart/form-data", b"1.2.3.4, 5.6.7.8", b'for="[::1"', b"cross-site", b"evil.example",
)  # fmt: skip
_value = st.binary(max_size=40).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b""))
_token = st.from_regex(rb"[A-Za-z0-9-]{1,20}", fullmatch=True)
_odd_header = st.one_of(
    st.tuples(st.sampled_from(_NAMES), st.sampled_from(_VALUES)),
    st.tuples(st.sampled_from(_NAMES), st.sampled_from(_VALUES) | _value),
    st.tuples(_token | st.binary(max_size=12), _value),
)


@st.composite
def requests(draw: st.DrawFn) -> Raw:
    """A request without a body, with odd headers or an odd first line."""
    method = draw(st.just(b"GET") | st.sampled_from(_METHODS))
    line = method + b" " + draw(st.sampled_from(_TARGETS)) + b" HTTP/1.1\r\n"
    odd = draw(st.lists(_odd_header, max_size=2))
    host = draw(st.sampled_from([b"127.0.0.1"] * 7 + [b"evil.example"]))
    origin = draw(st.sampled_from([b""] * 7 + [b"Origin: http://evil.example\r\n"]))
    named = any(name == b"Host" for name, _ in odd)
    head = (
        (b"" if named else b"Host: " + host + b"\r\n")
        + origin
        + b"Connection: close\r\n"
        + b"".join(name + b": " + value + b"\r\n" for name, value in odd)
    )
    if draw(st.integers(0, 4)) == 0:
        line = draw(st.binary(min_size=1, max_size=60)) + b"\r\n"
    names = {name.lower() for name, _ in odd}
    body = bool(names & {b"content-length", b"transfer-encoding", b"expect"})
    return Raw(line + head + b"\r\n", False if body else draw(st.booleans()))


@st.composite
def floods(draw: st.DrawFn) -> Raw:
    """A head that is too long, or has no end."""
    name = draw(_token)
    kind = draw(st.sampled_from(["many", "long", "line", "endless"]))
    line = b"GET /healthz HTTP/1.1\r\n" + HOST
    if kind == "many":
        count = draw(st.integers(50, 4000))
        return Raw(line + (name + b": a\r\n") * count + b"\r\n", False)
    if kind == "long":
        return Raw(line + name + b": " + b"a" * draw(st.integers(30_000, 200_000)), False)
    if kind == "line":
        return Raw(b"GET /" + b"a" * draw(st.integers(30_000, 200_000)) + b" HTTP/1.1\r\n", False)
    return Raw(draw(st.binary(min_size=1, max_size=100_000)), False)


@st.composite
def bodies(draw: st.DrawFn) -> Raw:
    """A request whose body is not what its head says."""
    path = draw(st.sampled_from([b"/v1/users/encode", b"/v1/chat/completions", b"/v1/cancel"]))
    body = draw(st.binary(max_size=60) | st.just(b'{"messages": []}'))
    head = b"POST " + path + b" HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    kind = draw(st.sampled_from(["half", "short", "long", "garbage", "chunks", "both", "twice"]))
    size = b"%d" % len(body)
    if kind == "half":
        return Raw(head + b"Content-Length: 99999\r\n\r\n" + body, False)
    if kind == "short":
        size = b"%d" % draw(st.integers(0, len(body)))
        return Raw(head + b"Content-Length: " + size + b"\r\n\r\n" + body, True)
    if kind == "long":
        size = draw(st.sampled_from([b"9" * 30, b"16777217", b"999999999999"]))
        return Raw(head + b"Content-Length: " + size + b"\r\n\r\n" + body, False)
    if kind == "garbage":
        size = draw(st.sampled_from([b"-1", b"+5", b"0x10", b"1e3", b"", b"\xb2", b"5, 5", b"5 5"]))
        return Raw(head + b"Content-Length: " + size + b"\r\n\r\n" + body, False)
    if kind == "chunks":
        return Raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + draw(_chunks()), False)
    if kind == "both":
        more = b"Transfer-Encoding: chunked\r\nContent-Length: " + size
        return Raw(head + more + b"\r\n\r\n" + draw(_chunks()), False)
    return Raw(head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + body, True)


@st.composite
def _chunks(draw: st.DrawFn) -> bytes:
    """Chunks, some of which are none."""
    written = b""
    for data in draw(st.lists(st.binary(min_size=1, max_size=30), max_size=4)):
        size = draw(st.sampled_from([b"%x" % len(data)] * 4 + [b"-1", b"zz", b"f" * 20, b""]))
        written += size + draw(st.sampled_from([b"", b";a=b", b" "])) + b"\r\n" + data + b"\r\n"
    return written + draw(st.sampled_from([b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"", b"0\r\n"]))


pipelined = st.lists(requests() | bodies(), min_size=2, max_size=4).map(
    lambda few: Raw(b"".join(one.data.replace(b"Connection: close\r\n", b"") for one in few), False)
)
raw = st.one_of(requests(), floods(), bodies(), pipelined)
