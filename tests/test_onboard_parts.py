"""The pure parts of the app on Pepper's head."""

from __future__ import annotations

import io
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from uservlm.pepper_app.project.onboard import words
from uservlm.pepper_app.project.onboard.clean import speakable
from uservlm.pepper_app.project.onboard.hearing import commanded
from uservlm.pepper_app.project.onboard.hearsay import contains, own_voice
from uservlm.pepper_app.project.onboard.lights import COLOURS, Lights
from uservlm.pepper_app.project.onboard.loop import Loop
from uservlm.pepper_app.project.onboard.png import png
from uservlm.pepper_app.project.onboard.presence import GONE_LOOKS, GONE_S, TURNED_S, Presence
from uservlm.pepper_app.project.onboard.problem import SettingError
from uservlm.pepper_app.project.onboard.settings import Settings, read
from uservlm.pepper_app.project.onboard.touch import BACK, HEAD, HOLD_S, Touch


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Hello there.", "Hello there."),
        ("^call(ALSystem.shutdown()) Hi", "Hi"),
        ("Hi ^start(animations/Stand/Gestures/Hey_1) you ^wait(x)!", "Hi you!"),
        ("^pCall(ALMotion.rest())", ""),
        ("Watch $Danger=1 this", "Watch this"),
        (r"\vct=150\ squeak \pau=1000\ and go", "squeak and go"),
        ("It costs $5.50 or $1,000.", "It costs 5.50 dollars or 1,000 dollars."),
        ("**Bold** and `code` # title", "Bold and code title"),
        ("two\nlines\u2028three\x07", "two lines three"),
        ("L'été, c'est déjà fini ?", "L'été, c'est déjà fini?"),
        ("...", ""),
        ("^", ""),
        ("^call(a.b(c(d(e))))x", "x"),
    ],
)
def test_what_a_voice_would_execute_is_not_said(written: str, said: str) -> None:
    assert speakable(written) == said


@given(st.text(alphabet="^$\\abc=()/. 5\n{}<>", max_size=60) | st.text(max_size=60))
def test_no_sign_of_a_command_is_ever_left(written: str) -> None:
    said = speakable(written)
    assert not set(said) & set("^$\\<>{}\n\x00\u2028")
    assert speakable(said) == said


def sees(presence: Presence, now: float, *seen: Any, **listed: Any) -> int | None:
    """Look several times, as often as it takes to believe that somebody has left."""
    return [presence.see(now, *seen, **listed) for _ in range(GONE_LOOKS)][-1]


def test_somebody_near_is_with_the_robot_until_they_are_gone_for_a_while() -> None:
    presence = Presence(near_m=1.5, far_m=2.5)
    assert presence.see(0.0, {7: 3.0}) is None
    assert presence.others == 1
    assert presence.see(1.0, {7: 1.4}) == 7
    assert presence.others == 0
    assert presence.see(2.0, {7: 2.4, 8: 0.5}) == 7, "who comes nearer has to wait"
    assert presence.others == 1
    assert presence.see(2.5, {}) == 7, "the lists flicker"
    assert presence.see(2.0 + GONE_S, {7: 2.0, 8: 0.5}) == 7
    assert presence.see(6.0, {7: 2.6, 8: 0.5}) == 7, "one look says nothing"
    assert sees(presence, 6.0, {7: 2.6, 8: 0.5}) == 8
    assert presence.see(7.0, {8: 2.0, 9: 1.0}) == 8
    assert sees(presence, 7.0 + GONE_S + 0.1, {}) is None


def test_whom_the_robot_has_not_lost_is_still_there_unless_somebody_else_is() -> None:
    presence = Presence(near_m=1.5, far_m=2.5)
    presence.see(0.0, {7: 1.0})
    assert sees(presence, TURNED_S - 0.1, {}, listed=[7]) == 7
    assert sees(presence, TURNED_S + 0.1, {}, listed=[7]) is None
    presence.see(10.0, {7: 1.0})
    assert sees(presence, 10.1 + GONE_S, {8: 1.0}, listed=[7, 8]) == 8, "7 is listed and has left"


def test_of_two_who_come_the_nearer_is_taken() -> None:
    assert Presence(1.5, 2.5).see(0.0, {1: 1.4, 2: 0.7}) == 2


def test_the_eyes_show_one_state_after_the_other_and_the_latest_in_the_end() -> None:
    """Two fades on their way could overtake each other."""

    class Eyes:
        def __init__(self) -> None:
            self.shown: list[int] = []

        def begin(self, done: Any, _: str, method: str, *values: Any) -> object:
            self.shown.append(values[1])
            self.done = done
            return self

    eyes = Eyes()
    lights = Lights(eyes)  # type: ignore[arg-type]
    for state in ("thinking", "ready", "speaking"):
        lights.show(state)
    assert eyes.shown == [COLOURS["thinking"]]
    for _ in range(2):
        eyes.done(None, None)
    assert eyes.shown == [COLOURS["thinking"], COLOURS["speaking"]]


