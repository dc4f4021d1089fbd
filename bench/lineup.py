"""Whom we are held against, and who does not fit.

Owns: the list, and for each peer when it is worth loading. How each is opened is its own module's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from uservlm.bench.job import QUESTION_TOKENS, TRANSFORMERS, Job
from uservlm.bench.latency import Manner, Peer
from uservlm.bench.results import Missing
from uservlm.bench.side import Side
from uservlm.runtime.errors import RequestError

LLAMA = "uservlm.bench.side_llama"
NO_CHECKPOINT = "the bundle's checkpoint is not known: give --checkpoint DIR"
LEFT_OUT = "not among those that --peers named"
TOO_SMALL = "4 B weights beside a model of millions say nothing: --shape user-vlm-3b"


def _transformers(precision: str) -> Callable[[Job], Side]:
    return lambda job: Side(TRANSFORMERS, str(job.checkpoint), precision)


def _llama(job: Job) -> Side:
    return Side(LLAMA, str(job.bundle.language), str(job.threads))


def _gemma3(job: Job) -> Side:
    from uservlm.bench import peer_gemma3

    return peer_gemma3.open_side(job.threads, job.say)


def _openvino(job: Job) -> Side:
    from uservlm.bench import peer_openvino

    return peer_openvino.open_side(job.threads, job.say)


CACHED = ", image cached"
TEXT = (
    Manner(
        "", lambda job: {"prompt_tokens": job.subject.image_tokens + QUESTION_TOKENS}, ("exact",)
    ),
    Manner(CACHED, lambda job: {"cached_tokens": job.subject.image_tokens}, ("resident",)),
)
"""As many positions as ours, of text: behind an empty cache, and behind a picture's worth."""
IMAGE = (Manner(), Manner(CACHED, lambda job: {"keep": True}, ("resident",)))
PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("transformers-bf16", _transformers("bfloat16")),
        Peer("transformers-f32", _transformers("float32")),
        Peer("llama.cpp", _llama, ("ttft", "decode"), TEXT),
        Peer("gemma3-llama.cpp", _gemma3, manners=IMAGE, rounds=2),
        Peer("openvino", _openvino),
    )
}


def choose(job: Job, names: Sequence[str] | None) -> tuple[list[Peer], list[Missing]]:
    """Find out who can be held against this bundle.

    Args:
        job: what is measured.
        names: who is wanted; None takes everybody who fits, `none` nobody.

    Raises:
        RequestError: no such peer.
    """
    wanted = tuple(PEERS) if names is None else tuple(name for name in names if name != "none")
    for name in wanted:
        if name not in PEERS:
            raise RequestError(f"no peer is called {name!r}: choose from {', '.join(PEERS)}")
    peers: list[Peer] = []
    missing = [Missing(name, LEFT_OUT) for name in PEERS if name not in wanted]
    for name in wanted:
        why = _why_not(name, job, named=names is not None)
        if why is None:
            peers.append(PEERS[name])
        else:
            missing.append(Missing(name, why))
    return peers, missing


def _why_not(name: str, job: Job, *, named: bool) -> str | None:
    if name.startswith("transformers") and job.checkpoint is None:
        return NO_CHECKPOINT
    if name in ("gemma3-llama.cpp", "openvino") and not job.large and not named:
        return TOO_SMALL
    return None
