"""From a bundle's files to models in memory.

Owns: how much memory is asked for, the order of opening, and that nothing stays open when a part
fails. Knows nothing of questions or users.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from uservlm.runtime import heap
from uservlm.runtime.adapters import check_adapters
from uservlm.runtime.budget import Setting, check, need, residents_that_fit
from uservlm.runtime.bundle import LANGUAGE_FILE, Bundle
from uservlm.runtime.cores import thread_count
from uservlm.runtime.interrupt import Interrupt
from uservlm.runtime.language import LanguageModel, load_llama
from uservlm.runtime.packing import repacks
from uservlm.runtime.request import Mode
from uservlm.runtime.room import HEAD_ROOM, RESIDENT_USERS, Room, plan_room
from uservlm.runtime.settings import Settings, read_settings
from uservlm.runtime.vision import VisionEncoder
from uservlm.runtime.vision_choice import VisionChoice, choose_vision, open_vision
from uservlm.runtime.vision_figures import VISION_FILES
from uservlm.runtime.weights import EMBEDDING_TABLE, Weights
from uservlm.runtime.worker import Worker

MOST_USERS = 64
"""Resident at once, however large the budget: each is a sequence of llama.cpp's."""


@dataclass(frozen=True)
class Wish:
    """What the caller asked for, None where they left it to us."""

    threads: int | None = None
    context: int | None = None
    memory_mb: int | None = None
    repack: bool | None = None
    vision: VisionChoice = "auto"


@dataclass(frozen=True)
class Parts:
    """What an engine computes with."""

    worker: Worker
    """The only thread that may use `language`."""
    vision: VisionEncoder
    language: LanguageModel
    weights: Weights
    sequences: int
    tight: bool
    """Whether the context must make way while a picture is encoded."""


def open_parts(bundle: Bundle, mode: Mode, wish: Wish) -> Parts:
    """Open what an engine needs; errors as for `UserVLM.load`."""
    heap.settle()
    settings = read_settings(bundle)
    if wish.repack is not None:
        settings = replace(settings, repack=wish.repack)
    if settings.repack and not repacks(load_llama(settings)):
        settings = replace(settings, repack=False)
    count = thread_count(settings.threads if wish.threads is None else wish.threads)
    weights = Weights(bundle.language)
    weights.expect(bundle.manifest.architecture)
    room = fitting_room(bundle, mode, wish, settings, weights.tensors[EMBEDDING_TABLE].bytes)
    adapters = check_adapters(bundle)
    tight = wish.memory_mb is not None
    kind = choose_vision(bundle.manifest, wish.vision)
    vision = open_vision(bundle, kind, count, keep=not tight)
    interrupt = Interrupt()
    worker, done = Worker(interrupt), False
    try:
        make = partial(
            LanguageModel, tensors=weights.tensors, settings=settings, interrupt=interrupt
        )
        language = worker.call(lambda: make(bundle.language, room, count))
        for name, file in adapters.items():
            worker.call(partial(language.load_adapter, name, file))
        done = True
    finally:
        if not done:
            worker.close()
    return Parts(worker, vision, language, weights, room.sequences, tight)


def fitting_room(
    bundle: Bundle, mode: Mode, wish: Wish, settings: Settings, table_bytes: int
) -> Room:
    """Decide how many KV cells and residents there are.

    Raises:
        BudgetError: the budget does not hold this bundle; names what takes how much.
        RequestError: the context asked for is too small.
        BundleError: see `choose_vision`.
    """
    architecture, files = bundle.manifest.architecture, bundle.manifest.files
    plan = partial(plan_room, wish.context, architecture.image_tokens, mode)
    if wish.memory_mb is None:
        return plan(RESIDENT_USERS)
    vision = choose_vision(bundle.manifest, wish.vision)
    setting = Setting(
        room=replace(plan(1), sequences=1),
        kv=settings.kv,
        flash=settings.flash_attention,
        placement="repacked" if settings.repack else "mapped",
        table_bytes=table_bytes,
        carried=0,
        vision=vision,
    )
    sizes = (files[LANGUAGE_FILE].bytes, files[VISION_FILES[vision]].bytes)
    cells = architecture.image_tokens + HEAD_ROOM
    check(wish.memory_mb, need(architecture, *sizes, replace(setting, room=plan(1), carried=cells)))
    if mode == "exact":
        return plan(1)
    users = residents_that_fit(wish.memory_mb, architecture, *sizes, setting, cells)
    return plan(min(users, MOST_USERS))
