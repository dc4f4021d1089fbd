"""Whom the robot is with; pure.

Owns: when somebody counts as come and as gone, though the robot's lists flicker several times a
second (seen on a real Pepper: reference, PepperEvolution), and that whoever is being talked to is
not left for somebody who comes nearer. Knows nothing of cameras; people are NAOqi's ids, which are
new at every visit.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Mapping, Optional

GONE_S = 1.5
"""Out of every list for this long, somebody has left."""


class Presence(object):
    """See the module; `see` is told all the time."""

    def __init__(self, near_m, far_m):  # type: (float, float) -> None
        """Be alone.

        Args:
            near_m: metres; who comes nearer is with the robot.
            far_m: metres; who goes farther is not.
        """
        self._near_m, self._far_m = near_m, far_m
        self._seen = {}  # type: Dict[int, float]
        self.focus = None  # type: Optional[int]
        """Whom the robot is with."""

    def see(self, now, distances):  # type: (float, Mapping[int, float]) -> Optional[int]
        """Take in who is seen, and say whom the robot is with.

        Args:
            now: seconds.
            distances: metres, by person; far away people too.
        """
        for person, metres in distances.items():
            if metres <= (self._far_m if person == self.focus else self._near_m):
                self._seen[person] = now
        for person in [one for one, at in self._seen.items() if now - at > GONE_S]:
            del self._seen[person]
        if self.focus not in self._seen:
            near = [
                (metres, person)
                for person, metres in distances.items()
                if person in self._seen and metres <= self._near_m
            ]
            self.focus = min(near)[1] if near else None
        return self.focus
