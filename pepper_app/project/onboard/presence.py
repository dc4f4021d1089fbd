"""Whom the robot is with; pure.

Owns: when somebody counts as come and as gone, though the robot's lists flicker several times a
second (seen on a real Pepper: reference, PepperEvolution) and name people for ten seconds after
they were last seen, and that whoever is being talked to is not left for somebody who comes nearer.
Knows nothing of cameras; people are NAOqi's ids, which are new at every visit.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Collection, Dict, Mapping, Optional, Tuple

    Moment = Tuple[float, int]

GONE_S, GONE_LOOKS = 1.5, 3
"""Not seen for this long, and in so many looks, somebody has left: where looks take long, one that
finds the lists empty says nothing."""
TURNED_S = 4.0
"""The same for whom the robot is with, as long as it has not lost them and nobody else is near: it
may have turned its head."""


class Presence(object):
    """See the module; `see` is told all the time."""

    def __init__(self, near_m, far_m):  # type: (float, float) -> None
        """Be alone.

        Args:
            near_m: metres; who comes nearer is with the robot.
            far_m: metres; who goes farther is not.
        """
        self._near_m, self._far_m = near_m, far_m
        self._looks = 0
        self._near = {}  # type: Dict[int, Moment]
        self._around = {}  # type: Dict[int, Moment]
        """When, and in which look, each was last near, and last seen at all."""
        self.focus = None  # type: Optional[int]
        """Whom the robot is with."""

    @property
    def others(self):  # type: () -> int
        """How many more are in view, at whatever distance."""
        return len([person for person in self._around if person != self.focus])

    def see(self, now, distances, listed=()):
        # type: (float, Mapping[int, float], Collection[int]) -> Optional[int]
        """Take in who is seen, and say whom the robot is with.

        Args:
            now: seconds.
            distances: metres, by person, of all who are visible.
            listed: whom the robot has not lost yet, visible or not.
        """
        self._looks += 1
        for person, metres in distances.items():
            self._around[person] = now, self._looks
            if metres <= (self._far_m if person == self.focus else self._near_m):
                self._near[person] = now, self._looks
        self._around = self._recent(self._around, now - GONE_S)
        patience = TURNED_S if self.focus in listed and not self.others else GONE_S
        last = self._near.get(self.focus) if self.focus is not None else None
        self._near = self._recent(self._near, now - GONE_S)
        if last is None or not self._counts(last, now - patience):
            near = [
                (metres, person)
                for person, metres in distances.items()
                if person in self._near and metres <= self._near_m
            ]
            self.focus = min(near)[1] if near else None
        elif self.focus is not None:
            self._near[self.focus] = last
        return self.focus

    def _recent(self, times, since):  # type: (Mapping[int, Moment], float) -> Dict[int, Moment]
        return dict((one, moment) for one, moment in times.items() if self._counts(moment, since))

    def _counts(self, moment, since):  # type: (Moment, float) -> bool
        at, look = moment
        return at >= since or self._looks - look < GONE_LOOKS
