"""Answer a question about the user in view: the public face of a bundle.

Owns: one opened bundle and what may be asked of it. Knows nothing of llama.cpp, onnxruntime or
Pillow, nor of what a turn consists of: `turns.py` does.

Threads: everything here may be called from any thread. Questions queue for the one thread that
computes (`worker.py`), and an answer goes on while its reader is slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter

from uservlm.runtime.adapters import choose
from uservlm.runtime.agreement import LiveAgreement, ShadowPolicy, thresholds
from uservlm.runtime.answers import GREEDY, Answer, Attention, Chunk, GenerationOptions, join
from uservlm.runtime.budget import cell_bytes
from uservlm.runtime.bundle import Bundle, open_bundle
from uservlm.runtime.counters import Counters, Tally
from uservlm.runtime.errors import CancelledError, EngineError, RequestError
from uservlm.runtime.fit import fit_of
from uservlm.runtime.identity import Identification, Identifier
from uservlm.runtime.image import Picture
from uservlm.runtime.looking import Looker, Seen
from uservlm.runtime.opening import Parts, Wish, open_parts
from uservlm.runtime.prefill import Prefiller
from uservlm.runtime.request import Mode, Request, Requests, roomiest
from uservlm.runtime.roster import Entry
from uservlm.runtime.shadow import Shadow
from uservlm.runtime.store import UserStore
from uservlm.runtime.stream import Prepared, Stream
from uservlm.runtime.turns import Logits, Turns
from uservlm.runtime.users import UserEmbedding, check_embedding
from uservlm.runtime.vault import Vault
from uservlm.runtime.vision_choice import VisionChoice
from uservlm.runtime.vision_figures import VisionKind
from uservlm.runtime.worker import CLOSED, Ticket, Work

SHADOW = ShadowPolicy()
IDLE_S = 2.0
"""Quiet time before the engine does what nobody waits for."""


class UserVLM:
    """A bundle opened for asking; use it as a context manager or call `close`."""

    def __init__(
        self,
        bundle: Bundle,
        parts: Parts,
        attention: Attention,
        adapter: str | None,
        vault: Vault | None,
        shadow: ShadowPolicy,
    ) -> None:
        """Put opened parts together; `load` opens them."""
        manifest = bundle.manifest
        self.bundle = bundle
        self._worker, self._language = parts.worker, parts.language
        self.vision: VisionKind = parts.vision.kind
        """What computes user embeddings: onnxruntime or ggml."""
        self._shape = (manifest.architecture.image_tokens, manifest.architecture.width)
        self._encoder, self._tally = manifest.sees_as, Tally()
        fit = fit_of(manifest, parts.language.build, parts.language.settings)
        self.users = UserStore(self._check, self._forget, self._shape, fit, vault)
        """Users by name."""
        self._prefiller = Prefiller(parts.language, parts.weights, parts.sequences, self.users)
        self.agreement = LiveAgreement(shadow, thresholds(manifest))
        """How faithful resident is on the turns of this process; see `shadow`."""
        beside = self._prefiller.aside if parts.tight else nullcontext
        self._tight = parts.tight
        self._looker = Looker(parts.vision, manifest.pixels, self._encoder, self._tally, beside)
        self._requests = Requests(manifest, parts.language, attention, adapter, self.agreement)
        self._turns = Turns(
            parts.language,
            self._prefiller,
            self._looker,
            self._tally,
            Shadow(self.agreement, self._later),
            self._later,
        )
        self._identifier: Identifier | None = None
        self._releasing: Ticket[None] | None = None
        self._closed = False

    @classmethod
    def load(
        cls,
        bundle_path: str | Path,
        *,
        users: str | Path | None = None,
        attention: Attention = "auto",
        adapter: str | None = None,
        threads: int | None = None,
        context: int | None = None,
        memory_mb: int | None = None,
        repack: bool | None = None,
        vision: VisionChoice = "auto",
        shadow: ShadowPolicy = SHADOW,
        verify: bool = True,
    ) -> UserVLM:
        """Open a bundle.

        Args:
            bundle_path: the folder that `converters/export.py` made.
            users: the folder where those who agree are kept, encrypted; None writes nothing.
            attention: "auto" takes resident only if the manifest found it faithful.
            adapter: one that the bundle keeps apart, for questions that ask for none of their own.
            threads: to compute with; None takes what `uservlm tune` found, else one for each
                physical core this process may use.
            context: KV cells for prefix, answer and residents; None takes `room.plan_room`'s.
            memory_mb: the most the process may take, in MB of 10⁶ bytes, with as many residents as
                that pays for; the context then makes way while a picture is encoded. None: three
                residents, and no such economy.
            repack: keep the language model's weights in an order made for this processor; without
                it they are pages of the file, which the system may drop. None as for threads.
            vision: "onnx" or "ggml" computes user embeddings; "auto" takes onnxruntime where it and
                the bundle's vision.onnx are there, ggml otherwise.
            shadow: which warm turns are answered a second time, exactly, when nobody is waiting;
                "auto" leaves resident where they say so. `ShadowPolicy(share=0)` for none.
            verify: compare the SHA-256 of every file with the manifest's, unless it was done and
                no file was touched since.

        Raises:
            BundleError: missing, damaged or not a bundle.
            AttentionError: no such attention.
            AdapterError: no such adapter.
            RequestError: `threads` or `context` is too small, or there is no such `vision`.
            BudgetError: `memory_mb` is too small; the message names what takes how much.
            StoreError: `users` cannot be used.
            EngineError: not enough memory.
        """
        bundle = open_bundle(bundle_path, verify=verify, trust=True)
        manifest = bundle.manifest
        mode = roomiest(attention, manifest)
        choose(adapter, None, manifest)  # a wrong name shows before anything is loaded
        vault = None if users is None else Vault.open(Path(users))
        parts = open_parts(bundle, mode, Wish(threads, context, memory_mb, repack, vision))
        return cls(bundle, parts, attention, adapter, vault, shadow)

    def encode(self, image: Picture) -> UserEmbedding:
        """Compute a user embedding, or find it when this very picture was seen lately.

        Raises:
            ImageError: see `image.open_picture`.
            EngineError: the vision encoder failed, or the engine is closed.
            BusyError, CancelledError: with `memory_mb`, where a picture waits in the queue.
        """
        self._check_open()
        if self._tight:
            return self.prepare(image, attention="exact").wait()
        embedding = self._looker.look(image).embedding
        before, self._releasing = (
            self._releasing,
            self._worker.when_idle(self._looker.release, IDLE_S),
        )
        if before is not None:
            before.stop(CancelledError("another picture came"))
        return embedding

    def identify(self, image: Seen) -> Identification:
        """Find out which kept user is in view: one of them, somebody new, or not sure.

        Args:
            image: a picture or an embedding; remembered as `encode` does, and kept as nobody.

        Raises:
            IdentityError: how alike pictures of one person are was not measured for this bundle,
                or not for so many people.
            ImageError: see `image.open_picture`.
            EmbeddingError: the picture shows nothing that tells people apart.
        """
        self._check_open()
        if self._identifier is None:
            self._identifier = Identifier(self.bundle.manifest, self.bundle.path)
        pool = self._identifier.pool
        vector = pool(image if isinstance(image, UserEmbedding) else self.encode(image))
        return self._identifier.identify(vector, self.users.vectors(pool))

    def prepare(
        self,
        image: Seen | None = None,
        *,
        user: str | None = None,
        attention: Attention | None = None,
        adapter: str | None = None,
    ) -> Prepared[UserEmbedding]:
        """Do ahead of a question what does not depend on it, while the person is still talking.

        Begins and returns at once; what it gives can be waited for, cancelled, or let go of.

        Args:
            image: the user's picture or embedding.
            user: or the name of one in `users`.
            attention: resident also makes them resident; None takes the engine's own.
            adapter: likewise.

        Raises:
            RequestError, UnknownUserError, EmbeddingError, AttentionError, AdapterError, BusyError:
                as for `stream`.
        """
        source, head = self._source(image, user), self._requests.head
        mode, chosen = self._requests.mode(attention, adapter)
        resident = mode == "resident"
        ticket = self._worker.submit(lambda: self._turns.prepare(source, head, chosen, resident))
        return Prepared(ticket)

    def stream(
        self,
        question: str,
        *,
        image: Seen | None = None,
        user: str | None = None,
        attention: Attention | None = None,
        adapter: str | None = None,
        options: GenerationOptions = GREEDY,
        deadline_s: float | None = None,
    ) -> Stream[Chunk]:
        """Answer, piece by piece. The question is put with the first `next`.

        Args:
            question: plain text; names of special tokens in it stay text.
            image: the user's picture or embedding.
            user: or the name of one kept in `users`.
            attention: None takes the engine's own.
            adapter: likewise; "none" takes the weights as they are.
            options: how the answer is drawn.
            deadline_s: seconds to the first piece, waiting for others included; None: no matter.

        Raises:
            RequestError: both or neither of image and user.
            QuestionError: blank or too long.
            UnknownUserError: nobody of that name.
            PictureNeededError: nothing that fits this bundle is kept of them.
            EmbeddingError: an embedding of another bundle, or of somebody forgotten.
            AttentionError: not known, or not possible with this question.
            AdapterError: not one of this bundle's.
            ImageError: with the first chunk, when the picture cannot be read.
            BusyError: with the first chunk, when too many questions are waiting.
            DeadlineError: with the first chunk, when it comes too late.
            CancelledError: at any chunk, after `cancel`.
            EngineError: at any chunk, when llama.cpp or the vision encoder fails.
        """
        source = self._source(image, user)
        request = self._requests.check(question, attention, options, adapter)
        return Stream(lambda: self._answer(source, request, options), deadline_s)

    def ask(
        self,
        question: str,
        *,
        image: Seen | None = None,
        user: str | None = None,
        attention: Attention | None = None,
        adapter: str | None = None,
        options: GenerationOptions = GREEDY,
        deadline_s: float | None = None,
    ) -> Answer:
        """Answer at once; arguments and errors as for `stream`."""
        with self.stream(
            question,
            image=image,
            user=user,
            attention=attention,
            adapter=adapter,
            options=options,
            deadline_s=deadline_s,
        ) as stream:
            return join(stream)

    def cancel(self) -> int:
        """Stop every turn, running or waiting, within half a second; gives how many.

        Their readers get a CancelledError. Users stay resident, and the next answer is as if
        nothing had been.
        """
        return self._worker.stop_all(CancelledError("the turn was cancelled"))

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
        source = self._source(image, user)
        request = self._requests.check(question, attention, GREEDY, adapter)
        with self._trace(source, request, None, 1) as trace:
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
    ) -> Stream[Logits]:
        """Give the logits of each answer position, for whoever wants to compare.

        Args:
            question: and the others as for `stream`, which names the errors too.
            image: the user's picture or embedding.
            user: or the name of one kept in `users`.
            attention: None takes the engine's own.
            adapter: likewise; "none" takes the weights as they are.
            answer: the tokens to follow; None follows the likeliest ones until the answer ends.

        Returns:
            float32 [vocabulary] for each position, the first before any token of the answer.
        """
        source = self._source(image, user)
        request = self._requests.check(question, attention, GREEDY, adapter)
        given = None if answer is None else tuple(answer)
        return self._trace(source, request, given, request.longest)

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

    def forget_strangers(self) -> None:
        """Let go of every picture that was looked at and whose person is not kept.

        Returns when it is done; waits for the turns before it.
        """
        self._check_open()
        kept = {entry.digest for entry in self.users.roster()}
        strangers = (self._looker.remembered | self._prefiller.cells.keys()) - kept
        if strangers:
            self._worker.call(lambda: self._overwrite_all(*strangers))

    def people(self) -> tuple[Entry, ...]:
        """Say who is known, in which tiers, and what that takes; waits for no turn.

        Raises:
            StoreError: the users' folder cannot be read.
        """
        self._check_open()
        cell = cell_bytes(self.bundle.manifest.architecture, self._language.kv)
        cells = self._prefiller.cells
        return tuple(one.resident(cells, cell) for one in self.users.roster())

    @property
    def waiting(self) -> int:
        """Questions that were put and not answered yet, the one being answered among them."""
        return self._worker.waiting

    def close(self) -> None:
        """Stop every turn, forget everybody in memory and free the models."""
        if not self._closed:
            self._closed = True
            try:
                self._worker.close(self._end)
            finally:
                self.users.clear()
                self._looker.clear()

    def __enter__(self) -> UserVLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, source: Seen, request: Request, options: GenerationOptions) -> Ticket[Chunk]:
        asked = perf_counter()
        return self._worker.submit(lambda: self._turns.answer(source, request, options, asked))

    def _end(self) -> None:
        """The worker's last duty."""
        try:
            if self.users.saving and self._language.open:
                self._prefiller.save()
        finally:
            self._language.close()

    def _later(self, work: Work[None]) -> None:
        self._worker.when_idle(work, IDLE_S)

    def _trace(
        self, source: Seen, request: Request, answer: Sequence[int] | None, positions: int
    ) -> Stream[Logits]:
        return Stream(
            lambda: self._worker.submit(
                lambda: self._turns.trace(source, request, answer, positions)
            )
        )

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
            raise EngineError(CLOSED)

    def _check(self, embedding: UserEmbedding) -> None:
        check_embedding(embedding, self._shape, self._encoder)

    def _forget(self, embedding: UserEmbedding) -> None:
        """Overwrite what was computed from a user's picture, when no turn is running."""
        if self._closed:  # the KV cache was overwritten with its context
            self._overwrite(embedding)
        else:
            self._worker.call(lambda: self._overwrite(embedding))

    def _overwrite(self, embedding: UserEmbedding) -> None:
        try:
            self._overwrite_all(embedding.digest)
        finally:
            embedding.erase()

    def _overwrite_all(self, *digests: str) -> None:
        try:
            if self._language.open:
                self._prefiller.forget(*digests)
        finally:
            self._looker.forget(*digests)
