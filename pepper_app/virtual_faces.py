"""ALFaceDetection: whose face is seen, and which have been learnt.

Owns: the layout of `FaceDetected`, and the learnt faces, by label. Knows nothing of pixels: a face
is recognised because the virtual Pepper knows who stands there; thresholds change nothing.
"""

from __future__ import annotations

from typing import Final

from uservlm.pepper_app.service import Reply, RobotError, Service, Value
from uservlm.pepper_app.virtual_calls import Calls
from uservlm.pepper_app.virtual_memory import Memory
from uservlm.pepper_app.virtual_people import DISTANCES, POSE, Extractor, People
from uservlm.pepper_app.virtual_world import World, stamp

NAME: Final = "ALFaceDetection"
EVENT: Final = "FaceDetected"
LEARN_S: Final = 3.0


class Faces:
    """See the module; call `tick` when people have changed, and now and then."""

    def __init__(
        self, world: World, memory: Memory, people: People, learnt: dict[str, str]
    ) -> None:
        """Look at faces.

        Args:
            world: where they are.
            memory: is told.
            people: who is there.
            learnt: the label of each person; survives a restart.
        """
        self._world, self._memory, self._people = world, memory, people
        self._learnt, self._recognises, self._threshold = learnt, True, 0.4
        self._extractor = Extractor(world, NAME, self.tick)
        self._saw = False

    def services(self) -> list[Service]:
        """See `Part`."""
        calls = Calls(self._world, NAME)
        method = calls.method
        methods = [
            *self._extractor.methods(),
            calls.slow("learnFace", "s", "b", self._learn),
            method("forgetPerson", "s", "b", self._forget),
            method("getLearnedFacesList", "", "m", lambda: sorted(self._learnt.values())),
            method("clearDatabase", "", "b", self._clear),
            method("setRecognitionEnabled", "b", "v", self._set_recognition),
            method("isRecognitionEnabled", "", "b", lambda: self._recognises),
            method("setRecognitionConfidenceThreshold", "f", "v", self._set_threshold),
            method("getRecognitionConfidenceThreshold", "", "f", lambda: self._threshold),
        ]
        return [Service(NAME, tuple(methods))]

    def held(self) -> list[str]:
        """See `Part`."""
        return self._extractor.held()

    def tick(self) -> None:
        """Say whose faces are seen; that there is none is said once."""
        if not self._extractor.subscribers:
            return
        names = self._people.names()
        if names or self._saw:
            self._memory.event(EVENT, self._detected() if names else [])
        self._saw = bool(names)

    def _detected(self) -> list[Value]:
        faces: list[Value] = []
        labels: list[str] = []
        for number, visitor in enumerate(self._people.nearest()):
            label = self._learnt.get(visitor.name, "") if self._recognises else ""
            labels += [label] if label else []
            size = 0.25 / DISTANCES[visitor.zone]
            shape: list[Value] = [0, 0.1 * number, 0.0, size, size]
            score = 0.8 if label else 0.0
            features = [[0.0] * 14, [0.0] * 14, [], [], [0.0] * 6, [0.0] * 16]
            faces.append([shape, [number, score, label, *features]])
        return [stamp(), [*faces, self._filtered(labels)], POSE, POSE, 0]

    def _filtered(self, labels: list[str]) -> list[Value]:
        if not self._recognises:
            return []
        if not labels:
            return [4]
        return [2 if len(labels) == 1 else 3, labels]

    def _learn(self, reply: Reply, label: str) -> None:
        with self._world.lock:
            names = self._people.names()
            self._world.did(NAME, "learnFace", label, bool(names))
            if names and label and label not in self._learnt.values():
                self._world.after(LEARN_S, lambda: self._learned(reply, names[0], label))
            else:
                reply.value(False)

    def _learned(self, reply: Reply, name: str, label: str) -> None:
        there = name in self._people.names()
        if there:
            self._learnt[name] = label
        reply.value(there)

    def _forget(self, label: str) -> bool:
        known = [name for name, one in self._learnt.items() if one == label]
        for name in known:
            del self._learnt[name]
        self._world.did(NAME, "forgetPerson", label, bool(known))
        return bool(known)

    def _clear(self) -> bool:
        self._world.did(NAME, "clearDatabase")
        self._learnt.clear()
        return True

    def _set_recognition(self, on: bool) -> None:
        self._recognises = bool(on)

    def _set_threshold(self, threshold: float) -> None:
        if not 0 <= threshold <= 1:
            raise RobotError("a threshold is 0 to 1")
        self._threshold = threshold
