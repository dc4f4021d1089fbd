"""Who calls what we offer, and how much of it at one time.

Owns: the services by number, the calls that are not answered yet, their bytes, and that they are
cancelled when their caller cancels or is gone. Knows nothing of what a service does.
"""

from __future__ import annotations

from threading import Lock
from typing import Final

from uservlm.pepper_app.qi_wire_message import Kind, Message
from uservlm.pepper_app.qi_wire_object import WireService
from uservlm.pepper_app.qi_wire_peer import MAIN, Peer
from uservlm.pepper_app.qi_wire_reply import WireReply
from uservlm.pepper_app.qi_wire_signature import CodecError
from uservlm.pepper_app.qi_wire_socket import Allowance
from uservlm.pepper_app.qi_wire_values import decode

MOST_UNANSWERED: Final = 1024
"""Calls of one connection."""


class WireHost:
    """`qi_wire_peer.Host` for the services of one session."""

    def __init__(self) -> None:
        """Offer nothing yet."""
        self.allowance = Allowance()
        """For all that comes from strangers."""
        self._services: dict[int, WireService] = {}
        self._unanswered: dict[Peer, dict[WireReply, int]] = {}
        self._lock = Lock()

    def add(self, service: WireService) -> None:
        """Let a service be called, under its number."""
        self._services = {**self._services, service.number: service}

    def close(self) -> None:
        """Let no service be called any more."""
        services, self._services = self._services, {}
        for service in services.values():
            service.close()

    def called(self, peer: Peer, message: Message) -> None:
        """See `Host`."""
        if message.kind == Kind.CANCEL:
            return self._cancel(peer, message)
        service = self._services.get(message.service)
        if service is None or message.object != MAIN:
            if message.kind == Kind.CALL:
                peer.connection.send(message.refusal("bad_request: there is no such service"))
            return
        reply = WireReply(peer, message, self._answered)
        if not self._hold(reply):
            if message.kind == Kind.CALL:
                peer.connection.send(message.refusal("busy: too many calls are not answered yet"))
            return
        service.call(reply)

    def left(self, peer: Peer) -> None:
        """See `Host`."""
        for service in self._services.values():
            service.left(peer)
        with self._lock:
            replies = self._unanswered.pop(peer, {})
        for reply, size in replies.items():
            self.allowance.give(size)
            reply.cancel()

    def _hold(self, reply: WireReply) -> bool:
        """Note a call that has to be answered, if there is room for it."""
        size = len(reply.call.payload)
        with self._lock:
            replies = self._unanswered.setdefault(reply.peer, {})
            if len(replies) >= MOST_UNANSWERED or not self.allowance.take(size):
                return False
            replies[reply] = size
            return True

    def _answered(self, reply: WireReply) -> None:
        with self._lock:
            size = self._unanswered.get(reply.peer, {}).pop(reply, 0)
        self.allowance.give(size)

    def _cancel(self, peer: Peer, message: Message) -> None:
        try:
            number = decode("I", message.payload)
        except CodecError:
            return
        with self._lock:
            replies = [
                reply
                for reply in self._unanswered.get(peer, {})
                if reply.call.kind == Kind.CALL and reply.call.number == number
            ]
        for reply in replies:
            reply.cancel()
