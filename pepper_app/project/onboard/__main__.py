"""`python -m onboard`: the app, on the robot's head or on a PC beside it.

Owns: the command line, signals, and that the robot is looked for again when it goes. Knows nothing
of what the app does. ALServiceManager ends it with SIGTERM, and kills it 15 s later.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import argparse
import logging
import os
import signal
import sys
import traceback

from .life import Life
from .loop import Loop
from .problem import RobotError, SettingError
from .settings import FILE, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional, Set, Text

ROBOT = "tcp://127.0.0.1:9559"
AGAIN_S = 2.0
FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""Of the package."""
DATA = os.path.join(
    os.environ.get("XDG_DATA_HOME") or os.path.join("~", ".local", "share"), "uservlm", "onboard"
)
_LOG = logging.getLogger("uservlm")


class App(object):
    """One life after the other, until it is told to end."""

    def __init__(self, options, settings):  # type: (Any, Any) -> None
        self._options, self._settings = options, settings
        self._ended = self._crashed = False
        self._loop = Loop(options.pace)
        self._guests = set()  # type: Set[Text]

    def end(self, *_):  # type: (*Any) -> None
        """End soon; a signal's handler."""
        self._ended = True
        self._loop.end()

    def run(self):  # type: () -> None
        """Be with the robot whenever it is there."""
        while not self._ended:
            self._loop = Loop(self._options.pace)
            if self._ended:  # by a signal in between
                return
            try:
                life = Life(
                    self._loop,
                    self._options.qi_url,
                    self._settings,
                    FOLDER,
                    os.path.expanduser(self._options.data),
                    self._guests,
                )
            except RobotError as error:
                _LOG.warning("no robot: %s", error)
                self._wait()
                continue
            try:
                self._loop.run()
            except SettingError:
                raise
            except Exception:  # noqa: BLE001  # the edge: nobody else would start the app again
                _LOG.error("%s: beginning anew", _place())
                self._crashed = True
            finally:
                life.close()
            if self._crashed:
                self._crashed = False
                self._wait()

    def _wait(self):  # type: () -> None
        """Do nothing for a while, or until the end."""
        self._loop = Loop(self._options.pace)
        if not self._ended:
            self._loop.after(AGAIN_S, self._loop.end)
            self._loop.run()


def _place():  # type: () -> Text
    """Say what was raised and where; its message may hold what somebody has said."""
    kind, _, trace = sys.exc_info()
    name = kind.__name__ if kind is not None else "nothing"
    file, line, function, _ = traceback.extract_tb(trace)[-1]
    return "%s in %s, line %d, %s" % (name, os.path.basename(file), line, function)


def main(arguments=None):  # type: (Optional[List[Text]]) -> int
    """Run the app until SIGTERM or Ctrl-C; gives the exit status."""
    options = _options(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format=str("%(asctime)s %(levelname)s %(message)s"),
        stream=sys.stderr,
    )
    try:
        app = App(options, read(options.settings))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, app.end)
        app.run()
    except SettingError as error:
        sys.stderr.write("onboard: %s\n" % error)
        return 2
    return 0


def _options(arguments):  # type: (Optional[List[Text]]) -> Any
    parser = argparse.ArgumentParser(prog=str("onboard"), description=__doc__.split("\n")[0])
    parser.add_argument("--qi-url", default=os.environ.get("QI_URL", ROBOT), help="the robot")
    parser.add_argument("--settings", default=os.path.join(FOLDER, FILE), help="a JSON file")
    parser.add_argument("--data", default=DATA, help="a folder to write to")
    parser.add_argument("--verbose", action="store_true", help="log more")
    parser.add_argument(
        "--pace",
        type=float,
        default=float(os.environ.get("USERVLM_PACE", "1")),
        help="how much faster time runs, as the virtual robot's; USERVLM_PACE sets it too",
    )
    options, unknown = parser.parse_known_args(arguments)
    if unknown:  # ALServiceManager may add some of libqi's
        logging.getLogger("uservlm").debug("not mine: %s", unknown)
    return options


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)  # at an ordinary exit, libqi's threads may still call an interpreter that ends
