"""What a client hears when something goes wrong: one code, one sentence, the same at every door.

Owns: the codes, their HTTP statuses, and that no sentence holds a path, a stack or somebody else's
name. Knows nothing of HTTP or qi. The whole error goes to the log, by whoever answers with a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from uservlm.runtime import errors


class PictureTooLargeError(errors.ImageError):
    """More bytes or pixels than the server takes."""


class DrainingError(errors.UserVLMError):
    """The brain is being stopped: it takes no more turns."""


class UnknownTurnError(errors.UserVLMError):
    """No turn of that id is waiting or running."""


class TurnTakenError(errors.UserVLMError):
    """A turn of that id is waiting or running already."""


class NoEarsError(errors.UserVLMError):
    """A client wants to be heard by a brain without ears."""


class SoundError(errors.RequestError):
    """What a client sends is no sound, or too much at once."""


class UnknownModelError(errors.UserVLMError):
    """A client asks for a model that is not served here."""


class SamplingError(errors.RequestError):
    """A client wants an answer drawn by chance where only the likeliest was audited."""


@dataclass(frozen=True)
class Fault:
    """A refusal or a failure, as a client may hear it."""

    code: str
    """For programs; stays the same."""
    status: int
    """For HTTP."""
    message: str
    """For a person: what is wrong, and the way out."""
    retry_after_s: int | None = None
    """When asking again may help."""


@dataclass(frozen=True)
class _Rule:
    code: str
    status: int
    message: str | None = None
    """None: the error's own words, which hold nothing but what the client gave."""


BUSY: Final = "busy"
_STOPPING: Final = "the brain is being stopped: ask again when it is back"
_RULES: Final[dict[type[BaseException], _Rule]] = {
    PictureTooLargeError: _Rule("image_too_large", 413),
    errors.ImageError: _Rule(
        "bad_image", 400, "the picture cannot be read: give a whole JPEG, PNG or WebP"
    ),
    errors.QuestionError: _Rule("bad_question", 400),
    errors.RequestError: _Rule("bad_request", 400),
    errors.AttentionError: _Rule("bad_attention", 400),
    errors.AdapterError: _Rule("bad_adapter", 400),
    errors.PictureNeededError: _Rule(
        "picture_needed", 409, "nothing that fits this model is kept of that user: give a picture"
    ),
    errors.UnknownUserError: _Rule("unknown_user", 404, "nobody is kept under that id"),
    errors.EmbeddingError: _Rule(
        "user_gone", 409, "the user was forgotten or replaced meanwhile: give a picture"
    ),
    errors.IdentityOffError: _Rule(
        "identity_off",
        403,
        "this brain compares nobody with the people it keeps (--no-identify): name the user "
        "yourself",
    ),
    errors.IdentityError: _Rule(
        "identity_not_measured",
        409,
        "who is in view cannot be told: how alike people look was not measured for this bundle, or "
        "not for so many; measure it, or name the user yourself",
    ),
    errors.ConsentError: _Rule(
        "consent_needed", 409, "no consent covers that any more: ask for it again"
    ),
    errors.BusyError: _Rule(BUSY, 429, "too many are waiting: ask again a little later"),
    errors.CancelledError: _Rule("cancelled", 409, "the turn was cancelled"),
    errors.DeadlineError: _Rule(
        "deadline_exceeded", 408, "no word came in time: allow more, or ask when fewer are waiting"
    ),
    UnknownTurnError: _Rule("unknown_turn", 404, "no turn of that id is waiting or running"),
    TurnTakenError: _Rule("turn_taken", 409, "a turn of that id is waiting or running already"),
    UnknownModelError: _Rule(
        "model_not_found", 404, "no such model is served here: GET /v1/models lists them"
    ),
    NoEarsError: _Rule(
        "no_ears", 404, "this brain hears nothing: start it with --hear and a speech model"
    ),
    SoundError: _Rule("bad_sound", 400),
    SamplingError: _Rule("sampling_refused", 400),
    DrainingError: _Rule("draining", 503, _STOPPING),
    errors.StoreError: _Rule(
        "store_failed", 500, "the users' folder cannot be used: the server's log says why"
    ),
    errors.UserVLMError: _Rule(
        "engine_failed", 500, "the engine could not answer: the server's log says why"
    ),
}

INTERNAL: Final = Fault("internal", 500, "the server failed: its log says why")
"""A mistake of ours, not foreseen by any of the above."""


def fault_of(error: errors.UserVLMError, retry_after_s: int | None = None) -> Fault:
    """Say an error to a client.

    Args:
        error: anything the brain raises.
        retry_after_s: when asking again may help, for those faults where it may.
    """
    rule = next(_RULES[kind] for kind in type(error).__mro__ if kind in _RULES)
    again = retry_after_s if rule.status in (429, 503) else None
    return Fault(rule.code, rule.status, rule.message or one_line(str(error)), again)


def one_line(text: str) -> str:
    """Give text in one line, without half characters."""
    return " ".join(text.split()).encode("utf-8", "replace").decode()
