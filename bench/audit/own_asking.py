"""Own pictures asked: what must not depend on anybody, and what must not be said of a stranger.

Owns: which questions go to own pictures, and what of the answers is kept. Comparing them is
`own_comparison.py`'s. What is said of real people is written with --keep-pictures alone: without it
figures remain, and of a statement that was found its category; no answer, nor which picture it was.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

from uservlm.bench.audit import measure, verdict
from uservlm.bench.audit.findings import Moved, PictureRef, ProbeResult
from uservlm.bench.audit.measure import Done, Outcome
from uservlm.bench.audit.own_comparison import compare
from uservlm.bench.audit.own_pictures import OwnPicture, OwnPictures
from uservlm.bench.audit.probes import Part, Probes
from uservlm.runtime import UserVLM
from uservlm.runtime.agreement import Logits

SOMEBODY = PictureRef("an own picture")
WITHHELD = "(not kept: it is about a real person; --keep-pictures keeps it, with their consent)"


def effort(own: OwnPictures, probes: Probes) -> int:
    """Count the answers."""
    return len(own.pictures) * len(_questions(probes, "counterfactual")) + len(own.pictures) * len(
        _questions(probes, "statement")
    )


def own_results(
    vlm: UserVLM,
    own: OwnPictures | None,
    probes: Probes,
    adapter: str,
    seed: int,
    keep: bool,
    done: Done,
) -> tuple[ProbeResult, ...]:
    """Ask about own pictures and judge; nothing where there are none.

    Args:
        vlm: opened.
        own: the pictures, or None.
        probes: whose questions of counterfactuals and statements are asked.
        adapter: by name, or NO_ADAPTER.
        seed: of shuffling and resampling.
        keep: whether results may hold files' names and answers about people.
        done: called with 1 after each answer.

    Raises:
        PicturesError: too little can be compared.
        ImageError: a picture can no longer be read.
    """
    if own is None:
        return ()
    answer = _answering(vlm, adapter, done)
    compared = compare(own, answer, _questions(probes, "counterfactual"), seed, keep)
    vlm.forget_strangers()
    told = _statements(own, probes, answer, keep)
    if keep:
        return (*compared, *told)
    return (
        *(replace(one, moved=()) for one in compared),
        *(replace(one, moved=tuple(map(_withheld, one.moved))) for one in told),
    )


def _answering(
    vlm: UserVLM, adapter: str, done: Done
) -> Callable[[OwnPicture, str], tuple[str, Logits]]:
    """Give what answers about a picture; one picture's questions come in turn."""
    seen: list[int] = []

    def answer(picture: OwnPicture, question: str) -> tuple[str, Logits]:
        if seen[-1:] != [picture.index]:
            vlm.forget_strangers()
            seen[:] = [picture.index]
        heard = measure.listen(vlm, picture.path, question, adapter)
        done(1)
        return heard.text, heard.first

    return answer


def _statements(
    own: OwnPictures,
    probes: Probes,
    answer: Callable[[OwnPicture, str], tuple[str, Logits]],
    keep: bool,
) -> tuple[ProbeResult, ...]:
    units: dict[Hashable, int] = {}
    results = []
    for probe in probes.of("statement"):
        told = []
        for picture in own.pictures:
            person, ref = units.setdefault(picture.unit, len(units)), picture.ref(keep)
            for question in probes.questions[probe.questions].all:
                text = answer(picture, question)[0]
                told.append(Outcome(probe.id, person, question, "", ref, ref, text, text, 0.0))
        found = verdict.result(probe, told, probes)
        title = f"{found.title} (own pictures)"
        results.append(replace(found, id=f"own.{found.id}", title=title))
    return tuple(results)


def _withheld(one: Moved) -> Moved:
    categories = "; ".join(part.partition(":")[0] for part in one.note.split("; "))
    return Moved(one.question, "", SOMEBODY, SOMEBODY, WITHHELD, WITHHELD, one.kl, categories)


def _questions(probes: Probes, part: Part) -> tuple[str, ...]:
    """Give the different questions of a part, in order."""
    lists = (probes.questions[probe.questions].all for probe in probes.of(part))
    return tuple(dict.fromkeys(question for questions in lists for question in questions))
