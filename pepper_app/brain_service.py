"""The service `UserVLM`: what the robot's other programs can ask of a brain.

Owns: the names and parameters of its methods, signals and property, and how a call becomes the
brain's. Knows nothing of libqi or connections. Every call is worked on by a thread of a pool, so
that none holds up another, and so that a mistake of ours ends there and not at a stranger's.

    ask(question, user[, turn]) -> answer         askAbout(question, picture[, turn]) -> answer
    prepare(picture) -> user                      identify(picture) -> {kind, name, similarity}
    prepareAs(user, picture) -> user              forget(user)
    prepareUser(user)                             cancel(turn) -> bool, cancelAll() -> int
    remember(user, how[, keeps, days])            about(user) -> what `GET /v1/users/ID` gives
    ping() -> True                                where "picture" is one raw JPEG, PNG or WebP, or
                                                  a frame: width, height, colorSpace, raw pixels
    signals token(turn, text), sentence(turn, text), answered(turn, text),
            failed(turn, code, message)           property state: idle thinking speaking draining

An error is `code: message`. Whoever reaches the robot's bus may call all of it, hear all signals
and emit them: NAOqi knows no rights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final

from uservlm.pepper_app.arguments import consent, optional, picture, text
from uservlm.pepper_app.service import Method, Reply, Service, Value
from uservlm.runtime.errors import RequestError, UserVLMError
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.faults import (
    INTERNAL,
    DrainingError,
    Fault,
    UnknownTurnError,
    fault_of,
)
from uservlm.runtime.server.sentences import Sentences
from uservlm.runtime.server.turn import Question, Turn

_LOG = logging.getLogger("uservlm.qi")

NAME: Final = "UserVLM"
SIGNALS: Final = {"token": "ss", "sentence": "ss", "answered": "ss", "failed": "sss"}
_SPARE: Final = 4
"""Threads for what never waits, beside one for each call that the brain lets wait."""

Emit = Callable[..., None]


class BrainService:
    """Translates calls; `close` it when no more can come."""

    def __init__(self, brain: Brain, emit: Emit) -> None:
        """Serve a brain.

        Args:
            brain: answers.
            emit: sends a signal: its name and values.
        """
        self._brain, self._emit = brain, emit
        limits = brain.limits
        self._pool = ThreadPoolExecutor(
            limits.waiting + limits.looking + _SPARE, thread_name_prefix="qi-call"
        )

    def declare(self) -> Service:
        """Say what is offered."""
        asked, done, method = self._asked, self._done, self._method
        methods = [
            method("ask", "ss", "s", asked(_of_user), "question, user -> answer"),
            method("ask", "sss", "s", asked(_of_user), "question, user, turn -> answer"),
            method("prepareUser", "s", "v", done(self._prepare_user), "user"),
            method("remember", "ss", "v", done(self._remember), "user, how they agreed"),
            method("remember", "sssd", "v", done(self._remember), "user, how, keeps, days"),
            method("about", "s", "{sm}", done(self._about), "user -> what is known of them"),
            method("forget", "s", "v", done(self._forget), "user"),
            method("cancel", "s", "b", done(self._cancel), "turn -> whether it was under way"),
            method("cancelAll", "", "i", done(self._cancel_all), "-> how many turns there were"),
            Method("ping", "", "b", _pong, "-> true"),
        ]
        for of in ("r", "iiir"):  # an encoded picture, or a frame
            methods += [
                method("askAbout", f"s{of}", "s", asked(_of_picture), "question, … -> answer"),
                method(
                    "askAbout", f"s{of}s", "s", asked(_of_picture_as), "question, …, turn -> answer"
                ),
                method("prepare", of, "s", done(self._prepare), "picture -> user"),
                method("prepareAs", f"s{of}", "s", done(self._prepare_as), "user, picture -> user"),
                method("identify", of, "{sm}", done(self._identify), "picture -> who it shows"),
            ]
        return Service(NAME, tuple(methods), SIGNALS, {"state": ("s", lambda: self._brain.state)})

    def close(self) -> None:
        """Take no more calls; what has begun ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _asked(self, question: Callable[..., Question]) -> Callable[..., None]:
        """Make the work of a call that begins a turn."""

        def ask(reply: Reply, *arguments: Value) -> None:
            turn = self._brain.ask(question(*arguments), _Hearing(reply, self._emit))
            reply.when_cancelled(turn.cancel)

        return ask

    def _done(self, work: Callable[..., Value]) -> Callable[..., None]:
        """Make the work of a call whose answer is what `work` gives."""

        def do(reply: Reply, *arguments: Value) -> None:
            reply.value(work(*arguments))

        return do

    def _method(
        self, name: str, parameters: str, returns: str, work: Callable[..., None], about: str
    ) -> Method:
        """Declare a method whose work is done by a thread of the pool."""

        def counted(reply: Reply, *arguments: Value) -> None:
            if len(arguments) != len(parameters):
                raise RequestError(f"give {len(parameters)} arguments, not {len(arguments)}")
            work(reply, *arguments)

        def handle(reply: Reply, *arguments: Value) -> None:
            try:
                done = self._pool.submit(counted, reply, *arguments)
            except RuntimeError:  # closed meanwhile
                reply.error(said(fault_of(DrainingError("the door is closed"))))
            else:
                done.add_done_callback(partial(self._settle, reply))

        return Method(name, parameters, returns, handle, about)

    def _settle(self, reply: Reply, done: Future[None]) -> None:
        """Say what went wrong, if something did."""
        if done.cancelled():
            return  # by `close`: the caller hears that the connection is gone
        error = done.exception()
        if isinstance(error, UserVLMError):
            reply.error(said(self._brain.fault(error)))
        elif error is not None:
            _LOG.error("a call failed: %s", error, exc_info=error)
            reply.error(said(INTERNAL))

    def _prepare(self, *of_picture: Value) -> str:
        return self._brain.encode(picture(*of_picture)).id

    def _prepare_as(self, user: Value, *of_picture: Value) -> str:
        return self._brain.encode(picture(*of_picture), text(user, "user")).id

    def _prepare_user(self, user: Value) -> None:
        self._brain.prepare(text(user, "user"))

    def _remember(
        self, user: Value, how: Value, keeps: Value = "embedding", days: Value = 0
    ) -> None:
        self._brain.remember(text(user, "user"), consent(how, keeps, days))

    def _about(self, user: Value) -> dict[str, Value]:
        return self._brain.user(text(user, "user")).record()

    def _identify(self, *of_picture: Value) -> dict[str, Value]:
        found = self._brain.identify(picture(*of_picture))
        similarity = None if found.similarity is None else float(found.similarity)
        return {"kind": found.kind, "name": found.name, "similarity": similarity}

    def _forget(self, user: Value) -> None:
        self._brain.forget(text(user, "user"))

    def _cancel(self, turn: Value) -> bool:
        try:
            self._brain.cancel(text(turn, "turn"))
        except UnknownTurnError:
            return False
        return True

    def _cancel_all(self) -> int:
        return self._brain.cancel_all("qi")


