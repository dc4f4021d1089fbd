"""ALAudioDevice: what the microphones hear, as raw buffers to whoever has subscribed.

Owns: subscriptions, and the sound: a room's noise, a hum while somebody speaks or the samples of a
WAV file, and the robot's own voice on top, for there is no echo cancellation. Knows nothing of
words: the hums are no speech, so a recogniser is given a file.

A buffer has 85 ms, as measured on a robot: 1,365 samples of one microphone at 16 kHz, or 4,096 of
all four at 48 kHz. libqi-python hands raw buffers only to a `processRemote` that declares its last
parameter raw (`qi.Buffer`); another is refused, aloud, where a robot would deliver to it.
Not there: output of sound, energies, recording.
"""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from uservlm.pepper_app.service import RobotError, Service
from uservlm.pepper_app.virtual_calls import Bus, Calls
from uservlm.pepper_app.virtual_world import World, stamp

NAME: Final = "ALAudioDevice"
ALL: Final = 0
RATES: Final = {16000: 1365, 48000: 4096}
"""Samples in a buffer by samples a second."""
NOISE: Final = 30
VOICE: Final = (220.0, 6000.0)
OWN_VOICE: Final = (140.0, 9000.0)
"""Hertz and amplitude."""
WORD_S: Final = 0.4
MICROPHONES: Final = 4

Samples: TypeAlias = npt.NDArray[np.int16]


@dataclass(frozen=True)
class _Wish:
    rate: int = 48000
    channel: int = ALL
    deinterleaved: bool = False


@dataclass
class _Stream:
    """A subscription: when what it has been sent ended, so that each buffer goes on from there."""

    until: float


class Audio:
    """See the module."""

    def __init__(self, world: World, bus: Bus, speaking: Callable[[], bool]) -> None:
        self._world, self._bus, self._speaking = world, bus, speaking
        self._wishes: dict[str, _Wish] = {}
        self._sending: dict[str, _Stream] = {}
        self._voice: tuple[float, float, Samples | None] = (0.0, 0.0, None)
        self._volume = 50
        self._rng = np.random.default_rng(1)

    def services(self) -> list[Service]:
        """See `Part`."""
        method = Calls(self._world, NAME).method
        methods = (
            method("setClientPreferences", "siii", "v", self._prefer),
            method("subscribe", "s", "v", self._subscribe),
            method("unsubscribe", "s", "v", self._unsubscribe),
            method("setOutputVolume", "i", "v", self._set_volume),
            method("getOutputVolume", "", "i", lambda: self._volume),
        )
        return [Service(NAME, methods)]

    def held(self) -> list[str]:
        """See `Part`."""
        return [f"{NAME} {name}" for name in sorted(self._sending)]

    def voice(self, words: int, file: str | None = None) -> float:
        """Have somebody speak from now on; gives for how many seconds.

        Raises:
            RobotError: the file is no mono WAV of 16 bits at 16 kHz.
        """
        samples = None if file is None else _read(Path(file))
        seconds = words * WORD_S if samples is None else len(samples) / 16000
        now = self._world.now()
        self._voice = now, now + seconds, samples
        return seconds

    def _prefer(self, name: str, rate: int, channel: int, deinterleaved: int) -> None:
        if (rate, channel == ALL) not in ((48000, True), (16000, False)) or channel > MICROPHONES:
            raise RobotError("give 48000 with channel 0, or 16000 with one of channels 1 to 4")
        self._wishes[name] = _Wish(rate, channel, bool(deinterleaved))
        self._world.did(NAME, "setClientPreferences", name, rate, channel, deinterleaved)

    def _subscribe(self, name: str) -> None:
        self._world.did(NAME, "subscribe", name)
        if name not in self._sending:
            stream = self._sending[name] = _Stream(self._world.now())
            self._later(name, stream)

    def _unsubscribe(self, name: str) -> None:
        self._world.did(NAME, "unsubscribe", name)
        if self._sending.pop(name, None) is None:
            raise RobotError(f"{name} has not subscribed")

    def refused(self, name: str) -> None:
        """Send no more to a subscriber that did not take it."""
        self._sending.pop(name, None)

    def _later(self, name: str, stream: _Stream) -> None:
        rate = self._wishes.get(name, _Wish()).rate
        due = stream.until + RATES[rate] / rate
        self._world.after(max(0.0, due - self._world.now()), lambda: self._send(name, stream))

    def _send(self, name: str, stream: _Stream) -> None:
        if self._sending.get(name) is not stream:
            return
        wish = self._wishes.get(name, _Wish())
        count = RATES[wish.rate]
        heard = self._hear(wish.rate, stream.until, count)
        stream.until += count / wish.rate
        channels = 1
        if wish.channel == ALL:
            channels = MICROPHONES
            rows = np.repeat(heard[:, None], channels, axis=1)
            heard = rows.T.reshape(-1) if wish.deinterleaved else rows.reshape(-1)
        buffer = bytearray(heard.astype("<i2").tobytes())
        self._bus.call(name, "processRemote", channels, count, stamp(), buffer)
        self._later(name, stream)

    def _hear(self, rate: int, since: float, count: int) -> Samples:
        """Give the sound of a moment."""
        times = since + np.arange(count) / rate
        sound = self._rng.normal(0, NOISE, count)
        begun, ended, samples = self._voice
        speaks = (times >= begun) & (times < ended)
        if samples is None:
            sound += np.where(speaks, _hum(times, *VOICE), 0)
        elif speaks.any():
            places = np.clip(((times - begun) * 16000).astype(int), 0, len(samples) - 1)
            sound += np.where(speaks, samples[places], 0)
        if self._speaking():
            sound += _hum(times, *OWN_VOICE)
        whole: Samples = np.clip(sound, -32768, 32767).astype(np.int16)
        return whole

    def _set_volume(self, volume: int) -> None:
        if not 0 <= volume <= 100:
            raise RobotError("a volume is 0 to 100")
        self._volume = volume
        self._world.did(NAME, "setOutputVolume", volume)


def _hum(times: npt.NDArray[np.float64], hertz: float, loud: float) -> npt.NDArray[np.float64]:
    hum: npt.NDArray[np.float64] = loud * np.sin(2 * np.pi * hertz * times)
    return hum


def _read(file: Path) -> Samples:
    """Read a WAV file.

    Raises:
        RobotError: it cannot be read, or has another form.
    """
    try:
        with wave.open(str(file)) as sound:
            form = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
            data = sound.readframes(sound.getnframes())
    except (OSError, ValueError, EOFError, wave.Error) as error:
        raise RobotError(f"{file} cannot be heard: {error}") from error
    if form != (1, 2, 16000):
        raise RobotError(f"{file}: give one channel of 16 bits at 16 kHz")
    return np.frombuffer(data, "<i2").astype(np.int16)