def test_the_robot_knows_its_own_voice() -> None:
    said = "Open the call app, choose a name, then press the camera button."
    assert own_voice("choose a name then press the camera", said)
    assert own_voice("open call up choose the name than press the camera button", said)
    assert not own_voice("how do I make a video call", said)
    assert not own_voice("choose a name", "")
    assert contains("Say forget me whenever you like.", ["forget me"])
    assert not contains("Say forget them.", ["forget me"])


def test_free_speech_is_a_command_when_it_is_nothing_else() -> None:
    assert commanded("Stop!", "en") == "stop"
    assert commanded("Forget me.", "en") == "forget"
    assert commanded("Oublie-moi", "fr") == "forget"
    assert commanded("How do I stop the music?", "en") == "ask"


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_a_png_is_the_picture(width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    opened = Image.open(io.BytesIO(png(width, height, pixels.tobytes())))
    assert np.array_equal(np.asarray(opened), pixels)


def test_a_png_of_another_size_than_its_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="11 bytes are no 2 x 2 picture"):
        png(2, 2, bytes(11))


def test_settings_that_are_not_there_are_the_defaults(tmp_path: Path) -> None:
    settings = read(str(tmp_path / "settings.json"))
    assert (settings.brain, settings.listen, settings.near_m) == ("", ("dialog",), 1.5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"brian": "http://x"}, "no setting brian"),
        ({"brain": "pepper.local"}, "brain is http://HOST:PORT"),
        ({"language": "de"}, "en or fr"),
        ({"listen": ["sonar"]}, "sonar"),
        ({"near_m": 3}, "near_m <= far_m"),
        ({"near_m": True}, "near_m is a float"),
        ({"days": 0}, "days is 1 or more"),
        ({"days": True}, "days is a int"),
        ({"keeps": "all"}, "profile, embedding or state"),
        ({"recognise": "always"}, "when_asked, on_sight or never, not always"),
        ({"asks": 0}, "asks is a bool"),
        ({"suggestions": ["a"] * 9}, "eight"),
        ({"suggestions": [" "]}, "questions"),
        ([], "no JSON object"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: object, says: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(given))
    with pytest.raises(SettingError, match=says):
        read(str(file))


def test_settings_that_are_no_json_are_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(SettingError, match="no JSON"):
        read(str(tmp_path / "settings.json"))
    with pytest.raises(SettingError, match="settings.json: Is a directory"):
        (tmp_path / "folder" / "settings.json").mkdir(parents=True)
        read(str(tmp_path / "folder" / "settings.json"))


def test_every_language_says_everything() -> None:
    keys = {language: set(said) for language, said in words.SAYS.items()}
    assert keys["en"] == keys["fr"]
    assert set(words.COMMANDS["en"]) == set(words.COMMANDS["fr"])
    for said in words.SAYS.values():
        for texts in said.values():
            for text in texts:
                assert speakable(text) == re.sub(r" ([?!:])", r"\1", text)
    assert Settings().suggestions == () and len(words.SUGGESTIONS["en"]) <= 8


def test_a_loop_keeps_the_order_of_what_is_posted_and_of_what_is_due() -> None:
    loop, done = Loop(pace=100), []
    waits = random.Random(0).sample(range(1, 30), 12)
    for wait in waits:
        loop.after(wait, done.append, wait)
    called_off = loop.after(5, done.append, "never")
    called_off.cancel()
    loop.post(done.append, "first")
    loop.post(done.append, "second")
    loop.after(40, loop.end)
    loop.run()
    assert done == ["first", "second", *sorted(waits)]


@pytest.mark.parametrize(
    ("hand", "wants"),
    [
        ([(BACK, 1, 0), (BACK, 0, 0)], ["stop", "stop"]),
        ([(BACK, 1, HOLD_S), (BACK, 0, 0)], ["stop", "forget"]),
        ([(BACK, 1, HOLD_S), (BACK, 0, 0), (BACK, 1, 0)], ["stop", "forget", "stop"]),
        ([(BACK, 1, HOLD_S), (BACK, 1, 0)], ["stop", "forget", "stop"]),
        ([(BACK, 1, HOLD_S), (HEAD[0], 1, 0)], ["stop", "forget", "stop"]),
        ([(HEAD[0], 1, HOLD_S), (HEAD[0], 0, 0)], ["stop", "stop"]),
    ],
)
def test_a_hand_that_asked_to_be_forgotten_stops_nothing_when_it_leaves(
    hand: list[tuple[str, int, float]], wants: list[str]
) -> None:
    loop, found = Loop(pace=1000), list[str]()
    feel = Touch(loop, found.append).events()

    def step(left: list[tuple[str, int, float]]) -> None:
        if not left:
            return loop.end()
        sensor, value, seconds = left[0]
        feel[sensor](value)
        # Longer than the hold, so that its timer, asked for before this one, is over.
        loop.after(seconds * 2, step, left[1:])

    loop.post(step, hand)
    loop.run()
    assert found == wants
