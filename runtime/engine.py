"""Answer a question about the user in view: order and timing, nothing else.

Owns: one opened bundle, whose turn it is, and the clock. Knows nothing of llama.cpp, onnxruntime or
Pillow; `language.py`, `vision.py` and `image.py` do.

Threads: one question at a time. A second one raises `BusyError` instead of waiting, because the
first may be a stream that its reader has paused. `encode` and `users` work from any thread, always.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from uservlm.runtime.answers import Answer, Attention, Chunk, Counters, GenerationOptions, Usage
from uservlm.runtime.bundle import VISION_FILE, Bundle, Manifest, open_bundle
from uservlm.runtime.cores import thread_count
from uservlm.runtime.errors import AttentionError, BusyError, EngineError, QuestionError, RequestError
from uservlm.runtime.image import Picture, to_pixels
from uservlm.runtime.language import LanguageModel
from uservlm.runtime.lru import Lru
from uservlm.runtime.prefill import SCRATCH, Prefilled, Prefiller
from uservlm.runtime.prefix import Tokens, check_length, head_text, join_tokens
from uservlm.runtime.room import plan_room
from uservlm.runtime.spelling import Piece, spell
from uservlm.runtime.users import UserEmbedding, UserStore, check_embedding
from uservlm.runtime.vision import VisionEncoder
from uservlm.runtime.weights import Weights

PICTURES = 16
"""Pictures whose embedding is remembered, so that asking again about one runs no vision."""

Mode: TypeAlias = Literal["exact", "resident"]
Seen: TypeAlias = "Picture | UserEmbedding"

GREEDY = GenerationOptions()


@dataclass(frozen=True)
class _Request:
    """A question that was checked and can be prefilled."""

    source: Seen
    tokens: Tokens
    attention: Mode
    longest: int
    """Answer tokens at most."""


class UserVLM:
    """A bundle opened for asking; use it as a context manager or call `close`."""

    def __init__(
        self, bundle: Bundle, vision: VisionEncoder, language: LanguageModel, prefiller: Prefiller, attention: Mode
    ) -> None:
        """Put opened parts together; `load` opens them."""
        self.bundle = bundle
        self.attention = attention
        """What a question gets that asks for none: "exact" or "resident"."""
        self._vision, self._language, self._prefiller = vision, language, prefiller
        self._head = language.tokenize(head_text(bundle.manifest.prompt.template))
        self._pictures: Lru[bytes, UserEmbedding] = Lru(PICTURES)
        self._turn_lock, self._count_lock = Lock(), Lock()
        self._counters, self._closed = Counters(), False
        self._forgotten: list[str] = []
        self.users = UserStore(self._check, self._forget)
        """Users by name, in memory."""

    @classmethod
    def load(
        cls,
        bundle_path: str | Path,
        *,
        attention: Attention = "auto",
        threads: int | None = None,
        context: int | None = None,
        verify: bool = True,
    ) -> UserVLM:
        """Open a bundle.

        Args:
            bundle_path: the folder that `converters/export.py` made.
            attention: "auto" takes resident only if the manifest found it faithful.
            threads: to compute with; None takes one for each physical core this process may use.
            context: KV cells for prefix, answer and residents; None takes `room.plan_room`'s.
            verify: compare the SHA-256 of every file with the manifest's.

        Raises:
            BundleError: missing, damaged or not a bundle.
            AttentionError: no such attention.
            RequestError: `threads` or `context` is too small.
            EngineError: not enough memory.
        """
        bundle = open_bundle(bundle_path, verify=verify)
        architecture, mode = bundle.manifest.architecture, _resolve(attention, bundle.manifest)
        count, room = thread_count(threads), plan_room(context, architecture.image_tokens, mode)
        weights = Weights(bundle.language)
        weights.expect(architecture)
        vision = VisionEncoder(bundle.vision, architecture, count)
        language = LanguageModel(bundle.language, room, count)
        return cls(bundle, vision, language, Prefiller(language, weights, room.sequences), mode)

    def encode(self, image: Picture) -> UserEmbedding:
        """Compute a user embedding, or find it when this very picture was seen lately.

        Raises:
            ImageError: see `image.open_picture`.
            EngineError: onnxruntime failed, or the engine is closed.
        """
        return self._encode(image)[0]

    def stream(
        self,
        question: str,
        *,
        image: Seen | None = None,
        user: str | None = None,
        attention: Attention | None = None,
        options: GenerationOptions = GREEDY,
    ) -> Iterator[Chunk]:
        """Answer, piece by piece. Closing the iterator stops decoding.

        Args:
            question: plain text; names of special tokens in it stay text.
            image: the user's picture or embedding.
            user: or the name of one kept in `users`.
            attention: None takes the engine's own.
            options: how the answer is drawn.

        Raises:
            RequestError: both or neither of image and user.
            QuestionError: blank or too long.
            UnknownUserError: nobody of that name.
            EmbeddingError: an embedding of another bundle.
            AttentionError: not known, or not possible with this question.
            ImageError: with the first chunk, when the picture cannot be read.
            BusyError: with the first chunk, while another question is being answered.
            EngineError: at any chunk, when llama.cpp or onnxruntime fails.
        """
        return self._stream(self._request(question, image, user, attention, options), options)

    def ask(
        self,
        question: str,
        *,
        image: Seen | None = None,
        user: str | None = None,
        attention: Attention | None = None,
        options: GenerationOptions = GREEDY,
    ) -> Answer:
        """Answer at once; arguments and errors as for `stream`."""
        chunks = list(self.stream(question, image=image, user=user, attention=attention, options=options))
        usage = chunks[-1].usage
        assert usage is not None  # the last chunk has it
        return Answer("".join(chunk.text for chunk in chunks), usage)

    def first_logits(
        self,
        question: str,
        *,
        image: Seen | None = None,
        user: str | None = None,
        attention: Attention | None = None,
    ) -> npt.NDArray[np.float32]:
        """Give the logits of the first answer token, float32 [vocabulary]; errors as for `stream`."""
        request = self._request(question, image, user, attention, GREEDY)
        with self._turn():
            self._prefill(request, self._look(request.source)[0])
            return self._language.logits()

    def prefix_tokens(self, question: str) -> tuple[int, ...]:
        """Give the tokens behind the image rows, `<bos>` first.

        Raises:
            QuestionError: blank or too long.
        """
        return self._tokens(question).all

    @property
    def counters(self) -> Counters:
        """What was done so far, as it was at this moment."""
        return self._counters

    def close(self) -> None:
        """Free the models and forget all users; an open stream goes first, and frees them at its end."""
        self._closed = True
        self.users.clear()
        self._pictures.remove(lambda *_: True)
        if self._turn_lock.acquire(blocking=False):
            self._end_turn()

    def __enter__(self) -> UserVLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(self, request: _Request, options: GenerationOptions) -> Iterator[Chunk]:
        with self._turn():
            start = perf_counter()
            embedding, fresh = self._look(request.source)
            seen = perf_counter()
            prefilled = self._prefill(request, embedding)
            begun = Usage(
                attention=request.attention,
                vision_runs=int(fresh),
                vision_s=seen - start,
                prefill_s=perf_counter() - seen,
                prefix_computed=prefilled.computed,
                prefix_reused=prefilled.reused,
            )
            with self._language.sampler(options, SCRATCH) as sampler:
                for chunk in _timed(spell(self._language, sampler, request.longest), start, begun):
                    if chunk.usage is not None:
                        self._count(answer_tokens=chunk.usage.answer_tokens)
                    yield chunk

    def _request(
        self, question: str, image: Seen | None, user: str | None, attention: Attention | None,
        options: GenerationOptions,
    ) -> _Request:  # fmt: skip
        if (image is None) == (user is None):
            raise RequestError("give either an image or the name of a kept user, not both and not neither")
        source = self.users.find(user) if user is not None else image
        assert source is not None
        if isinstance(source, UserEmbedding):
            self._check(source)
        tokens = self._tokens(question)
        mode = self.attention if attention is None else _resolve(attention, self.bundle.manifest)
        if mode == "resident" and tokens.head == 0 and attention in (None, "auto"):
            mode = "exact"  # this question joins with the prompt before it; usage says how it went
        wanted = options.max_new_tokens or self.bundle.manifest.prompt.max_new_tokens
        prefix = self.bundle.manifest.architecture.image_tokens + len(tokens.all)
        return _Request(source, tokens, mode, min(wanted, self._positions - prefix))

    def _tokens(self, question: str) -> Tokens:
        if self._closed:
            raise EngineError("this engine is closed: load the bundle again")
        if not question.strip():
            raise QuestionError("the question is blank: ask something")
        prompt = self._language.tokenize(self.bundle.manifest.prompt.fill(question))
        tokens = join_tokens(self._language.bos, self._head, prompt)
        room = min(self._language.block, self._positions - 1)
        check_length(self.bundle.manifest.architecture.image_tokens, tokens, room)
        return tokens

    @property
    def _positions(self) -> int:
        """Longest prefix and answer together."""
        return min(self._language.cells, self.bundle.manifest.architecture.context)

    def _look(self, source: Seen) -> tuple[UserEmbedding, bool]:
        """Give the embedding, and whether vision ran for it."""
        return (source, False) if isinstance(source, UserEmbedding) else self._encode(source)

    def _encode(self, image: Picture) -> tuple[UserEmbedding, bool]:
        if self._closed:
            raise EngineError("this engine is closed: load the bundle again")
        pixels = to_pixels(image, self.bundle.manifest.pixels)
        name = blake2b(pixels, digest_size=16).digest()
        known = self._pictures.get(name)
        if known is not None:
            return known, False
        embedding = UserEmbedding(self._vision.encode(pixels), self._fingerprint)
        self._count(vision_runs=1)
        self._pictures.put(name, embedding)
        return embedding, True

    def _prefill(self, request: _Request, embedding: UserEmbedding) -> Prefilled:
        fill = self._prefiller.exact if request.attention == "exact" else self._prefiller.resident
        prefilled = fill(embedding, request.tokens, request.longest)
        self._language.logits()  # raises when they are not finite, before a sampler sees them
        self._count(
            questions=1,
            prefix_computed=prefilled.computed,
            prefix_reused=prefilled.reused,
            resident_builds=int(prefilled.built),
        )
        return prefilled

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the engine for one question, and leave it clean however the question ends."""
        if not self._turn_lock.acquire(blocking=False):
            raise BusyError("another question is being answered: finish its stream or close it first")
        try:
            if self._closed:
                raise EngineError("this engine is closed: load the bundle again")
            yield
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        try:
            self._prefiller.clear_scratch()
            while self._forgotten:
                self._prefiller.forget(self._forgotten.pop())
            if self._closed:
                self._language.close()
        finally:
            self._turn_lock.release()

    def _check(self, embedding: UserEmbedding) -> None:
        architecture = self.bundle.manifest.architecture
        check_embedding(embedding, (architecture.image_tokens, architecture.width), self._fingerprint)

    def _forget(self, embedding: UserEmbedding) -> None:
        """Drop what was computed from a user's picture; their KV block at the end of this turn."""
        self._pictures.remove(lambda _, kept: kept.digest == embedding.digest)
        self._forgotten.append(embedding.digest)
        if self._turn_lock.acquire(blocking=False):
            self._end_turn()

    @property
    def _fingerprint(self) -> str:
        return self.bundle.manifest.files[VISION_FILE].sha256

    def _count(self, **more: int) -> None:
        with self._count_lock:
            sums = {name: getattr(self._counters, name) + value for name, value in more.items()}
            self._counters = replace(self._counters, **sums)


def _timed(pieces: Iterator[Piece], start: float, usage: Usage) -> Iterator[Chunk]:
    """Put times on pieces; the reader's own time does not count as decoding."""
    before = perf_counter()
    for piece in pieces:
        now = perf_counter()
        if usage.ttft_s == 0:
            usage = replace(usage, ttft_s=now - start)
        else:
            usage = replace(usage, decode_s=usage.decode_s + now - before)
        if piece.finish is not None:
            done = replace(usage, finish=piece.finish, answer_tokens=piece.tokens)
            yield Chunk(piece.text, now - start, done)
        elif piece.text:
            yield Chunk(piece.text, now - start)
        before = perf_counter()


def _resolve(attention: str, manifest: Manifest) -> Mode:
    if attention == "exact":
        return "exact"
    if attention == "resident":
        return "resident"
    if attention != "auto":
        raise AttentionError(f"attention={attention!r}: give auto, exact or resident")
    return "resident" if manifest.resident is not None and manifest.resident.faithful else "exact"
