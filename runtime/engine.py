"""Answer a question about the user in view: order and timing, nothing else.

Owns: one opened bundle, whose turn it is, and the clock. Knows nothing of llama.cpp, onnxruntime or
Pillow; `language.py`, `vision.py` and `image.py` do.

Threads: one question at a time. A second one raises `BusyError` instead of waiting, because the
first may be a stream that its reader has paused. `encode` and `users` work from any thread, always.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from uservlm.runtime.adapters import check_adapters, choose
from uservlm.runtime.answers import Answer, Attention, Chunk, GenerationOptions, Usage
from uservlm.runtime.bundle import VISION_FILE, Bundle, open_bundle
from uservlm.runtime.cores import thread_count
from uservlm.runtime.counters import Counters, Tally
from uservlm.runtime.errors import BusyError, EngineError, RequestError
from uservlm.runtime.image import Picture, to_pixels
from uservlm.runtime.language import LanguageModel
from uservlm.runtime.lru import Lru
from uservlm.runtime.prefill import SCRATCH, Prefilled, Prefiller
from uservlm.runtime.request import Mode, Request, Requests, roomiest
from uservlm.runtime.room import plan_room
from uservlm.runtime.spelling import spell
from uservlm.runtime.timing import timed
from uservlm.runtime.users import UserEmbedding, UserStore, check_embedding
from uservlm.runtime.vision import VisionEncoder
from uservlm.runtime.weights import Weights

PICTURES = 16
"""Pictures whose embedding is remembered, so that asking again about one runs no vision."""

Seen: TypeAlias = "Picture | UserEmbedding"
Logits: TypeAlias = npt.NDArray[np.float32]
"""float32 [vocabulary], before the softmax."""

GREEDY = GenerationOptions()


class UserVLM:
    """A bundle opened for asking; use it as a context manager or call `close`."""

    def __init__(
        self,
        bundle: Bundle,
        vision: VisionEncoder,
        language: LanguageModel,
        prefiller: Prefiller,
        requests: Requests,
    ) -> None:
        """Put opened parts together; `load` opens them."""
        self.bundle = bundle
        self._vision, self._language = vision, language
        self._prefiller, self._requests = prefiller, requests
        self._pictures: Lru[bytes, UserEmbedding] = Lru(PICTURES)
        self._turn_lock, self._closed = Lock(), False
        self._forgotten: list[str] = []
        self._tally = Tally()
        self._encoder = bundle.manifest.files[VISION_FILE].sha256
        self.users = UserStore(self._check, self._forget)
        """Users by name, in memory."""

    @classmethod
    def load(
        cls,
        bundle_path: str | Path,
        *,
        attention: Attention = "auto",
        adapter: str | None = None,
        threads: int | None = None,
        context: int | None = None,
        repack: bool = True,
        verify: bool = True,
    ) -> UserVLM:
        """Open a bundle.

        Args:
            bundle_path: the folder that `converters/export.py` made.
            attention: "auto" takes resident only if the manifest found it faithful.
            adapter: one that the bundle keeps apart, for questions that ask for none of their own.
            threads: to compute with; None takes one for each physical core this process may use.
            context: KV cells for prefix, answer and residents; None takes `room.plan_room`'s.
            repack: copy the language model's weights into an order made for this processor; without
                it they lie in memory once, as pages of the file that the system may drop.
            verify: compare the SHA-256 of every file with the manifest's.

        Raises:
            BundleError: missing, damaged or not a bundle.
            AttentionError: no such attention.
            AdapterError: no such adapter.
            RequestError: `threads` or `context` is too small.
            EngineError: not enough memory.
        """
        bundle = open_bundle(bundle_path, verify=verify)
        manifest, architecture = bundle.manifest, bundle.manifest.architecture
        mode = roomiest(attention, manifest)
        choose(adapter, None, manifest)  # a wrong name shows before anything is loaded
        count, room = thread_count(threads), plan_room(context, architecture.image_tokens, mode)
        weights = Weights(bundle.language)
        weights.expect(architecture)
        adapters = check_adapters(bundle)
        vision = VisionEncoder(bundle.vision, architecture, count)
        language = LanguageModel(bundle.language, room, count, repack=repack)
        for name, file in adapters.items():
            language.load_adapter(name, file)
        prefiller = Prefiller(language, weights, room.sequences)
        requests = Requests(manifest, language, attention, adapter)
        return cls(bundle, vision, language, prefiller, requests)

    def encode(self, image: Picture) -> UserEmbedding:
        """Compute a user embedding, or find it when this very picture was seen lately.

        Raises:
            ImageError: see `image.open_picture`.
            EngineError: onnxruntime failed, or the engine is closed.
        """
        return self._look(image)[0]

    def stream(
        self,
        question: str,
        *,
        image: Seen | None = None,
        user: str | None = None,
        attention: Attention | None = None,
        adapter: str | None = None,
        options: GenerationOptions = GREEDY,
    ) -> Iterator[Chunk]:
        """Answer, piece by piece. Closing the iterator stops decoding.

        Args:
            question: plain text; names of special tokens in it stay text.
            image: the user's picture or embedding.
            user: or the name of one kept in `users`.
            attention: None takes the engine's own.
            adapter: likewise; "none" takes the weights as they are.
            options: how the answer is drawn.

        Raises:
            RequestError: both or neither of image and user.
            QuestionError: blank or too long.
            UnknownUserError: nobody of that name.
            EmbeddingError: an embedding of another bundle.
            AttentionError: not known, or not possible with this question.
            AdapterError: not one of this bundle's.
            ImageError: with the first chunk, when the picture cannot be read.
            BusyError: with the first chunk, while another question is being answered.
            EngineError: at any chunk, when llama.cpp or onnxruntime fails.
        """
        source = self._source(image, user)
        request = self._requests.check(question, attention, options, adapter)
        return self._stream(source, request, options)

    def ask(
        self,
        question: str,
        *,
        image: Seen | None = None,
        user: str | None = None,
        attention: Attention | None = None,
        adapter: str | None = None,
        options: GenerationOptions = GREEDY,
    ) -> Answer:
        """Answer at once; arguments and errors as for `stream`."""
        stream = self.stream(
            question, image=image, user=user, attention=attention, adapter=adapter, options=options
        )
        chunks = list(stream)
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
        adapter: str | None = None,
    ) -> Logits:
        """Give the first answer token's logits; errors as for `stream`."""
        trace = self.trace(question, image=image, user=user, attention=attention, adapter=adapter)
        with closing(trace):
            return next(trace)

    def trace(
        self,
        question: str,
        *,
        image: Seen | None = None,
        user: str | None = None,
        attention: Attention | None = None,
        adapter: str | None = None,
        answer: Iterable[int] | None = None,
    ) -> Generator[Logits, None, None]:
        """Give the logits of each answer position, for whoever wants to compare.

        Args:
            question: and the others as for `stream`, which names the errors too.
            image: the user's picture or embedding.
            user: or the name of one kept in `users`.
            attention: None takes the engine's own.
            adapter: likewise; "none" takes the weights as they are.
            answer: the tokens to follow; None follows the likeliest ones until the answer ends.

        Yields:
            float32 [vocabulary], the first before any token of the answer.
        """
        source = self._source(image, user)
        request = self._requests.check(question, attention, GREEDY, adapter)
        with self._turn():
            self._prefill(request, self._look(source)[0])
            yield (logits := self._language.logits())
            given = None if answer is None else iter(answer)
            for _ in range(request.longest - 1):
                token = int(logits.argmax()) if given is None else next(given, None)
                if token is None or (given is None and self._language.ends(token)):
                    return
                self._language.decode_tokens((token,), SCRATCH, causal=True)
                yield (logits := self._language.logits())

    def spell(self, tokens: Iterable[int]) -> str:
        """Join tokens to text; what is no whole character becomes U+FFFD."""
        self._check_open()
        return b"".join(map(self._language.piece, tokens)).decode("utf-8", "replace")

    def prefix_tokens(self, question: str) -> tuple[int, ...]:
        """Give the tokens behind the image rows, `<bos>` first.

        Raises:
            QuestionError: blank or too long.
        """
        self._check_open()
        return self._requests.tokens(question).all

    @property
    def attention(self) -> Mode:
        """What a question gets that asks for no attention and no adapter of its own."""
        return self._requests.attention

    @property
    def adapter(self) -> str | None:
        """What a question gets that asks for no adapter of its own."""
        return self._requests.adapter

    @property
    def counters(self) -> Counters:
        """What was done so far, as it was at this moment."""
        return self._tally.snapshot()

    def close(self) -> None:
        """Free the models and forget all users; an open stream keeps the models to its end."""
        self._closed = True
        self.users.clear()
        self._pictures.remove(lambda *_: True)
        if self._turn_lock.acquire(blocking=False):
            self._end_turn()

    def __enter__(self) -> UserVLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(
        self, source: Seen, request: Request, options: GenerationOptions
    ) -> Iterator[Chunk]:
        with self._turn():
            start = perf_counter()
            embedding, fresh = self._look(source)
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
                for chunk in timed(spell(self._language, sampler, request.longest), start, begun):
                    if chunk.usage is not None:
                        self._tally.add(answer_tokens=chunk.usage.answer_tokens)
                    yield chunk

    def _source(self, image: Seen | None, user: str | None) -> Seen:
        self._check_open()
        if (image is None) == (user is None):
            raise RequestError("give an image or the name of a kept user: one, and not both")
        source = self.users.find(user) if user is not None else image
        assert source is not None  # one of them was given
        if isinstance(source, UserEmbedding):
            self._check(source)
        return source

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("this engine is closed: load the bundle again")

    def _look(self, source: Seen) -> tuple[UserEmbedding, bool]:
        """Give the embedding, and whether vision ran for it."""
        self._check_open()
        if isinstance(source, UserEmbedding):
            return source, False
        pixels = to_pixels(source, self.bundle.manifest.pixels)
        name = blake2b(pixels.data, digest_size=16).digest()
        known = self._pictures.get(name)
        if known is not None:
            return known, False
        embedding = UserEmbedding(self._vision.encode(pixels), self._encoder)
        self._tally.add(vision_runs=1)
        self._pictures.put(name, embedding)
        return embedding, True

    def _prefill(self, request: Request, embedding: UserEmbedding) -> Prefilled:
        fill = self._prefiller.exact if request.attention == "exact" else self._prefiller.resident
        prefilled = fill(embedding, request.tokens, request.longest, request.adapter)
        self._language.logits()  # raises when they are not finite, before a sampler sees them
        self._tally.add(
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
            raise BusyError(
                "another question is being answered: finish its stream or close it first"
            )
        try:
            self._check_open()
            yield
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        """Clean up and let go of the lock; whatever came in meanwhile is done on the way out."""
        try:
            if self._language.open:
                self._prefiller.clear_scratch()
                while self._forgotten:
                    self._prefiller.forget(self._forgotten.pop())
                if self._closed:
                    self._language.close()
        finally:
            self._turn_lock.release()
        left = self._language.open and (self._closed or self._forgotten)
        if left and self._turn_lock.acquire(blocking=False):
            self._end_turn()

    def _check(self, embedding: UserEmbedding) -> None:
        architecture = self.bundle.manifest.architecture
        check_embedding(embedding, (architecture.image_tokens, architecture.width), self._encoder)

    def _forget(self, embedding: UserEmbedding) -> None:
        """Drop what was computed from a user's picture; their KV block at the end of this turn."""
        self._pictures.remove(lambda _, kept: kept.digest == embedding.digest)
        self._forgotten.append(embedding.digest)
        if self._turn_lock.acquire(blocking=False):
            self._end_turn()
