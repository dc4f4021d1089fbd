"""The conversation: who is there, what they want, and what follows.

Owns: the visit there is, and that every word, touch and press leads to one thing. Knows nothing of
NAOqi or of the brain's doors; its parts are given to it, and some of them come later or never.
"""

from __future__ import absolute_import, division, print_function, unicode_literals

import logging
import random

from .answering import Answering, Host
from .consent import Asker, Consents
from .hearsay import alike, contains, own_voice
from .looking import Looking
from .recognition import Recognition
from .terms import Terms
from .view import state_of, view
from .visit import Visit
from .words import COMMANDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Mapping, Optional, Text

    from .brain import Brains
    from .debts import Debts
    from .loop import Loop, Timer
    from .problem import BrainError
    from .settings import Settings
    from .speaker import Speaker
    from .visit import Turn

VOICE, TABLET, TOUCH = "voice", "tablet", "touch"
LONGEST = 500
"""Characters of a question."""
QUIET_S = 60.0
"""After which somebody who was only heard is taken to have left."""
HEARD_S = 5.0
"""Who asks from afar and comes near within this is the same."""
TWICE_S = 2.0
"""Within this the same question is one question."""
ONE_ANSWER = 1
"""After so many answers a stranger is asked whether to be remembered."""
_LOG = logging.getLogger("uservlm")


