"""ALMemory: what the robot knows, and who is told when it changes.

Owns: keys with their times, events, the objects that `subscriber` gives, and the callbacks of
`subscribeToEvent`. Knows nothing of what is kept. As on the robot, `insertData` tells nobody.

Not there: micro events, mappings, history, `getDataOnChange`, `declareEvent` for an extractor.
"""

from __future__ import annotations

from typing import Final

from uservlm.pepper_app.service import RobotError, Service, Value
from uservlm.pepper_app.virtual_calls import Bus, Calls, Made
from uservlm.pepper_app.virtual_world import World, stamp

NAME: Final = "ALMemory"


class Memory:
    """One life of naoqi's memory; after a restart it is empty."""

    def __init__(self, world: World, bus: Bus) -> None:
        self._world, self._bus = world, bus
        self._data: dict[str, tuple[Value, list[int]]] = {}
        self._objects: dict[str, Made] = {}
        self._callbacks: dict[str, dict[str, tuple[str, str]]] = {}

    def services(self) -> list[Service]:
        """See `Part`."""
        calls = Calls(self._world, NAME)
        method = calls.method
        methods = (
            method("insertData", "sm", "v", self.insert),
            method("insertListData", "m", "v", self._insert_list),
            method("getData", "s", "m", self.get),
            method("getListData", "m", "m", self._get_list),
            method("getTimestamp", "s", "m", self._timestamp),
            method("getDataList", "s", "[s]", lambda part: self._names(part)),
            method("getDataListName", "", "[s]", lambda: self._names("")),
            method("removeData", "s", "v", self._remove),
            method("declareEvent", "s", "v", self._declare),
            method("raiseEvent", "sm", "v", self._raise),
            method("subscriber", "s", "o", self._subscriber),
            method("subscribeToEvent", "sss", "v", self._subscribe),
            method("subscribeToEvent", "ssss", "v", self._subscribe_with),
            method("unsubscribeToEvent", "ss", "v", self._unsubscribe),
            method("getSubscribers", "s", "[s]", self.subscribers),
        )
        return [Service(NAME, methods)]

    def held(self) -> list[str]:
        """See `Part`."""
        return [
            f"{NAME} {event} {module}"
            for event, modules in sorted(self._callbacks.items())
            for module in sorted(modules)
        ]

    def insert(self, key: str, value: Value) -> None:
        """Keep a value; nobody is told."""
        self._data[key] = value, stamp()

    def event(self, name: str, value: Value) -> None:
        """Keep a value, and tell whoever wants to know."""
        with self._world.lock:
            self.insert(name, value)
            if name in self._objects:
                self._objects[name].tell("signal", value)
            for module, (method, message) in self._callbacks.get(name, {}).items():
                self._bus.call(module, method, name, value, message)

    def get(self, key: str) -> Value:
        """Give a value.

        Raises:
            RobotError: there is none.
        """
        return self._of(key)[0]

    def known(self, key: str) -> bool:
        """Tell whether there is a value."""
        return key in self._data

    def forget(self, prefix: str) -> None:
        """Drop all keys that begin so."""
        for key in [key for key in self._data if key.startswith(prefix)]:
            del self._data[key]

    def subscribers(self, event: str) -> list[str]:
        """Name the services that have subscribed to an event."""
        return sorted(self._callbacks.get(event, {}))

    def _of(self, key: str) -> tuple[Value, list[int]]:
        if key not in self._data:
            raise RobotError(f"failed to get data of key {key}: no such key")
        return self._data[key]

    def _get_list(self, keys: Value) -> list[Value]:
        """Give what is there; None stands for what is not."""
        if not isinstance(keys, list | tuple):
            raise RobotError("getListData takes a list of keys")
        return [self._data.get(str(key), (None,))[0] for key in keys]

    def _insert_list(self, pairs: Value) -> None:
        if not isinstance(pairs, list | tuple) or not all(
            isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
            for pair in pairs
        ):
            raise RobotError("insertListData takes [[key, value], ...]")
        for key, value in pairs:
            self.insert(key, value)

    def _timestamp(self, key: str) -> list[Value]:
        """Give [value, seconds, microseconds]."""
        value, at = self._of(key)
        return [value, *at]

    def _names(self, part: str) -> list[str]:
        return sorted(key for key in self._data if part in key)

    def _remove(self, key: str) -> None:
        self._of(key)
        del self._data[key]

    def _declare(self, name: str) -> None:
        self._data.setdefault(name, (None, stamp()))

    def _raise(self, name: str, value: Value) -> None:
        self._world.did(NAME, "raiseEvent", name, value)
        self.event(name, value)

    def _subscriber(self, event: str) -> Value:
        if "invalid-signature" in self._world.misbehaving:
            raise RobotError("Invalid signature")
        if event not in self._objects:
            self._objects[event] = self._bus.make(Service("subscriber", (), {"signal": "m"}))
        self._world.did(NAME, "subscriber", event)
        return self._objects[event].object

    def _subscribe(self, event: str, module: str, method: str) -> None:
        self._subscribe_with(event, module, "", method)

    def _subscribe_with(self, event: str, module: str, message: str, method: str) -> None:
        self._world.did(NAME, "subscribeToEvent", event, module, method)
        self._callbacks.setdefault(event, {})[module] = method, message

    def _unsubscribe(self, event: str, module: str) -> None:
        self._world.did(NAME, "unsubscribeToEvent", event, module)
        if self._callbacks.get(event, {}).pop(module, None) is None:
            raise RobotError(f"{module} has not subscribed to {event}")
