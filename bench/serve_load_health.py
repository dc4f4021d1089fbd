"""Asks a server under load whether it lives, and how long that takes.

Owns: when it is asked, and from when an answer's time counts. Knows nothing of other clients.
"""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Final
from urllib.parse import urlsplit

from uservlm.bench.serve_load_server import ServerError

PROBE_S: Final = 0.05


class Health:
    """One that asks on a connection of its own, at fixed times.

    A request that was due while the one before it was still on its way counts from when it was
    due: a server that hangs for a second is not one slow sample among many.
    """

    def __init__(self, url: str) -> None:
        """Begin."""
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._enough = Event()
        self._pool = ThreadPoolExecutor(1)
        self._seconds = self._pool.submit(self._ask)

    def end(self) -> list[float]:
        """Ask no more; gives the seconds of each answer.

        Raises:
            ServerError: one was not 200.
        """
        self._enough.set()
        with self._pool:
            return self._seconds.result()

    def _ask(self) -> list[float]:
        seconds, due = list[float](), time.perf_counter()
        while not seconds or not self._enough.is_set():
            early = due - time.perf_counter()
            if early > 0:
                time.sleep(early)
            begun = time.perf_counter() if early > 0 else due
            self._connection.request("GET", "/healthz")
            response = self._connection.getresponse()
            response.read()
            if response.status != 200:
                raise ServerError(f"/healthz answered {response.status} under load")
            seconds.append(time.perf_counter() - begun)
            due += PROBE_S
        self._connection.close()
        return seconds
