"""What can go wrong, as types.

Owns: the errors of this app, each with what it is about. Knows nothing of what is done about them;
`conversation.py` does.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Text


class OnboardError(Exception):
    """Anything this app raises itself."""


class SettingError(OnboardError):
    """What the deployer has written cannot be used."""


class RobotError(OnboardError):
    """The robot is not there, lacks a service, or refuses."""


class BrainError(OnboardError):
    """The brain does not do what was asked."""

    def __init__(self, code, message):  # type: (Text, Text) -> None
        """Say what and why.

        Args:
            code: one of docs/serving.md's, or `gone` when nobody answers.
            message: for the log.
        """
        OnboardError.__init__(self, "%s: %s" % (code, message))
        self.code = code


GONE = "gone"
"""The code of a brain that is not there any more."""
