"""What the deployer has decided: `settings.json` beside this package.

Owns: the settings there are, their types and their defaults. Knows nothing of what follows from
one. `pepper_app/package.py` writes the file; an absent one means the defaults.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import io
import json

from .problem import SettingError
from .recognition import RECOGNISE, WHEN_ASKED
from .words import ROBOT_LANGUAGES

try:
    _TEXT = unicode  # type: ignore[name-defined]
except NameError:
    _TEXT = str

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional, Text, Tuple

FILE = "settings.json"
WAYS = ("dialog", "words", "free")
"""To hear: ALDialog's topics, ALSpeechRecognition's vocabulary, the brain's own ears."""

_DEFAULTS = {
    "brain": (_TEXT, ""),
    "token": (_TEXT, ""),
    "language": (_TEXT, ""),
    "listen": (list, ["dialog"]),
    "suggestions": (list, []),
    "near_m": (float, 1.5),
    "far_m": (float, 2.5),
    "days": (int, 365),
    "keeps": (_TEXT, "state"),
    "learn_faces": (bool, True),
    "recognise": (_TEXT, WHEN_ASKED),
    "asks": (bool, True),
}  # type: Dict[Text, Tuple[type, Any]]


class Settings(object):
    """Read-only; every value is an attribute."""

    def __init__(self, given=None):  # type: (Optional[Dict[Text, Any]]) -> None
        """Check what is given, and take the defaults for the rest.

        Args:
            given: values by name:
                brain: an HTTP address; without it the robot's directory alone is looked at.
                token: for that address; with it the robot's directory is not looked at.
                language: en or fr; without it the robot's own.
                listen: some of `WAYS`; `UserVLM/Question` in ALMemory always counts.
                suggestions: questions that the tablet offers, eight at most.
                near_m, far_m: metres; who comes nearer than the first is looked at, and stays in
                    the conversation until they are farther than the second.
                days: how long somebody is remembered who says yes.
                keeps: profile, embedding or state; see docs/serving.md, "People".
                learn_faces: whether NAOqi learns their face too, to know them when they return.
                recognise: one of `RECOGNISE`: who is compared with the people who are kept. With
                    never nobody is kept either, and faces that were learnt before are forgotten.
                asks: whether a stranger is asked after the first answer if they want to be
                    remembered; else only who says *remember me* is.

        Raises:
            SettingError: an unknown name, or a value that cannot be.
        """
        values = dict((name, default) for name, (_, default) in _DEFAULTS.items())
        for name, value in (given or {}).items():
            if name not in _DEFAULTS:
                raise SettingError("no setting %s; there are %s" % (name, ", ".join(_DEFAULTS)))
            kind = _DEFAULTS[name][0]
            if kind is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise SettingError("%s is a %s, not %r" % (name, kind.__name__, value))
            values[name] = value
        _check(values)
        self.brain = values["brain"].rstrip("/")  # type: Text
        self.token = values["token"]  # type: Text
        self.language = values["language"]  # type: Text
        self.listen = tuple(values["listen"])  # type: Tuple[Text, ...]
        self.suggestions = tuple(values["suggestions"])  # type: Tuple[Text, ...]
        self.near_m = values["near_m"]  # type: float
        self.far_m = values["far_m"]  # type: float
        self.days = values["days"]  # type: int
        self.keeps = values["keeps"]  # type: Text
        self.learn_faces = values["learn_faces"]  # type: bool
        self.recognise = values["recognise"]  # type: Text
        self.asks = values["asks"]  # type: bool


def _check(values):  # type: (Dict[Text, Any]) -> None
    """Look at what types alone do not say.

    Raises:
        SettingError: a value that cannot be.
    """
    if values["brain"] and not values["brain"].startswith(("http://", "https://")):
        raise SettingError("brain is http://HOST:PORT, not %s" % values["brain"])
    if values["language"] not in ("",) + tuple(ROBOT_LANGUAGES):
        raise SettingError("language is en or fr, not %s" % values["language"])
    for way in values["listen"]:
        if way not in WAYS:
            raise SettingError("listen is some of %s, not %r" % (", ".join(WAYS), way))
    for question in values["suggestions"]:
        if not isinstance(question, _TEXT) or not question.strip():
            raise SettingError("suggestions are questions, not %r" % (question,))
    if len(values["suggestions"]) > 8:
        raise SettingError("eight suggestions at most: the tablet has room for no more")
    if not 0.3 <= values["near_m"] <= values["far_m"] <= 5.0:
        raise SettingError("0.3 <= near_m <= far_m <= 5.0 (metres)")
    _check_keeping(values["days"], values["keeps"])
    if values["recognise"] not in RECOGNISE:
        raise SettingError(
            "recognise is %s or %s, not %s"
            % (", ".join(RECOGNISE[:-1]), RECOGNISE[-1], values["recognise"])
        )


def _check_keeping(days, keeps):  # type: (int, Text) -> None
    """Look at what is kept of whom.

    Raises:
        SettingError: a value that cannot be.
    """
    if days < 1:
        raise SettingError("days is 1 or more")
    if keeps not in ("profile", "embedding", "state"):
        raise SettingError("keeps is profile, embedding or state, not %s" % keeps)


def read(path):  # type: (Text) -> Settings
    """Read the file.

    Raises:
        SettingError: it is there and cannot be read or used; says why.
    """
    try:
        with io.open(path, encoding="utf-8") as file:
            given = json.load(file)
    except (IOError, OSError) as error:
        if error.errno == 2:  # not there
            return Settings()
        raise SettingError("%s: %s" % (path, error.strerror))
    except ValueError as error:
        raise SettingError("%s is no JSON: %s" % (path, error))
    if not isinstance(given, dict):
        raise SettingError("%s is no JSON object" % path)
    return Settings(given)
