"""The routes of our own API: people, and the end of turns.

Owns: which call of the brain each is. Knows nothing of how people are kept.
"""

from __future__ import annotations

from datetime import datetime, timezone

from fastapi import APIRouter, Response

from uservlm.runtime.profiles import Consent
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.chat import picture_of
from uservlm.runtime.server.our_forms import (
    Cancelled,
    CancelledAll,
    ConsentForm,
    EncodeRequest,
    ForgottenAll,
    Found,
    IdentifyRequest,
    UserList,
    UserShown,
)
from uservlm.runtime.server.people import UserInfo


def routes(brain: Brain) -> APIRouter:
    """Make them. They wait for the engine, so each runs on a thread."""
    router = APIRouter(prefix="/v1", tags=["people and turns"])

    @router.post("/users/encode")
    def encode(form: EncodeRequest) -> UserShown:
        """Look at somebody, keep them, and prepare for their question."""
        consent = None if form.consent is None else _consent(form.consent)
        return _shown(brain.encode(picture_of(form.image), form.user, consent))

    @router.post("/users/identify")
    def identify(form: IdentifyRequest) -> Found:
        """Find out who is in view; nothing of the picture is written, and it goes from memory."""
        found = brain.identify(picture_of(form.image))
        return Found(kind=found.kind, name=found.name, similarity=found.similarity)

    @router.get("/users")
    def users() -> UserList:
        """Say who is known, what is kept of them, and until when."""
        return UserList(data=[_shown(one) for one in brain.users()])

    @router.delete("/users")
    def forget_all() -> ForgottenAll:
        """Erase everybody."""
        return ForgottenAll(forgotten=brain.forget_all())

    @router.post("/users/{user:path}/consent")
    def remember(user: str, form: ConsentForm) -> UserShown:
        """Keep somebody who was looked at before, a guest too, as they agree now."""
        return _shown(brain.remember(user, _consent(form)))

    @router.get("/users/{user:path}")
    def user(user: str) -> UserShown:
        """Say what is known of one."""
        return _shown(brain.user(user))

    @router.delete("/users/{user:path}", status_code=204)
    def forget(user: str) -> Response:
        """Erase somebody everywhere: memory, KV cache, disk, and what the page remembers."""
        brain.forget(user)
        return Response(status_code=204)

    @router.post("/cancel")
    def cancel_all() -> CancelledAll:
        """End every turn that is waiting or running."""
        return CancelledAll(cancelled=brain.cancel_all())

    @router.post("/cancel/{turn}")
    def cancel(turn: str) -> Cancelled:
        """End one turn; whoever asked hears of it."""
        brain.cancel(turn)
        return Cancelled(id=turn)

    return router


def _shown(user: UserInfo) -> UserShown:
    return UserShown.model_validate(user.record())


def _consent(form: ConsentForm) -> Consent:
    return Consent(datetime.now(timezone.utc), form.how, form.keeps, form.days)
