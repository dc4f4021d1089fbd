"""Questions of a data set put to bundles in several ways: the draw, the asking, the figures.

Owns: which questions are drawn, in which order they are asked, and which count. Scores are
`quality_scores.py`'s, reading is `models/acide.py`'s. Knows nothing of files that are written or of
a terminal.

Every way is asked the same questions, and only those count that all ways answered, so that any two
can be compared case by case. Answers are greedy.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from uservlm.bench.quality_results import Compared, Part, Scored, Way
from uservlm.bench.quality_scores import BertJudge, Table, difference, score, share, summarise
from uservlm.runtime.agreement import ShadowPolicy
from uservlm.runtime.answers import GenerationOptions
from uservlm.runtime.bundle import Bundle
from uservlm.runtime.errors import AttentionError, QuestionError, RequestError
from uservlm.runtime.request import Mode

if TYPE_CHECKING:
    from uservlm.models.acide import Asked, StoredPicture
    from uservlm.runtime import UserVLM
    from uservlm.runtime.users import UserEmbedding

NO_HEAD = "cannot be asked of a resident user"
UNUSABLE = "blank, or too long for a bundle's context"


@dataclass(frozen=True)
class Question:
    """A question of the data set, its picture by name."""

    asked: Asked
    picture: str
    """SHA-256 of the picture's file."""


@dataclass(frozen=True)
class Reply:
    """What one way says to one question."""

    text: str
    cut: bool
    """Whether the longest length ended it."""


@dataclass(frozen=True)
class Replies:
    """What all ways say to the questions that all of them answered."""

    questions: tuple[Question, ...]
    by_way: Mapping[Way, tuple[Reply, ...]]
    left_out: Mapping[str, int]
    """By reason."""


def draw(records: Iterable[Asked], limit: int | None, seed: int) -> tuple[list[Question], int]:
    """Draw questions; those about one picture stand together.

    Args:
        records: of the data set, each read once and let go of unless drawn.
        limit: how many at most; None takes all.
        seed: the same one draws the same.

    Returns:
        The questions, and how many records there were.

    Raises:
        RequestError: there is no record.
    """
    random, count = Random(seed), 0
    kept: list[Asked] = []
    for record in records:
        count += 1
        if limit is None or len(kept) < limit:
            kept.append(record)
        elif (place := random.randrange(count)) < limit:
            kept[place] = record
    if not kept:
        raise RequestError("the data set holds no question")
    questions = [Question(record, _sha256(record.picture)) for record in kept]
    return sorted(questions, key=lambda one: one.picture), count


