"""Answer a turn again, exactly, when nobody waits: is resident faithful with these people.

Owns: which turns are drawn for it and what becomes of them. Knows nothing of scores or thresholds
(`agreement.py`) nor of how an answer is made. A turn waits here with its texts and its user until
it was compared or somebody asked; nothing of it is kept or written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import replace

from uservlm.runtime.agreement import LiveAgreement
from uservlm.runtime.answers import GenerationOptions
from uservlm.runtime.request import Request
from uservlm.runtime.users import UserEmbedding
from uservlm.runtime.worker import Work

_LOG = logging.getLogger("uservlm.shadow")

Again = Callable[[UserEmbedding, Request], tuple[int, str]]
"""Answers greedily; gives the likeliest first token and the text."""


class Shadow:
    """Offers drawn turns to whoever has time."""

    def __init__(self, live: LiveAgreement, later: Callable[[Work[None]], object]) -> None:
        """Collect into `live`; `later` hands in an idle job."""
        self._live, self._later = live, later

    def watch(
        self,
        embedding: UserEmbedding,
        request: Request,
        options: GenerationOptions,
        said: tuple[int, str],
        again: Again,
    ) -> None:
        """Take note of a warm turn that was answered.

        Only greedy answers that the measurements chose resident for are compared: a drawn one would
        differ from itself, one with a stop text may be cut, and who asks for resident by name has
        decided.

        Args:
            embedding: of the user.
            request: the question.
            options: how the answer was drawn.
            said: the likeliest first token and the answer.
            again: answers another time.
        """
        comparable = request.auto and options.greedy and not options.stop
        if not comparable or not self._live.draw():
            return

        def compare() -> Generator[None, None, None]:
            first, text = again(embedding, replace(request, attention="exact"))
            before = self._live.faithful(request.adapter)
            self._live.add(request.adapter, said[1], text, first == said[0])
            if before is not False and self._live.faithful(request.adapter) is False:
                figures = self._live.figures(request.adapter)
                _LOG.warning("resident answers are not faithful here, exact from now: %s", figures)
            yield

        self._later(compare)
