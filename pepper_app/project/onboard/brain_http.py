"""The brain over HTTP, with nothing but Python's own library.

Owns: its routes as they are called, each call on a thread of its own, and the pictures' form on
the way. Knows nothing of qi. The routes are described in docs/serving.md.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import base64
import json
import socket
import ssl
from threading import Thread

from .brain import Door
from .crossing import text
from .png import png
from .problem import GONE, BrainError, SettingError

try:
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from urllib.parse import quote, urlsplit
except ImportError:  # Python 2.7
    from httplib import (  # type: ignore[import-not-found,no-redef]
        HTTPConnection,
        HTTPException,
        HTTPSConnection,
    )
    from urllib import quote  # type: ignore[attr-defined,no-redef]

    from urlparse import urlsplit  # type: ignore[import-not-found,no-redef]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, Optional, Text

    from .brain import Done, Said
    from .camera import Frame
    from .loop import Loop

QUICK_S, SLOW_S = 4.0, 90.0
"""For an answer to begin: of what is there, and of what has to be computed."""
_BROKEN = (HTTPException, socket.error, OSError, ValueError, KeyError, TypeError, AttributeError)
"""What a connection may raise, or an answer that is no JSON or has another form."""


class HttpDoor(Door):
    """See the module."""

    def __init__(self, loop, address, token):  # type: (Loop, Text, Text) -> None
        """Know where to look.

        Args:
            loop: where answers arrive.
            address: http://HOST:PORT.
            token: what the brain asks for, or nothing.

        Raises:
            SettingError: https, where nobody would look at the certificate.
        """
        if address.startswith("https:") and not hasattr(ssl, "create_default_context"):
            raise SettingError(
                "%s: this Python does not check certificates (2.7.9 is the first that does); give "
                "http:// in a network that you trust" % address
            )
        self._loop, self.name = loop, address
        self._parts, self._token = urlsplit(address), token
        self._cancelled = set()  # type: set[Text]

    def open(self, done):  # type: (Done) -> None
        """See `Door`."""
        self._begin(done, lambda: self._call("GET", "/v1/state", None, QUICK_S))

    def look(self, frame, user, done):  # type: (Frame, Text, Done) -> None
        """See `Door`."""

        def work():  # type: () -> Any
            form = {"image": _picture(frame)}
            if user:
                form["user"] = user
            return _field(self._call("POST", "/v1/users/encode", form, SLOW_S), "id")

        self._begin(done, work)

    def identify(self, frame, done):  # type: (Frame, Done) -> None
        """See `Door`."""

        def work():  # type: () -> Any
            form = {"image": _picture(frame)}
            found = self._call("POST", "/v1/users/identify", form, SLOW_S)
            return _field(found, "name") or "" if _field(found, "kind") == "known" else ""

        self._begin(done, work)

    def wake(self, user, done):  # type: (Text, Done) -> None
        """See `Door`; over HTTP their first question does it."""
        self.about(user, done)

    def ask(self, question, user, turn, said, done):
        # type: (Text, Text, Text, Said, Done) -> None
        """See `Door`."""
        form = {
            "messages": [{"role": "user", "content": question}],
            "user": user,
            "stream": True,
            "uservlm": {"turn": turn, "pieces": "sentences"},
        }

        def work():  # type: () -> Any
            whole = []
            for piece in self._stream(form):
                if turn in self._cancelled:
                    raise BrainError("cancelled", "the turn was cancelled")
                whole.append(piece)
                self._loop.post(said, piece)
            return " ".join(" ".join(whole).split())

        self._begin(done, work)

    def cancel(self, turn):  # type: (Text) -> None
        """See `Door`."""
        self._cancelled.add(turn)
        self._begin(_ignore, lambda: self._call("POST", "/v1/cancel/" + turn, {}, QUICK_S))

    def remember(self, user, how, keeps, days, done):
        # type: (Text, Text, Text, int, Done) -> None
        """See `Door`."""
        form = {"how": how, "keeps": keeps, "days": days}
        path = _of_user(user) + "/consent"
        self._begin(done, lambda: self._call("POST", path, form, SLOW_S))

    def about(self, user, done):  # type: (Text, Done) -> None
        """See `Door`."""
        self._begin(done, lambda: self._call("GET", _of_user(user), None, QUICK_S))

    def forget(self, user, done):  # type: (Text, Done) -> None
        """See `Door`."""
        self._begin(done, lambda: self._call("DELETE", _of_user(user), None, SLOW_S))

    def hear(self, session, sound, done):  # type: (Text, bytes, Done) -> None
        """Have speech recognised; gives what was said since the last call, as texts.

        Args:
            session: an id of ours.
            sound: int16, little-endian, one channel, 16 kHz.
            done: see `Door`.
        """

        def work():  # type: () -> Any
            heard = _field(self._call("POST", _of_session(session), sound, QUICK_S), "heard")
            if not isinstance(heard, list):
                raise BrainError(GONE, "that is no brain")
            return [sentence for sentence in heard if text(sentence)]

        self._begin(done, work)

    def drop(self, session):  # type: (Text) -> None
        """Have what is in progress of a session of `hear` forgotten."""
        self._begin(_ignore, lambda: self._call("DELETE", _of_session(session), None, QUICK_S))

    def _begin(self, done, work):  # type: (Done, Callable[[], Any]) -> None
        """Do it on a thread of its own."""

        def run():  # type: () -> None
            try:
                value = work()
            except BrainError as error:
                self._loop.post(done, None, error)
            except _BROKEN as error:
                self._loop.post(done, None, BrainError(GONE, "%s: %s" % (self.name, error)))
            else:
                self._loop.post(done, value, None)

        thread = Thread(target=run, name=str("brain"))
        thread.daemon = True
        thread.start()

    def _send(self, method, path, body, seconds):  # type: (Text, Text, Any, float) -> Any
        """Send a request; gives the response, which has to be read."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if isinstance(body, bytes):
            headers["Content-Type"] = "application/octet-stream"
        elif body is not None:
            body = json.dumps(body).encode("ascii")
        if self._token:
            headers["Authorization"] = "Bearer " + self._token
        kind = HTTPSConnection if self._parts.scheme == "https" else HTTPConnection
        connection = kind(str(self._parts.hostname), self._parts.port, timeout=seconds)
        # Python 2.7 joins head and body: text beside bytes of a picture would be decoded.
        ours = dict((str(name), str(value)) for name, value in headers.items())
        connection.request(str(method), str(self._parts.path + path), body, ours)
        response = connection.getresponse()
        response.kept = connection  # type: ignore[attr-defined]
        return response

    def _call(self, method, path, body, seconds):  # type: (Text, Text, Any, float) -> Any
        """Call, and read the answer.

        Raises:
            BrainError: it refuses.
            HTTPException, socket.error, ValueError: nobody there, or no brain.
        """
        response = self._send(method, path, body, seconds)
        try:
            answer = json.loads(response.read().decode("utf-8") or "null")
        finally:
            response.kept.close()
        if response.status >= 400:
            raise _refusal(answer)
        return answer

    def _stream(self, form):  # type: (Dict[Text, Any]) -> Iterator[Text]
        """Ask, and give each sentence.

        Raises:
            BrainError: it refuses, or ends before the answer does.
            HTTPException, socket.error, ValueError: likewise.
        """
        response = self._send("POST", "/v1/chat/completions", form, SLOW_S)
        try:
            if response.status >= 400:
                raise _refusal(json.loads(response.read().decode("utf-8")))
            for line in _lines(response):
                if not line.startswith("data:"):
                    continue
                told = line[5:].strip()
                if told == "[DONE]":
                    return
                event = json.loads(told)
                if "error" in event:
                    raise _refusal(event)
                for choice in event.get("choices", []):
                    piece = choice.get("delta", {}).get("content")
                    if piece:
                        yield piece
        finally:
            response.kept.close()
        raise BrainError(GONE, "the answer broke off")


