"""The service `UserVLMEars`: what the robot's microphones hear, as text.

Owns: its methods and signals, and the form in which NAOqi hands over sound. Knows nothing of libqi
or of how speech is recognised. Whoever wants to be heard tells ALAudioDevice to send here:

    audio.setClientPreferences("UserVLMEars", 16000, 3, 0)     the front microphone, at 16 kHz
    audio.subscribe("UserVLMEars")                             and unsubscribe when nobody is there

    processRemote(channels, samples, [s, µs], raw int16)       called by ALAudioDevice, every 85 ms
    mute(b), muted() -> b                                      while the robot itself speaks: there
    signals heard(text), partial(text)                         is no echo cancellation

A buffer is put aside and the call returns: decoding is the ears' own thread's. Buffers are taken in
the order they came. As all of the robot's bus, anybody may call this, and hears what is heard.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Final

from uservlm.pepper_app.arguments import number, raw
from uservlm.pepper_app.brain_service import said
from uservlm.pepper_app.service import Method, Reply, Service, Value
from uservlm.runtime.errors import RequestError, UserVLMError
from uservlm.runtime.server.ears import Ears
from uservlm.runtime.server.faults import SoundError, fault_of
from uservlm.runtime.server.listening import Heard, Listening

NAME: Final = "UserVLMEars"
SIGNALS: Final = {"heard": "s", "partial": "s"}
_CHANNELS: Final = 1
_SAMPLE_BYTES: Final = 2

Emit = Callable[..., None]


class EarsService:
    """Translates calls."""

    def __init__(self, ears: Ears, emit: Emit) -> None:
        """Serve ears.

        Args:
            ears: hear.
            emit: sends a signal: its name and value.
        """
        self._ears, self._emit = ears, emit
        self._listening: Listening | None = None
        self._muted = False
        self._lock = Lock()

    def declare(self) -> Service:
        """Say what is offered."""
        method = self._method
        methods = (
            method("processRemote", "iimr", "v", self._process, "channels, samples, time, int16"),
            method("mute", "b", "v", self._mute, "whether to hear nothing for now"),
            method("muted", "", "b", lambda: self._muted, "-> whether it hears nothing"),
        )
        return Service(NAME, methods, SIGNALS, ordered=True)

    def drop(self) -> None:
        """Let go of what is in progress, and of who muted; the next buffer begins anew."""
        with self._lock:
            self._muted = False
            listening, self._listening = self._listening, None
        if listening is not None:
            listening.close()

    def _process(self, channels: Value, samples: Value, _: Value, buffer: Value) -> None:
        """Take a buffer as ALAudioDevice sends it."""
        if number(channels, "channels") != _CHANNELS:
            raise SoundError(
                "give one microphone at 16 kHz: "
                f'setClientPreferences("{NAME}", 16000, 3, 0) before subscribe'
            )
        pcm = raw(buffer, "buffer")
        if len(pcm) != _SAMPLE_BYTES * number(samples, "samples"):
            raise SoundError("the buffer has not as many int16 samples as it says")
        self._current().put(pcm)

    def _current(self) -> Listening:
        """Give who is listened to; anew when nothing came for long."""
        with self._lock:
            if self._listening is None or self._listening.closed:
                self._listening = self._ears.listen(self._heard)
                if self._muted:
                    self._listening.mute()
            return self._listening

    def _mute(self, muted: Value) -> None:
        if not isinstance(muted, bool | int):
            raise RequestError("mute: give true or false")
        with self._lock:
            self._muted = bool(muted)
            if self._listening is not None:
                change = self._listening.mute if self._muted else self._listening.unmute
                change()

    def _heard(self, heard: Heard) -> None:
        if not self._muted:
            self._emit("heard" if heard.final else "partial", heard.text)

    def _method(
        self, name: str, parameters: str, returns: str, work: Callable[..., Value], about: str
    ) -> Method:
        return Method(name, parameters, returns, partial(_answer, len(parameters), work), about)


def _answer(count: int, work: Callable[..., Value], reply: Reply, *arguments: Value) -> None:
    """Do what takes no time, and answer."""
    try:
        if len(arguments) != count:
            raise RequestError(f"give {count} arguments, not {len(arguments)}")
        reply.value(work(*arguments))
    except UserVLMError as error:
        reply.error(said(fault_of(error)))