def asked_sha256(questions: Sequence[Question]) -> str:
    """Give one name to what is asked, whatever the layout it was read from and its order."""
    lines = sorted(
        json.dumps([one.picture, one.asked.question, one.asked.answer, one.asked.category])
        for one in questions
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def ask(
    bundles: Mapping[str, Bundle],
    ways: Sequence[Way],
    questions: Sequence[Question],
    tokens: int,
    threads: int | None,
    done: Callable[[int], None] = lambda count: None,
) -> Replies:
    """Ask every question in every way; one bundle is open at a time.

    Args:
        bundles: opened, by label.
        ways: whose bundles these are.
        questions: those about one picture together.
        tokens: longest answer.
        threads: None lets the runtime choose.
        done: called with 1 after each answer.

    Raises:
        RecordError: a picture cannot be read; names where it stands.
        RequestError: no question could be asked in every way.
    """
    from uservlm.runtime import UserVLM

    said: dict[Way, list[Reply | str]] = {}
    for label, bundle in bundles.items():
        own = [way for way in ways if way.bundle == label]
        room: Mode = "resident" if any(way.attention == "resident" for way in own) else "exact"
        none = ShadowPolicy(share=0)
        with UserVLM.load(
            bundle.path, attention=room, threads=threads, shadow=none, verify=False
        ) as vlm:
            said |= {way: [] for way in own}
            user: UserEmbedding | None = None
            for place, question in enumerate(questions):
                if user is None or question.picture != questions[place - 1].picture:
                    user = vlm.encode(question.asked.picture.pixels())
                for way in own:
                    said[way].append(_reply(vlm, way, question.asked.question, user, tokens))
                    done(1)
    return answered(questions, said)


def _reply(vlm: UserVLM, way: Way, question: str, user: UserEmbedding, tokens: int) -> Reply | str:
    """Give the answer, or the reason why there is none."""
    try:
        answer = vlm.ask(
            question,
            image=user,
            attention=way.attention,
            adapter=way.adapter,
            options=GenerationOptions(max_new_tokens=tokens),
        )
    except AttentionError:  # its words join with the prompt; see `Requests.check`
        return NO_HEAD
    except QuestionError:
        return UNUSABLE
    return Reply(answer.text.strip(), answer.usage.finish == "length")


def answered(questions: Sequence[Question], said: Mapping[Way, list[Reply | str]]) -> Replies:
    """Keep the questions that have an answer in every way.

    Args:
        questions: that were asked.
        said: by way and in their order, the answer or the reason why there is none.

    Raises:
        RequestError: there is none.
    """
    whole: list[int] = []
    reasons: Counter[str] = Counter()
    for place in range(len(questions)):
        missing = [one[place] for one in said.values() if isinstance(one[place], str)]
        if missing:
            reasons[str(missing[0])] += 1
        else:
            whole.append(place)
    if not whole:
        raise RequestError(f"no question was answered in every way: {', '.join(reasons)}")
    kept = {
        way: tuple(one for one in (replies[place] for place in whole) if isinstance(one, Reply))
        for way, replies in said.items()
    }
    return Replies(tuple(questions[place] for place in whole), kept, dict(reasons))


@dataclass(frozen=True)
class Judged:
    """Figures of all ways."""

    scored: tuple[Scored, ...]
    compared: tuple[Compared, ...]


def judge(
    replies: Replies, bert: BertJudge | None, seed: int, done: Callable[[int], None]
) -> Judged:
    """Score all ways, and each but the first against the first.

    Args:
        replies: of all ways.
        bert: None leaves BERTScore and Overall out.
        seed: of the intervals.
        done: called with the number of answers after each way.
    """
    references = [one.asked.answer for one in replies.questions]
    tables: dict[Way, Table] = {}
    for way, said in replies.by_way.items():
        tables[way] = score([one.text for one in said], references, bert)
        done(len(said))
    parts = _parts(replies.questions)
    first, *others = replies.by_way
    scored = []
    for way, table in tables.items():
        measured = partial(_summarise, table, seed)
        cut = sum(one.cut for one in replies.by_way[way])
        scored.append(Scored(way, *_every(parts, measured), cut))
    compared = tuple(_compare(replies, parts, tables, (first, one), seed) for one in others)
    return Judged(tuple(scored), compared)


Rows: TypeAlias = Mapping[str | None, tuple[list[int], list[str]]]
"""By category, None standing for all: rows of a table, and their pictures."""


def _parts(questions: Sequence[Question]) -> Rows:
    names = {one.asked.category for one in questions} - {None}
    found: dict[str | None, list[int]] = {None: list(range(len(questions)))}
    if len(names) > 1:
        for name in sorted(filter(None, names)):
            found[name] = [at for at, one in enumerate(questions) if one.asked.category == name]
    return {name: (rows, [questions[row].picture for row in rows]) for name, rows in found.items()}


def _every(
    parts: Rows, measure: Callable[[list[int], list[str]], Part]
) -> tuple[Part, dict[str, Part]]:
    """Give a figure's part for the whole, and by category."""
    found = {name: measure(rows, pictures) for name, (rows, pictures) in parts.items()}
    return found[None], {name: part for name, part in found.items() if name is not None}


def _summarise(table: Table, seed: int, rows: list[int], pictures: list[str]) -> Part:
    return summarise(table[rows], pictures, seed)


def _compare(
    replies: Replies, parts: Rows, tables: Mapping[Way, Table], pair: tuple[Way, Way], seed: int
) -> Compared:
    """Compare the second way of a pair with the first."""
    reference, way = pair
    ours, theirs = tables[way], tables[reference]
    both = zip(replies.by_way[way], replies.by_way[reference], strict=True)
    same = share([one.text == other.text for one, other in both], parts[None][1], seed)
    whole, categories = _every(
        parts, lambda rows, names: difference(ours[rows], theirs[rows], names, seed)
    )
    return Compared(way, reference, same, whole, categories)


def _sha256(picture: StoredPicture) -> str:
    source = picture.source
    try:
        encoded = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise RequestError(f"{picture.place}: its picture cannot be read: {error}") from error
    return hashlib.sha256(encoded).hexdigest()