def _picture(frame):  # type: (Frame) -> Text
    encoded = base64.b64encode(png(frame.width, frame.height, frame.pixels))
    return "data:image/png;base64," + encoded.decode("ascii")


def _of_user(user):  # type: (Text) -> Text
    quoted = quote(user.encode("utf-8"), safe=str(""))
    return "/v1/users/%s" % quoted


def _of_session(session):  # type: (Text) -> Text
    return "/v1/hearing/" + session


def _field(answer, name):  # type: (Any, Text) -> Any
    """Take one value out of an answer.

    Raises:
        BrainError: no brain has answered.
    """
    if not isinstance(answer, dict) or name not in answer:
        raise BrainError(GONE, "that is no brain")
    return answer[name]


def _refusal(answer):  # type: (Any) -> BrainError
    """Read docs/serving.md's form of an error."""
    told = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(told, dict):
        return BrainError(GONE, "that is no brain")
    return BrainError(told.get("code") or GONE, told.get("message") or "")


def _lines(response):  # type: (Any) -> Iterator[Text]
    """Give each line as soon as it is whole; Python 2.7 gives a chunked one by the byte only."""
    held = bytearray()
    while True:
        byte = response.read(1)
        if not byte:
            return
        if byte == b"\n":
            yield bytes(held).decode("utf-8")
            held = bytearray()
        else:
            held += byte


def _ignore(*_):  # type: (*Any) -> None
    pass
