"""A way to hear what people say: what the ways have in common.

Owns: what each is told, and that it gives everything back. Knows nothing of how one hears.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Text


class Way(object):
    """Listens until it is closed."""

    def speaking(self, speaks):  # type: (bool) -> None
        """Note whether the robot speaks; its own recognisers see to that themselves."""

    def left(self, service):  # type: (Text) -> None
        """Note that a service has left the robot's directory."""

    def close(self):  # type: () -> None
        """Give everything back."""
        raise NotImplementedError
