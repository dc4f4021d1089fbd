"""From a declared service to an object of libqi's, and from its calls to replies.

Owns: methods that give a promise at once, the order of signals, and properties that stay true.
Knows nothing of connections; libqi is handed in by `qi_session.py`, which alone imports it.

What was measured with libqi 3.1.5, and decides the code: a method that blocks holds up every other
call; what a Python exception says reaches the caller with its file and line, so none may leave a
method; a promise that its own callback refers to is never freed, so the callback knows the
canceller alone; signals that follow each other closely overtake each other.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import getrefcount
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from uservlm.pepper_app.service import Method, Service, Value

if TYPE_CHECKING:
    import qi

Library: TypeAlias = Any
"""The module `qi`, which has no type stubs."""

SENT_S: Final = 0.05
"""For a signal to be on its way to whoever listens; a machine that takes longer is overloaded."""
_STEP_S: Final = 0.0002
_TOLD_S: Final = 0.002


class LibqiService:
    """`service.Offered` with libqi: an object of a class made for one service."""

    def __init__(self, service: Service, library: Library) -> None:
        """Make the object, its signals and its properties, which must be there to be registered."""
        body = {
            f"method{number}": _bound(method, library)
            for number, method in enumerate(service.methods)
        }
        threads = library.singleThreaded if service.ordered else library.multiThreaded
        self.object = threads()(type(service.name, (), body))()
        self._truths = {name: truth for name, (_, truth) in service.properties.items()}
        self._signals = {
            name: library.Signal(f"({carries})") for name, carries in service.signals.items()
        }
        self._properties = {
            name: library.Property(signature) for name, (signature, _) in service.properties.items()
        }
        for name, member in {**self._signals, **self._properties}.items():
            setattr(self.object, name, member)
        self._shown: dict[str, Value] = {}
        self._order = Lock()
        self.refresh()
        for name, member in self._properties.items():
            member.connect(self._guard(name))

    def emit(self, signal: str, *texts: str) -> None:
        """See `service.Offered`.

        libqi hands each subscriber's copy of a signal to any thread of its pool, so the second of
        two may be sent first: 30 of 3,000 were, and 6 of 1,500 a hundredth of a second apart on a
        busy machine. It holds the arguments until all copies are sent, which their reference count
        tells; until then the next signal waits. One reference it never gives back, so what it keeps
        is emptied.
        """
        sent = [bytearray(text.encode()) for text in texts]
        with self._order:
            held = getrefcount(sent[-1]) + 1
            self._signals[signal](*sent)
            last = monotonic() + SENT_S
            while getrefcount(sent[-1]) > held:
                if monotonic() > last:
                    return
                sleep(_STEP_S)
        for text in sent:
            text.clear()

    def tell(self, signal: str, *values: Value) -> None:
        """Tell whoever listens, with values of any kind.

        No reference count shows when numbers and lists have been sent, so the next signal waits a
        moment instead; on a busy machine two may still overtake each other, as a robot's do.
        """
        with self._order:
            self._signals[signal](*values)
            sleep(_TOLD_S)

    def refresh(self) -> None:
        """See `service.Offered`."""
        for name, member in self._properties.items():
            truth = self._truths[name]()
            if name not in self._shown or self._shown[name] != truth:
                self._shown[name] = truth
                member.setValue(truth)

    def _guard(self, name: str) -> Callable[[Value], None]:
        """Put a property right again when somebody else has set it."""

        def changed(value: Value) -> None:
            if value != self._shown[name]:
                self._properties[name].setValue(self._shown[name], _async=True)

        return changed


class LibqiReply:
    """`service.Reply` with libqi's promise."""

    def __init__(self, library: Library) -> None:
        self._canceller = _Canceller()
        self._promise = library.Promise(self._canceller)
        self._lock, self._said = Lock(), False

    @property
    def future(self) -> qi.Future:
        """What libqi sends once the promise is kept."""
        return self._promise.future()

    def value(self, value: Value) -> None:
        """See `service.Reply`."""
        with self._lock:
            if not self._said:
                self._promise.setValue(value)  # refuses what is no plain value
                self._said = True

    def error(self, text: str) -> None:
        """See `service.Reply`; who cancelled sees that instead."""
        with self._lock:
            if not self._said:
                self._said = True
                if self._promise.isCancelRequested():
                    self._promise.setCanceled()
                else:
                    self._promise.setError(text)

    def when_cancelled(self, act: Callable[[], None]) -> None:
        """See `service.Reply`."""
        self._canceller.when(act)


class _Canceller:
    """What libqi calls when a caller cancels, before or after we know what to do then."""

    def __init__(self) -> None:
        self._lock, self._asked = Lock(), False
        self._act: Callable[[], None] | None = None

    def __call__(self, _: qi.Promise) -> None:
        with self._lock:
            self._asked, act = True, self._act
        if act is not None:
            act()

    def when(self, act: Callable[[], None]) -> None:
        with self._lock:
            self._act, asked = act, self._asked
        if asked:
            act()


def _bound(method: Method, library: Library) -> Callable[..., qi.Future]:
    """Make a method that gives its promise at once."""

    def called(_: object, *arguments: Value) -> qi.Future:
        reply = LibqiReply(library)
        method.handle(reply, *map(_plain, arguments))
        return reply.future

    called.__doc__ = method.about
    bound: Callable[..., qi.Future]
    bound = library.bind(method.returns, tuple(method.parameters), method.name)(called)
    return bound


def _plain(value: Value) -> Value:
    """Give a raw buffer as bytes."""
    return bytes(value) if isinstance(value, bytearray) else value
