"""What is beyond the limits is refused here, before anything is computed for it.

Owns: the sentences. Knows nothing of what the engine itself refuses. Pure.
"""

from __future__ import annotations

import re
from typing import Final

from uservlm.runtime.errors import QuestionError, RequestError
from uservlm.runtime.profiles import Consent
from uservlm.runtime.server.limits import Limits
from uservlm.runtime.server.pictures import check_picture
from uservlm.runtime.server.turn import Question

_TURN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_question(question: Question, limits: Limits) -> None:
    """Refuse a question that is beyond the limits.

    Raises:
        QuestionError, RequestError, ImageError: what is.
    """
    length, options = len(question.text), question.options
    if question.image is None and question.user is None:
        raise RequestError("say who asks: give their picture, or the id of somebody who is kept")
    if length > limits.question_characters:
        raise QuestionError(
            f"the question has {length:,} characters, more than "
            f"{limits.question_characters:,}: shorten it"
        )
    if question.turn is not None and not _TURN_ID.fullmatch(question.turn):
        raise RequestError("a turn's id is 1 to 64 letters, digits, - and _")
    if question.deadline_s is not None and not 0 < question.deadline_s <= limits.deadline_s:
        raise RequestError(f"deadline_s: give more than 0, up to {limits.deadline_s:g}")
    if (options.max_new_tokens or 1) > limits.answer_tokens or len(options.stop) > limits.stops:
        raise RequestError(
            f"give at most {limits.answer_tokens} tokens and {limits.stops} stop texts"
        )
    if question.user is not None:
        check_user(question.user, limits)
    if question.image is not None:
        check_picture(question.image, limits)


def check_user(name: str, limits: Limits) -> None:
    """Refuse what cannot be somebody's id.

    Raises:
        RequestError: it is blank, too long, or would steer a terminal.
    """
    if len(name.encode("utf-8", "surrogatepass")) > limits.name_bytes:
        raise RequestError(f"a user's id has at most {limits.name_bytes} bytes")
    if not name.strip() or not name.isprintable() or name in (".", ".."):
        raise RequestError("a user's id is printable text, not blank, and neither . nor ..")


def check_consent(consent: Consent | None, limits: Limits) -> None:
    """Refuse a consent whose words are too many.

    Raises:
        RequestError: they are.
    """
    if consent is not None and len(consent.how) > limits.how_characters:
        raise RequestError(f"how: say it in at most {limits.how_characters:,} characters")
