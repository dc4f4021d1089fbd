"""How things stand, for the tablet and the eyes; pure.

Owns: the state that is shown, and the form the page takes (html/page.js). Knows nothing of either.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

from .words import SAYS, SUGGESTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional, Sequence, Text

    from .settings import Settings
    from .terms import Terms
    from .visit import Turn, Visit


def view(visit, state, there, settings, language, terms, offers):
    # type: (Optional[Visit], Text, bool, Settings, Text, Terms, Sequence[Text]) -> Dict[Text, Any]
    """Give the whole of what is shown.

    Args:
        visit: whose.
        state: see `state_of`.
        there: whether there is a brain.
        settings: the suggestions.
        language: en or fr.
        terms: what somebody is asked to agree to.
        offers: what of memory there are buttons for.
    """
    asking = visit is not None and visit.asking
    return {
        "state": state,
        "language": language,
        "turns": visit.lines() if visit is not None else [],
        "suggestions": list(settings.suggestions or SUGGESTIONS[language]),
        "user": _user(visit),
        "offers": list(offers),
        "question": terms.question if asking else "",
        "terms": terms.written if asking else [],
        "notice": "" if there else SAYS[language]["notice_away"][0],
    }


def state_of(visit, turn, speaking, there):
    # type: (Optional[Visit], Optional[Turn], bool, bool) -> Text
    """Give one word for what the robot does.

    Args:
        visit: whose.
        turn: the question there is.
        speaking: whether the robot speaks.
        there: whether there is a brain.
    """
    if visit is not None and visit.asking:
        return "asking"
    if speaking and turn is not None and turn.sentences:
        return "speaking"
    if not there:
        return "away"
    if turn is not None and not turn.over:
        return "thinking"
    if visit is None:
        return "alone"
    return "ready" if visit.user else "looking"


def _user(visit):  # type: (Optional[Visit]) -> Optional[Dict[Text, Any]]
    """Give what is shown of somebody's being kept."""
    if visit is None:
        return None
    if not visit.kept:
        return {"kept": False}
    about = visit.about
    consent = about.get("consent") or {}
    until = about.get("expires")
    return {
        "kept": True,
        "since": (about.get("since") or "")[:10],
        "until": until[:10] if until else None,
        "how": consent.get("how") or "",
        "keeps": consent.get("keeps") or "",
    }
