"""From a bundle's files to models in memory.

Owns: the order of opening, and that nothing stays open when a part fails. Knows nothing of
questions or users.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from uservlm.runtime.adapters import check_adapters
from uservlm.runtime.bundle import Bundle
from uservlm.runtime.cores import thread_count
from uservlm.runtime.interrupt import Interrupt
from uservlm.runtime.language import LanguageModel
from uservlm.runtime.room import Room
from uservlm.runtime.vision import VisionEncoder
from uservlm.runtime.weights import Weights
from uservlm.runtime.worker import Worker


@dataclass(frozen=True)
class Parts:
    """What an engine computes with."""

    worker: Worker
    """The only thread that may use `language`."""
    vision: VisionEncoder
    language: LanguageModel
    weights: Weights
    sequences: int


def open_parts(bundle: Bundle, room: Room, threads: int | None, repack: bool) -> Parts:
    """Open what an engine needs; errors as for `UserVLM.load`."""
    count = thread_count(threads)
    weights = Weights(bundle.language)
    weights.expect(bundle.manifest.architecture)
    adapters = check_adapters(bundle)
    vision = VisionEncoder(bundle.vision, bundle.manifest.architecture, count)
    interrupt = Interrupt()
    worker, done = Worker(interrupt), False
    try:
        make = partial(LanguageModel, repack=repack, interrupt=interrupt)
        language = worker.call(lambda: make(bundle.language, room, count))
        for name, file in adapters.items():
            worker.call(partial(language.load_adapter, name, file))
        done = True
    finally:
        if not done:
            worker.close()
    return Parts(worker, vision, language, weights, room.sequences)
