"""The routes of the ears: sound in, text out.

Owns: the form of a request whose body is sound. Knows nothing of how it is heard.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from uservlm.runtime.server.faults import SoundError
from uservlm.runtime.server.forms import TURN_ID
from uservlm.runtime.server.hearing import Hearing
from uservlm.runtime.server.our_forms import HeardShown

SOUND: Final = "application/octet-stream"
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "int16, little endian, one channel, 16 kHz; at most 65,536 bytes",
        "content": {SOUND: {"schema": {"type": "string", "format": "binary"}}},
    }
}
Session = Annotated[str, Path(pattern=TURN_ID, description="Of the client's own; as a turn's id.")]


def routes(hearing: Hearing) -> APIRouter:
    """Make them. Sound waits to be decoded, so that is done on a thread."""
    router = APIRouter(prefix="/v1/hearing", tags=["ears"])

    @router.post("/{session}", openapi_extra=_BODY)
    async def hear(session: Session, request: Request) -> HeardShown:
        """Hear a piece of sound: what was said whole, and what is being said."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != SOUND:
            raise SoundError(f"send the samples alone, with Content-Type: {SOUND}")
        pcm = await request.body()
        understood = await run_in_threadpool(hearing.take, session, pcm)
        return HeardShown(heard=list(understood.heard), partial=understood.partial)

    @router.delete("/{session}", status_code=204)
    def drop(session: Session) -> Response:
        """Drop what is in progress: the robot begins to speak, or nobody asks any more."""
        hearing.drop(session)
        return Response(status_code=204)

    return router
