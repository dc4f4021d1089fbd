"""What the server layer keeps of people in memory, and how it goes; on the real engine."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from asking import LONG, QUESTION

from uservlm.runtime import Consent, GenerationOptions, UserVLM
from uservlm.runtime.errors import UnknownUserError
from uservlm.runtime.roster import Entry
from uservlm.runtime.server import people
from uservlm.runtime.server.brain import Brain
from uservlm.runtime.server.faults import Fault
from uservlm.runtime.server.limits import Limits
from uservlm.runtime.server.people import Times
from uservlm.runtime.server.turn import Question, Turn
from uservlm.runtime.store import MAX_USERS

SHORT = GenerationOptions(max_new_tokens=2)


class Ears:
    """Hears one turn's end: None, or its fault."""

    def __init__(self) -> None:
        self.ends: SimpleQueue[Fault | None] = SimpleQueue()

    def said(self, turn: Turn, text: str) -> None:
        """Nothing to do."""

    def answered(self, turn: Turn) -> None:
        self.ends.put(None)

    def failed(self, turn: Turn, fault: Fault) -> None:
        self.ends.put(fault)


@pytest.fixture
def brain(tiny_bundle: Path, tmp_path: Path) -> Iterator[Brain]:
    people = tmp_path / "people"
    with UserVLM.load(tiny_bundle, users=people, threads=1, context=4096, verify=False) as vlm:
        made = Brain(vlm, Limits(answer_tokens=5000))
        yield made
        made.close()


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (40, 50, 3), dtype=np.uint8)


def ask(brain: Brain, **question: object) -> Fault | None:
    ears = Ears()
    brain.ask(Question(QUESTION, options=SHORT, **question), ears)  # type: ignore[arg-type]
    return ears.ends.get(timeout=20)


def test_a_turn_that_has_ended_holds_its_picture_no_more(brain: Brain) -> None:
    shown = picture(1)
    gone = weakref.ref(shown)
    assert ask(brain, image=shown) is None
    del shown
    brain.scene.forget()  # who is in view is shown for two minutes
    gc.collect()
    assert len(brain.register.all) == 1
    assert gone() is None


def test_what_nobody_named_goes_when_it_has_gathered_for_long(
    vlm: UserVLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who is only ever shown in a picture is nobody's to forget, and goes all the same."""
    brain, hour = Brain(vlm), Limits().unseen_s
    assert ask(brain, image=picture(1), attention="resident") is None
    brain.sweep()
    assert vlm._looker.remembered and vlm._prefiller.cells and brain.register.all
    monkeypatch.setattr(people, "monotonic", lambda: time.monotonic() + hour)
    grace = brain.encode(picture(2), "grace").entry.digest
    brain.sweep()
    assert vlm._looker.remembered == {grace}
    assert vlm._prefiller.cells.keys() <= {grace}
    assert not brain.register.all
    brain.close()


def test_forgetting_somebody_takes_what_may_be_theirs(brain: Brain) -> None:
    """Their picture, asked about without their name, is theirs all the same."""
    brain.encode(picture(1), "grace")
    brain.encode(picture(2), "sam")
    assert ask(brain, user="sam") is None
    assert ask(brain, user="grace") is None
    assert ask(brain, image=picture(3)) is None
    brain.forget("grace")
    assert brain.scene.view is None
    assert [turn.user for turn in brain.register.all] == ["sam"]
    assert brain.vlm._looker.remembered == {brain.vlm.users.find("sam").digest}


def test_forgetting_everybody_leaves_nobody_and_nothing(brain: Brain) -> None:
    assert ask(brain, image=picture(3)) is None
    brain.encode(picture(1), "grace")
    assert brain.forget_all() == 1
    assert (brain.users(), brain.register.all, brain.scene.view) == ((), (), None)
    assert not brain.vlm._looker.remembered and not brain.vlm._prefiller.cells


def test_forgetting_one_does_not_hold_up_a_question_about_another(brain: Brain) -> None:
    for seed, name in enumerate(("ada", "grace", "sam")):
        brain.encode(picture(seed), name)
    running, late = Ears(), Ears()
    long = GenerationOptions(max_new_tokens=4000, temperature=LONG.temperature, seed=LONG.seed)
    turn = brain.ask(Question(QUESTION, user="ada", options=long), running)
    while turn.state != "speaking":
        time.sleep(0.005)
    forgetting = threading.Thread(target=brain.forget, args=("grace",))
    forgetting.start()
    time.sleep(0.05)
    brain.ask(Question(QUESTION, user="sam", options=SHORT, deadline_s=0.1), late)
    fault = late.ends.get(timeout=20)
    assert fault is not None and fault.code == "deadline_exceeded"
    assert forgetting.is_alive() and turn.state == "speaking", "all of it while that one runs"
    turn.cancel()
    forgetting.join(20)
    assert {user.id for user in brain.users()} == {"ada", "sam"}


def test_who_was_forgotten_while_they_were_kept_is_not_in_view(
    brain: Brain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brain, "_prepare", brain.vlm.users.forget)
    with pytest.raises(UnknownUserError):
        brain.encode(picture(1), "grace")
    assert brain.scene.view is None


def test_whose_consent_runs_out_leaves_the_page_too(brain: Brain) -> None:
    agreed = Consent(datetime.now(timezone.utc), "said yes", "embedding", days=1.5 / 86_400)
    brain.encode(picture(1), "grace", agreed)
    assert ask(brain, user="grace") is None
    time.sleep(1.6)
    assert brain.users() == (), "at once, for whoever asks"
    brain.sweep()
    assert (brain.register.all, brain.scene.view) == ((), None)


def test_who_makes_way_for_others_leaves_the_page_too(brain: Brain) -> None:
    brain.encode(picture(0), "grace")
    assert ask(brain, user="grace") is None
    for seed in range(1, MAX_USERS + 1):
        brain.vlm.users.keep(f"guest {seed}", brain.vlm.encode(picture(seed)))
    assert "grace" not in {user.id for user in brain.users()}
    brain.sweep()
    assert (brain.register.all, brain.scene.view) == ((), None)


def test_who_comes_while_the_roster_is_read_keeps_their_time() -> None:
    times = Times(0.1)
    asked = time.monotonic()
    times.note("grace")
    assert times.describe((), asked) == ()
    time.sleep(0.15)
    assert times.overdue("grace")


def test_who_is_kept_without_a_time_gets_one() -> None:
    times = Times(0.1)
    (shown,) = times.describe((Entry("grace", "digest", 4, 0, None),), time.monotonic())
    assert shown.expires is not None
    time.sleep(0.15)
    assert times.overdue("grace")


def test_who_forgets_waits_for_it_and_nobody_else_does(vlm: UserVLM) -> None:
    """Another thread that comes in between must not take over what is still to be overwritten."""
    store, lock, told = vlm.users, vlm.users._lock, []
    for seed, name in enumerate(("ada", "grace")):
        picture = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        store.keep(name, vlm.encode(picture))

    class InBetween:
        """The store's lock; as soon as it is let go of, somebody else looks for ada."""

        def __enter__(self) -> None:
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()
            if threading.current_thread() is threading.main_thread():
                other = threading.Thread(target=store.find, args=("ada",))
                other.start()
                other.join(10)

    dropped = store._dropped
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_lock", InBetween())
        patch.setattr(
            store,
            "_dropped",
            lambda gone: (told.append(threading.current_thread()), dropped(gone)),
        )
        store.forget("grace")
    assert told == [threading.main_thread()]
    store.forget("ada")
