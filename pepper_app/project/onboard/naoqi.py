"""libqi: the one file of this app that imports it.

Owns: the connection to the robot's directory, calls that do not hold up the loop, and that what
others say arrives there. Knows nothing of what is called. Every method is for the loop's thread.

It runs with libqi 1.x under Python 2.7 on the robot's head, and with 3.1.5 under Python 3 on a PC.
Texts cross as each of them likes it, and arrive here as text; raw buffers arrive as bytes.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import logging
import socket

from .crossing import native, plain
from .loop import seconds
from .problem import RobotError

try:
    from urllib.parse import urlsplit
except ImportError:  # Python 2.7
    from urlparse import urlsplit  # type: ignore[import-not-found,no-redef]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Set, Text, Tuple

    from .loop import Loop

    Done = Callable[[Any, Optional[RobotError]], Any]

ANSWER_MS = 5000
LEAVE_MS = 1000
LEAVE_S = 2.0
_LOG = logging.getLogger("uservlm")


class Pending(object):
    """A call on its way; its service may still have to be found."""

    def __init__(self, service, method, values, done):
        # type: (Text, Text, Tuple[Any, ...], Optional[Done]) -> None
        self.service, self.method, self.values, self.done = service, method, values, done
        self.what = "%s.%s" % (service, method)
        self.future = None  # type: Any

    def wait(self, seconds):  # type: (float) -> bool
        """Wait for its end; gives whether it has come."""
        if self.future is None:
            return True  # it has not begun, and who leaves finds nobody
        self.future.wait(int(seconds * 1000))
        return not self.future.isRunning()


class Ear(object):
    """Hears one signal until it is closed; libqi keeps the order for methods of an object."""

    def __init__(self, loop, signal, act, keep=None):  # type: (Loop, Any, Callable[..., Any], Any) -> None
        self._loop, self._signal, self._act, self._keep = loop, signal, act, keep
        self._open = True
        self._number = signal.connect(self.hear, _async=True).value(ANSWER_MS)

    def hear(self, *values):  # type: (*Any) -> None
        """Called by libqi, on a thread of its own."""
        self._loop.post(self._pass, *[plain(value) for value in values])

    def close(self):  # type: () -> None
        """Hear no more, at once."""
        self._open = False
        try:
            self._signal.disconnect(self._number, _async=True)
        except RuntimeError as error:  # the robot has gone
            _LOG.debug("disconnect: %s", error)

    def _pass(self, *values):  # type: (*Any) -> None
        if self._open:
            self._act(*values)


class Robot(object):
    """A connection; when it is lost, make a new one."""

    def __init__(self, loop, url, lost, withdrawn):
        # type: (Loop, Text, Callable[[], Any], Callable[[Text], Any]) -> None
        """Connect.

        Args:
            loop: where everything arrives.
            url: tcp://HOST:9559.
            lost: called when the connection is gone.
            withdrawn: gets the name of each service that is gone.

        Raises:
            RobotError: no libqi here, nobody there, or they refuse.
        """
        self._qi = _library()
        self._loop, self._url, self._lost, self._left = loop, url, lost, withdrawn
        self._proxies = {}  # type: Dict[Text, Any]
        self._ears = []  # type: List[Ear]
        self._numbers = []  # type: List[int]
        self._kept = []  # type: List[Any]
        self._calls = set()  # type: Set[Pending]
        self._sought = {}  # type: Dict[Text, List[Pending]]
        """The services that are being looked for, and the calls that wait for each."""
        self._alive = True
        self.session = self._qi.Session()
        _await(self.session.connect(native(url), _async=True), url)
        self._ears.append(Ear(loop, self.session.disconnected, self._gone))
        self._ears.append(Ear(loop, self.session.serviceUnregistered, self._withdrawn))
        if not self.session.isConnected():
            raise RobotError("%s hangs up" % url)

    def has(self, service):  # type: (Text) -> bool
        """Tell whether there is a service."""
        try:
            self._proxy(service)
        except RobotError:
            return False
        return True

    def call(self, service, method, *values):  # type: (Text, Text, *Any) -> Any
        """Call, and wait: for the beginning and the end of the app only.

        Raises:
            RobotError: no such service or method, it refuses, or takes too long.
        """
        what = "%s.%s" % (service, method)
        return plain(_await(self._send(service, method, values), what))

    def begin(self, done, service, method, *values):
        # type: (Optional[Done], Text, Text, *Any) -> Pending
        """Call, and go on.

        Args:
            done: gets the answer and None, or None and the error, on the loop; None: nobody cares,
                errors are logged.
            service: the name.
            method: the name.
            values: the arguments; raw buffers as bytes.
        """
        pending = Pending(service, method, values, done)
        if service in self._proxies:
            self._launch(pending)
        elif service in self._sought:
            self._sought[service].append(pending)
        else:
            self._sought[service] = [pending]
            self._seek(service)
        return pending

    def hear(self, service, signal, act):  # type: (Text, Text, Callable[..., Any]) -> Ear
        """Hear a signal of a service.

        Raises:
            RobotError: there is none.
        """
        found = getattr(self._proxy(service), native(signal), None)
        if found is None:
            raise RobotError("%s has no signal %s" % (service, signal))
        return self._listen(found, act, None)

    def event(self, name, act):  # type: (Text, Callable[[Any], Any]) -> Ear
        """Hear an event of ALMemory's.

        Raises:
            RobotError: NAOqi 2.5 gives no subscriber to Python 3 ("Invalid signature").
        """
        subscriber = _await(self._send("ALMemory", "subscriber", (name,)), "subscriber of " + name)
        return self._listen(subscriber.signal, act, subscriber)

    def offer(self, name, made):  # type: (Text, Any) -> None
        """Register a service where the robot can reach it, under a name that is free.

        Raises:
            RobotError: it is not, or nobody can reach us.
        """
        if not self._numbers:
            address = "tcp://%s:0" % self._facing()
            _await(self.session.listen(native(address), _async=True), "listening")
        self._kept.append(made)
        number = _await(self.session.registerService(native(name), made, _async=True), name)
        self._numbers.append(number)

    def microphone(self, name, act):  # type: (Text, Callable[[bytes], Any]) -> None
        """Register a service that ALAudioDevice can stream to.

        Args:
            name: one that is free.
            act: gets the samples of each buffer, on the loop.

        Raises:
            RobotError: see `offer`.
        """
        qi, loop = self._qi, self._loop

        class Microphone(object):
            """Takes what NAOqi sends; libqi-python 3 loses a buffer that is not declared one."""

            @qi.bind(qi.Void, (qi.Int32, qi.Int32, qi.Dynamic, qi.Buffer))  # type: ignore[untyped-decorator]
            def processRemote(self, channels, samples, stamp, buffer):  # NAOqi's name
                # type: (int, int, Any, Any) -> None
                # Python 2.7's libqi registers no method whose docstring is unicode.
                loop.post(act, bytes(buffer))

        self.offer(name, Microphone())

    def close(self):  # type: () -> None
        """Leave when what was begun is done; nothing arrives afterwards."""
        self._alive = False
        last = seconds() + LEAVE_S
        for pending in list(self._calls):
            pending.wait(max(0.0, last - seconds()))
        for ear in self._ears:
            ear.close()
        try:
            for number in self._numbers:
                self.session.unregisterService(number, _async=True).wait(LEAVE_MS)
            self.session.close(_async=True).wait(LEAVE_MS)
        except RuntimeError as error:
            _LOG.debug("close: %s", error)

    def _listen(self, signal, act, keep):  # type: (Any, Callable[..., Any], Any) -> Ear
        try:
            ear = Ear(self._loop, signal, act, keep)
        except RuntimeError as error:
            raise _refused("connect", error)
        self._ears.append(ear)
        return ear

    def _proxy(self, service):  # type: (Text) -> Any
        if service not in self._proxies:
            self._proxies[service] = _await(
                self.session.service(native(service), _async=True), service
            )
        return self._proxies[service]

    def _seek(self, service):  # type: (Text) -> None
        """Look for a service without waiting: one that hangs would hold up everything."""

        def found(future):  # type: (Any) -> None
            self._loop.post(self._found, service, future)

        try:
            self.session.service(native(service), _async=True).addCallback(found)
        except RuntimeError as error:  # the robot has gone
            self._refuse(service, error)

    def _found(self, service, future):  # type: (Text, Any) -> None
        try:
            self._proxies[service] = future.value(0)
        except RuntimeError as error:
            self._proxies.pop(service, None)
            self._refuse(service, error)
        else:
            for pending in self._sought.pop(service, []):
                self._launch(pending)

    def _refuse(self, service, error):  # type: (Text, Exception) -> None
        """Let the calls end that wait for a service which is not found."""
        for pending in self._sought.pop(service, []):
            self._loop.post(self._answered, pending, None, _refused(pending.what, error))

    def _launch(self, pending):  # type: (Pending) -> None
        """Send a call to a service that is known."""
        try:
            future = self._send(pending.service, pending.method, pending.values)
        except RobotError as error:
            self._loop.post(self._answered, pending, None, error)
            return

        def answered(future):  # type: (Any) -> None
            self._calls.discard(pending)
            try:
                value = future.value(0)
            except RuntimeError as error:
                self._loop.post(self._answered, pending, None, _refused(pending.what, error))
            else:
                self._loop.post(self._answered, pending, plain(value), None)

        pending.future = future
        self._calls.add(pending)
        future.addCallback(answered)

    def _send(self, service, method, values):  # type: (Text, Text, Any) -> Any
        """Begin a call.

        Raises:
            RobotError: no such service or method, or the values cannot be sent.
        """
        try:
            return getattr(self._proxy(service), native(method))(
                *[native(value) for value in values], _async=True
            )
        except (AttributeError, RuntimeError) as error:
            raise _refused("%s.%s" % (service, method), error)

    def _answered(self, pending, value, error):
        # type: (Pending, Any, Optional[RobotError]) -> None
        if not self._alive:
            return
        if pending.done is not None:
            pending.done(value, error)
        elif error is not None:
            _LOG.warning("%s failed", pending.what)  # its text may hold what is said or shown

    def _gone(self, *_):  # type: (*Any) -> None
        if self._alive:
            self._lost()

    def _withdrawn(self, _, name):  # type: (int, Text) -> None
        self._proxies.pop(name, None)
        if name in self._sought:  # what is found now may be what has just gone
            self._seek(name)
        if self._alive:
            self._left(name)

    def _facing(self):  # type: () -> Text
        """Give the address of this machine that the robot sees; connects to nobody."""
        parts = urlsplit(self._url)
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            probe.connect((parts.hostname, parts.port or 9559))
            return "%s" % probe.getsockname()[0]
        except (OSError, socket.error) as error:
            raise RobotError("no way to %s: %s" % (self._url, error))
        finally:
            probe.close()


def _library():  # type: () -> Any
    try:
        import qi
    except ImportError as error:
        raise RobotError("libqi is not here (%s); on a PC: pip install 'uservlm[pepper]'" % error)
    qi.logging.setLevel(qi.logging.FATAL)  # what matters comes as an error
    return qi


def _await(future, what):  # type: (Any, Text) -> Any
    """Wait for libqi.

    Raises:
        RobotError: it fails, or takes too long.
    """
    try:
        return future.value(ANSWER_MS)
    except RuntimeError as error:
        raise _refused(what, error)


def _refused(what, error):  # type: (Text, Exception) -> RobotError
    text = plain(error.args[0]) if error.args else "refused"
    first = ("%s" % (text,)).partition("\n")[0]
    return RobotError("%s: %s" % (what, first))