class _Hearing:
    """Listens to one turn, and passes on what it hears."""

    def __init__(self, reply: Reply, emit: Emit) -> None:
        self._reply, self._emit = reply, emit
        self._sentences = Sentences()

    def said(self, turn: Turn, text: str) -> None:
        """See `turn.Listener`."""
        self._emit("token", turn.id, text)
        for sentence in self._sentences.add(text):
            self._emit("sentence", turn.id, sentence)

    def answered(self, turn: Turn) -> None:
        """See `turn.Listener`."""
        for sentence in self._sentences.finish():
            self._emit("sentence", turn.id, sentence)
        self._emit("answered", turn.id, turn.text)
        self._reply.value(turn.text)

    def failed(self, turn: Turn, fault: Fault) -> None:
        """See `turn.Listener`."""
        self._emit("failed", turn.id, fault.code, fault.message)
        self._reply.error(said(fault))


def _of_user(question: Value, user: Value, turn: Value = "") -> Question:
    return Question(
        text(question, "question"),
        user=optional(user, "user"),
        turn=optional(turn, "turn"),
        door="qi",
    )


def _of_picture(question: Value, *of_picture: Value) -> Question:
    return _of_picture_as(question, *of_picture, "")


def _of_picture_as(question: Value, *rest: Value) -> Question:
    *of_picture, turn = rest
    return Question(
        text(question, "question"),
        image=picture(*of_picture),
        turn=optional(turn, "turn"),
        door="qi",
    )


def _pong(reply: Reply, *_: Value) -> None:
    reply.value(True)


def said(fault: Fault) -> str:
    """Give a fault as a caller of this door hears it."""
    return f"{fault.code}: {fault.message}"
