"""The brain: one engine, one queue, one user store and one set of limits for every door.

Owns: what a door may ask for, in which order it is done, and that forgetting reaches everything.
Knows nothing of HTTP or qi, nor of how an answer is made. Nothing of a picture or a question is
logged.

Threads: everything may be called from any thread. A turn is read on a thread of its own, so that a
door never waits for the engine; what does wait says so.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import BoundedSemaphore, Lock
from time import monotonic
from typing import Any, Final, Literal, TypeAlias

from uservlm.runtime.answers import Chunk
from uservlm.runtime.engine import UserVLM
from uservlm.runtime.errors import (
    BusyError,
    IdentityOffError,
    UnknownUserError,
    UserVLMError,
)
from uservlm.runtime.identity import Identification
from uservlm.runtime.image import Picture
from uservlm.runtime.profiles import Consent
from uservlm.runtime.server.checks import check_consent, check_question, check_user
from uservlm.runtime.server.faults import DrainingError, Fault, UnknownTurnError, fault_of
from uservlm.runtime.server.hub import Hub
from uservlm.runtime.server.limits import Limits
from uservlm.runtime.server.people import Times, UserInfo
from uservlm.runtime.server.pictures import check_picture
from uservlm.runtime.server.reader import Reader
from uservlm.runtime.server.register import Register
from uservlm.runtime.server.scene import Scene, View
from uservlm.runtime.server.turn import DoorName, Listener, Question, Turn
from uservlm.runtime.stream import Stream

State: TypeAlias = Literal["idle", "thinking", "speaking", "draining"]

_LOG = logging.getLogger("uservlm.server")
_CANCEL_PATIENCE_S: Final = 2.0
"""For cancelled turns to end; the engine takes half a second."""


class Brain:
    """What every door answers with; `close` it before the engine."""

    def __init__(
        self,
        vlm: UserVLM,
        limits: Limits | None = None,
        ended: Callable[[Turn], None] = lambda _: None,
    ) -> None:
        """Put an engine behind limits.

        Args:
            vlm: open; the caller closes it after the brain.
            limits: of every door.
            ended: called with each turn that has ended.
        """
        self.vlm, self.limits = vlm, limits or Limits()
        self.hub = Hub()
        """Tells who watches what happens here."""
        self.register = Register(self.limits)
        self.scene = Scene(self.limits.view_s, self._tell_view)
        self.doors: dict[str, dict[str, str]] = {"qi": {"state": "off", "detail": ""}}
        self._told_users: list[dict[str, Any]] | None = None
        self._telling = Lock()
        self._times = Times(self.limits.unseen_s)
        self._reader = Reader(self.register, self.hub, self.limits, self.fault, ended)
        self._looking = BoundedSemaphore(self.limits.looking)
        self._one_picture = Lock()
        """Decoded at a time: 1 kB of WebP may take half a gigabyte while it is."""

    def ask(self, question: Question, listener: Listener) -> Turn:
        """Begin a turn; waits for the users' folder at most.

        Args:
            question: what is asked about whom.
            listener: hears the rest, errors of the turn itself among it.

        Raises:
            DrainingError, BusyError, TurnTakenError: not now.
            UserVLMError: what is wrong with the question, see `UserVLM.stream`.
        """
        check_question(question, self.limits)
        turn, begun = self.register.enter(question), False
        try:
            stream = turn.follow(self._stream(question))
            if question.image is not None:
                self._times.note_picture()
                self.scene.show(question.image)
            if turn.user is not None:
                self._times.note(turn.user)
            self._reader.read(turn, stream, listener)
            begun = True
        finally:
            if not begun:
                self._reader.leave(turn, begun=False)
        return turn

    def encode(
        self, image: Picture, user: str | None = None, consent: Consent | None = None
    ) -> UserInfo:
        """Look at somebody, keep them, and prepare for their question; waits for the look.

        Args:
            image: of them.
            user: an id to keep them under; None: a guest's is made. Without consent in memory only.
            consent: what they agreed to.

        Raises:
            DrainingError, BusyError: not now.
            UserVLMError: see `UserVLM.encode` and `UserStore.keep`.
        """
        name = user if user is not None else f"guest-{secrets.token_hex(4)}"
        with self._work():
            check_user(name, self.limits)
            check_consent(consent, self.limits)
            check_picture(image, self.limits)
            self._times.note_picture()
            with self._one_picture:
                embedding = self.vlm.encode(image)
            self.vlm.users.keep(name, embedding, consent)
            self._times.note(name)
            self.scene.show(image, name, told=user is not None)
            self._prepare(name)
            kept = self._still(name)
        self.tell_users()
        return kept

    def remember(self, user: str, consent: Consent) -> UserInfo:
        """Keep somebody who was looked at before as they agree now, under the same id.

        Args:
            user: a guest from `encode`, or anybody who is known.
            consent: what they agreed to; less than before removes what it does not cover.

        Raises:
            DrainingError, BusyError: not now.
            UserVLMError: see `UserStore.agree`.
        """
        with self._work():
            check_user(user, self.limits)
            check_consent(consent, self.limits)
            self.vlm.users.agree(user, consent)
            self._times.note(user)
            self._prepare(user)
            kept = self._still(user)
        self.tell_users()
        return kept

    def prepare(self, user: str) -> None:
        """Do what can be done before somebody's question; returns at once, and does it behind.

        Raises:
            DrainingError, BusyError: not now.
            UnknownUserError, PictureNeededError: nobody can be prepared.
        """
        with self._work():
            self._prepare(user)

    def identify(self, image: Picture) -> Identification:
        """Find out who is in view; waits for the look.

        Raises:
            DrainingError, BusyError: not now.
            IdentityOffError: never, by these limits; the picture is not looked at.
            UserVLMError: see `UserVLM.identify`.
        """
        if not self.limits.compares:
            raise IdentityOffError("this brain compares nobody")
        with self._work():
            check_picture(image, self.limits)
            self._times.note_picture()
            with self._one_picture:
                found = self.vlm.identify(image)
        self.scene.identified(image, found)
        if found.name is not None:
            self._times.note(found.name)
            self._still(found.name)
        return found

    def forget(self, user: str) -> None:
        """Let go of somebody everywhere: their turns end first. Waits for others' turns.

        What may be theirs goes too: turns and pictures of people that nobody has named.

        Raises:
            UnknownUserError: nobody is kept under that id.
        """
        self._forget_here(user)
        try:
            self.vlm.users.forget(user)
            self.vlm.forget_strangers()
        finally:
            self._forget_here(user)  # what came while that waited
        self.tell_users()
        self._tell_turns()

    def forget_all(self) -> int:
        """Let go of everybody, kept or not, see `forget`; gives how many were kept."""
        count = 0
        self.register.forget_all()
        for user in self.users():
            with suppress(UnknownUserError):  # somebody else forgot them meanwhile
                self.vlm.users.forget(user.id)
                count += 1
        self.vlm.forget_strangers()
        self.register.forget_all()
        self.scene.forget()
        self.tell_users()
        self._tell_turns()
        return count

    def sweep(self) -> None:
        """Let go of who should not be kept any longer; waits as `forget` does.

        That is whose consent has run out, who agreed to nothing and was not seen for long, what
        is left here of those who made way for others, and what has gathered for as long of people
        whom nobody named: what was computed from their pictures, and the turns about them.
        """
        self.vlm.users.purge()
        if self._times.begin_gathering_anew():
            self.vlm.forget_strangers()
            self.register.forget(None)
            self._tell_turns()
        for user in self.users():
            if user.entry.profile is None and self._times.overdue(user.id):
                with suppress(UnknownUserError):  # gone already
                    self.forget(user.id)
        kept = {user.id for user in self.users()}
        view = self.scene.view
        for name in {*self.register.users, view and view.user, view and view.name} - {*kept, None}:
            self._forget_here(str(name))
            self._tell_turns()

    def users(self) -> tuple[UserInfo, ...]:
        """Say who is known; reads the users' folder."""
        asked = monotonic()
        return self._times.describe(self.vlm.people(), asked)

    def user(self, name: str) -> UserInfo:
        """Say what is known of one.

        Raises:
            UnknownUserError: nothing.
        """
        found = next((one for one in self.users() if one.id == name), None)
        if found is None:
            raise UnknownUserError(f"no user {name!r} is kept")
        return found

    def cancel(self, turn: str) -> None:
        """End a turn; its listener hears of it.

        Raises:
            UnknownTurnError: none of that id is under way.
        """
        found = self.register.find(turn)
        if found is None:
            raise UnknownTurnError(f"turn {turn!r} is not under way")
        found.cancel()

    def cancel_all(self, door: DoorName | None = None) -> int:
        """End every turn, or those of one door; gives how many."""
        turns = [one for one in self.register.under_way if door in (None, one.door)]
        for turn in turns:
            turn.cancel()
        return len(turns)

    @property
    def state(self) -> State:
        """What the brain is doing."""
        if self.register.closed:
            return "draining"
        states = {turn.state for turn in self.register.under_way}
        return "speaking" if "speaking" in states else "thinking" if states else "idle"

    def door(self, name: str, state: str, detail: str = "") -> None:
        """Note the health of a door, as it reports it."""
        self.doors = {**self.doors, name: {"state": state, "detail": detail}}

    def fault(self, error: UserVLMError) -> Fault:
        """Say an error to a client; the log gets what is ours to mend."""
        fault = fault_of(error, self.register.retry_after_s)
        if fault.status >= 500 and not isinstance(error, DrainingError):
            _LOG.error("%s: %s", type(error).__name__, error, exc_info=error)
        return fault

    def drain(self, seconds: float) -> bool:
        """Take no more turns, and let those under way end for a while; gives whether they did."""
        self.register.close()
        self._tell_turns()
        whole = self.register.wait_until_empty(seconds)
        if not whole:
            self.cancel_all()
            self.register.wait_until_empty(_CANCEL_PATIENCE_S)
        return whole

    def close(self) -> None:
        """End every turn and take no more."""
        self.drain(0)
        self._reader.close()

    def record(self) -> dict[str, Any]:
        """Give what the page shows at first, without what only the server knows."""
        view, self._told_users = self.scene.view, None  # one who comes now was told nothing before
        return {
            "state": self.state,
            "doors": self.doors,
            "queue": self.queue(),
            "view": view and view.record(),
            "users": [one.record() for one in self.users()],
            "turns": self._turns(),
        }

    def queue(self) -> dict[str, int]:
        """Count the turns under way."""
        count = len(self.register.under_way)
        running = min(count, 1)
        return {"waiting": count - running, "running": running, "limit": self.limits.waiting}

    def tell_users(self) -> None:
        """Tell who watches who is known, if that has changed; reads the users' folder."""
        with self._telling:  # one behind the other, so that the last word is the latest
            if not self.hub.watched("users"):
                self._told_users = None
                return
            users = [one.record() for one in self.users()]
            before, self._told_users = self._told_users, users
            if users != before:
                self.hub.tell("users", lambda: users)

    def _stream(self, question: Question) -> Stream[Chunk]:
        return self.vlm.stream(
            question.text,
            image=question.image,
            user=question.user,
            attention=question.attention,
            adapter=question.adapter,
            options=question.options,
            deadline_s=question.deadline_s or self.limits.deadline_s,
        )

    def _prepare(self, user: str) -> None:
        embedding = self.vlm.users.find(user)
        if self.vlm.attention == "resident":
            with suppress(BusyError):  # the question itself will do it
                self.vlm.prepare(embedding)

    @contextmanager
    def _work(self) -> Iterator[None]:
        """Bound what waits outside the queue of turns; forgetting is never refused."""
        if self.register.closed:
            raise DrainingError("the brain is being stopped")
        if not self._looking.acquire(blocking=False):
            raise BusyError(f"{self.limits.looking} pictures are being looked at")
        try:
            yield
        finally:
            self._looking.release()

    def _still(self, name: str) -> UserInfo:
        """Describe somebody who was kept a moment ago.

        Raises:
            UnknownUserError: they were forgotten since; nothing of that moment stays.
        """
        try:
            return self.user(name)
        except UnknownUserError:
            self._forget_here(name)
            raise

    def _forget_here(self, user: str) -> None:
        """Let go of what only the server knows of somebody."""
        self.scene.forget(user)
        self.register.forget(user)
        self._times.forget(user)

    def _turns(self) -> list[dict[str, Any]]:
        return [turn.record() for turn in self.register.all]

    def _tell_turns(self) -> None:
        self.hub.tell("turns", self._turns)

    def _tell_view(self, view: View | None) -> None:
        self.hub.tell("view", lambda: view and view.record())