class Conversation(Host, Asker):
    """See the module; every method is for the loop's thread."""

    def __init__(self, loop, brain, speaker, debts, settings, language):
        # type: (Loop, Brains, Speaker, Debts, Settings, Text) -> None
        """Talk to nobody yet.

        Args:
            loop: where it happens.
            brain: thinks.
            speaker: speaks.
            debts: forgets.
            settings: the deployer's.
            language: en or fr.
        """
        self._loop, self._brain, self._speaker = loop, brain, speaker
        self._settings, self._language = settings, language
        self._terms = Terms(settings, language)
        self.recognition = Recognition(settings.recognise)
        self.answering = Answering(loop, brain, speaker, self)
        self.looking = Looking(loop, brain, debts, self.recognition, self._found)
        self.looking.alone = self.alone
        self._debts, self._others = debts, 0
        self._person = None  # type: Optional[int]
        self.consents = Consents(loop, brain, debts, settings, self.recognition, self)
        self.visit = None  # type: Optional[Visit]
        self.shows = lambda state: None  # type: Callable[[Mapping[Text, Any]], Any]
        """Gets what the tablet is to show, whenever it changes."""
        self.finished = lambda turn: None  # type: Callable[[Turn], Any]
        """Gets each turn when its answer has been said, or ends otherwise."""
        self._quiet = None  # type: Optional[Timer]

    def focus(self, person, others):  # type: (Optional[int], int) -> None
        """Be with somebody, or nobody, and know how many more are in view."""
        self._others = others
        if others:
            self.consents.crowded()
        if person != self._person:
            self._person = person
            self.consents.crowded()
            question = self._fresh_question()
            if person is not None or (self.visit is not None and self.visit.person is not None):
                self._leave()
            if person is not None:
                self.visit = Visit(person)
                self._welcome(question)
        elif self.visit is not None and self.visit.wish and not others:
            self.look()
        self.changed()

    def alone(self):  # type: () -> bool
        """See `Asker`."""
        return self._others == 0

    def talking(self):  # type: () -> bool
        """See `Asker`."""
        return self._speaker.speaking

    def want(self, what, text, way):  # type: (Text, Text, Text) -> None
        """Do what somebody wants.

        Args:
            what: ask, stop, know, forget, remember, yes or no.
            text: the question, when they ask; else what was heard, if that is known.
            way: voice, tablet or touch.
        """
        if way == VOICE and self._heard_itself(what, text):
            _LOG.info("heard its own voice")
            return
        if what == "ask":
            self._ask(text)
        elif what == "stop":
            self._stop()
        elif self.visit is not None and what in ("know", "forget", "remember", "yes", "no"):
            self._about_memory(self.visit, what, way)
        self.changed()

    def brain_changed(self, there):  # type: (bool) -> None
        """Note that the brain has come or gone."""
        visit = self.visit
        if there:
            self._debts.pay()  # before anybody is recognised who is to be forgotten
        if there and visit is not None:
            if not visit.user:
                self.look()
            elif self.answering.waiting:
                self.answering.go_on()
            else:
                self._wake(visit)
        self.changed()

    def speaking(self):  # type: () -> None
        """Note that the robot has begun or ceased to speak."""
        visit, turn = self.visit, self.answering.turn
        if not self._speaker.speaking:
            if visit is not None and visit.asking:
                self.consents.spoken(visit)
            elif turn is not None and turn.over:
                self._answered(turn)
        self.changed()

    def word(self, _):  # type: (Any) -> None
        """Note that a word is being said."""
        turn = self.answering.turn
        if turn is not None and "voice" in turn.times:
            turn.note("word", self._loop.now())

    def close(self):  # type: () -> None
        """Talk to nobody any more."""
        self._leave()
        self._speaker.close()

    def own(self, key):  # type: (Text) -> None
        """See `Host`."""
        text = random.choice(self._terms.says(key))
        if self._speaker.say(text) and self.visit is not None and key not in ("filler", "busy"):
            self.visit.line("robot", text)
        self.changed()

    def look(self):  # type: () -> None
        """See `Host`."""
        if self.visit is not None:
            self.looking.begin(self.visit)

    def look_again(self):  # type: () -> None
        """See `Asker`."""
        visit = self.visit
        if visit is not None:
            if visit.user and not (visit.kept or visit.maybe_kept):
                self._debts.drop(visit.user)
            visit.user = ""
            self.look()

    def lost_sight(self):  # type: () -> None
        """See `Host`."""
        visit = self.visit
        if visit is not None and visit.user:
            if not (visit.kept or visit.maybe_kept):
                self._debts.drop(visit.user)  # what is left of them there
            visit.user, visit.kept, visit.maybe_kept, visit.about = "", False, False, {}

    def ended(self, turn):  # type: (Turn) -> None
        """See `Host`."""
        if not self._speaker.speaking:
            self._answered(turn)
        self.changed()

    def changed(self):  # type: () -> None
        """See `Host`."""
        there = self._brain.there
        state = state_of(self.visit, self.answering.turn, self._speaker.speaking, there)
        offers = self.recognition.offers(self.visit) if self.visit is not None else ()
        self.shows(
            view(self.visit, state, there, self._settings, self._language, self._terms, offers)
        )

    def _ask(self, text):  # type: (Text) -> None
        question = " ".join(text.split())[:LONGEST]
        if not question or self._heard_twice(question):
            return
        if self.visit is None:
            self.visit = Visit(None)
        visit = self.visit
        if visit.asking:
            self.consents.drop(visit)
        visit.line("person", question)
        self.answering.begin(visit, question)
        self._stay()

    def _heard_twice(self, question):  # type: (Text) -> bool
        """Tell whether two recognisers have understood the same words."""
        turn = self.answering.turn
        if turn is None or self._loop.now() - turn.times["heard"] > TWICE_S:
            return False
        return alike(question, turn.question)

    def _stop(self):  # type: () -> None
        self.answering.stop()
        if self.visit is not None and self.visit.asking:
            self.consents.drop(self.visit)

    def _about_memory(self, visit, what, way):  # type: (Visit, Text, Text) -> None
        if what == "forget":
            self.answering.stop()
            self.consents.forget(visit)
            self.look()  # a stranger is served
        elif what == "know":
            self.answering.stop()
            self.consents.know(visit)
        elif what == "remember":
            self.consents.ask(visit)
        elif what == "yes":
            self.consents.yes(visit, TABLET if way == TABLET else VOICE)
        else:
            self.consents.no(visit)

    def _heard_itself(self, what, text):  # type: (Text, Text) -> bool
        said = self._speaker.heard_as()
        if what == "ask" or text:
            return own_voice(text, said)
        return contains(said, COMMANDS[self._language][what])

    def _found(self, visit, why):  # type: (Visit, Optional[Text]) -> None
        """Go on when somebody was looked at, or could not be."""
        if visit is not self.visit:
            return
        if why is not None:
            self.answering.unseen()
        else:
            if visit.kept:
                self.consents.describe(visit)
            if visit.wish:
                self.consents.recognised(visit)
            elif visit.kept and self.answering.turn is None:
                self.own("again")
            if visit.user:
                self.answering.go_on()
            else:
                self.look()
        self.changed()

    def _answered(self, turn):  # type: (Turn) -> None
        """Go on when an answer has been said to its end, or was broken off."""
        if turn.reported:
            return
        turn.reported = True
        self.finished(turn)
        visit = self.visit
        if visit is None or turn is not self.answering.turn:
            return
        if turn.failed or not turn.sentences:
            return
        visit.answers += 1
        ready = self._settings.asks and visit.answers >= ONE_ANSWER and not visit.asked_consent
        if ready and not visit.maybe_kept and self.consents.may_ask(visit):
            self.consents.ask(visit)

    def _wake(self, visit):  # type: (Visit) -> None
        """Have a brain that has come back prepare for them; a new one does not know guests."""
        user = visit.user

        def woken(_, error):  # type: (Any, Optional[BrainError]) -> None
            unknown = error is not None and error.code in ("unknown_user", "picture_needed")
            if unknown and visit is self.visit and visit.user == user:
                self.lost_sight()
                self.look()

        self._brain.wake(user, woken)

    def _leave(self):  # type: () -> None
        """End the visit there is; who did not agree to be kept is forgotten."""
        visit, self.visit = self.visit, None
        if visit is None:
            return
        visit.over = True
        if visit.asking:
            self.consents.drop(visit)
        self.answering.stop()
        self.answering.leave()
        if visit.user and not (visit.kept or visit.maybe_kept):
            self._debts.drop(visit.user)

    def _welcome(self, question):  # type: (Text) -> None
        """Greet who has come; whoever was heard a moment ago has come nearer, and asks again."""
        if question:
            self._ask(question)
        else:
            self.own("hello")
            self.look()

    def _fresh_question(self):  # type: () -> Text
        """Give what somebody who was only heard has just asked, if it is not answered yet."""
        visit, turn = self.visit, self.answering.turn
        if visit is None or visit.person is not None or turn is None or turn.sentences:
            return ""
        return turn.question if self._loop.now() - turn.times["heard"] < HEARD_S else ""

    def _stay(self):  # type: () -> None
        """Let a visit of somebody who was only heard end when they are quiet."""
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = self._loop.after(QUIET_S, self._gone)

    def _gone(self):  # type: () -> None
        if self.visit is not None and self.visit.person is None:
            self._leave()
            self.changed()
