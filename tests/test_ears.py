"""Speech to text with real sherpa-onnx, on a model of tones that is made here."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("sherpa_onnx")

import onnx
from qi_bus import wait_for
from tones import RATE, Kind, hum, silence, tone_model, tones

from uservlm.runtime.errors import BusyError, RequestError
from uservlm.runtime.server.ears import Ears, written
from uservlm.runtime.server.faults import SoundError
from uservlm.runtime.server.limits import Limits
from uservlm.runtime.server.listening import Heard, Listening
from uservlm.runtime.server.speech_model import find_model

ASKED = "how do i make a video"
BUFFER = 2 * 1365
"""Bytes of what ALAudioDevice sends at once."""
PAUSE = silence(1.2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tone_model(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def ears(model: Path) -> Iterator[Ears]:
    opened = Ears.open(model)
    yield opened
    opened.close()


@pytest.fixture
def listening(ears: Ears) -> Iterator[Listening]:
    made = ears.listen()
    yield made
    made.close()


def heard(listening: Listening, pcm: bytes, size: int = BUFFER) -> list[Heard]:
    """Speak, in pieces as a microphone gives them."""
    pieces = [pcm[place : place + size] for place in range(0, len(pcm), size)]
    return [one for piece in pieces for one in listening.take(piece)]


def finals(found: list[Heard]) -> list[str]:
    return [one.text for one in found if one.final]


@pytest.mark.parametrize("kind", ["zipformer2", "nemo", "transducer"])
def test_tones_become_their_text_as_they_come_and_whole_at_the_pause(
    tmp_path: Path, kind: Kind
) -> None:
    ears = Ears.open(tone_model(tmp_path, kind))
    listening = ears.listen()
    said = heard(listening, silence(0.5) + tones(ASKED))
    partials = [one.text for one in said]
    assert not finals(said) and len(partials) > 5
    assert all(later.startswith(one) for one, later in zip(partials, partials[1:], strict=False))
    assert listening.partial == partials[-1] and ASKED.startswith(partials[-1])
    assert finals(heard(listening, PAUSE)) == [ASKED] and listening.partial == ""
    assert heard(listening, tones("again") + PAUSE, 40_000)[-1] == Heard("again", True)
    ears.close()


def test_two_sentences_in_one_piece_are_two(listening: Listening) -> None:
    piece = tones("yes") + silence(0.9, 0) + tones("no")
    assert len(piece) <= Limits().sound_bytes
    assert finals(heard(listening, piece + PAUSE, len(piece))) == ["yes", "no"]


def test_silence_and_noise_are_nothing(listening: Listening) -> None:
    assert heard(listening, silence(0) + silence(9)) == []
    assert heard(listening, bytes(64_000)) == []
    assert listening.take(b"") == []


def test_two_speakers_are_not_mixed(ears: Ears) -> None:
    one, other = ears.listen(), ears.listen()
    said: dict[Listening, list[Heard]] = {one: [], other: []}
    sounds = {one: tones("who am i") + PAUSE, other: tones("what is it") + PAUSE}
    for place in range(0, max(map(len, sounds.values())), BUFFER):
        for listening, sound in sounds.items():
            said[listening] += listening.take(sound[place : place + BUFFER])
    assert finals(said[one]) == ["who am i"] and finals(said[other]) == ["what is it"]
    one.close()
    other.close()


def test_nothing_is_heard_while_muted_and_nothing_of_before_stays(listening: Listening) -> None:
    assert heard(listening, tones("how do")) and listening.partial
    listening.mute()
    assert listening.partial == ""
    assert heard(listening, hum(1) + tones("it is me") + PAUSE) == []
    listening.unmute()
    assert finals(heard(listening, tones("go on") + PAUSE)) == ["go on"]
    heard(listening, tones("how do"))
    listening.drop()
    assert finals(heard(listening, PAUSE)) == []


def test_the_robots_own_voice_would_be_taken_for_speech(listening: Listening) -> None:
    """So the tests that mute it show something."""
    assert finals(heard(listening, hum(1) + PAUSE)) == ["mm"]


def test_who_is_told_does_not_wait(ears: Ears) -> None:
    told: list[Heard] = []
    listening = ears.listen(told.append)
    begun = time.perf_counter()
    for place in range(0, len(tones("hello") + PAUSE), BUFFER):
        listening.put((tones("hello") + PAUSE)[place : place + BUFFER])
    assert time.perf_counter() - begun < 0.5
    wait_for(lambda: told and told[-1].final)
    assert told[-1].text == "hello"
    listening.close()
    assert listening.put(PAUSE) is None


def test_what_decoding_cannot_keep_up_with_is_dropped(ears: Ears) -> None:
    gate, told = threading.Event(), threading.Event()

    def hold(_: Heard) -> None:
        told.set()
        gate.wait(20)

    slow, other = ears.listen(hold), ears.listen()
    slow.put(tones("a b c"))
    assert told.wait(20), "the ears are held up"
    second = silence(1)
    for _ in range(5):
        other.put(second)
    with pytest.raises(BusyError):
        other.put(second)
    gate.set()
    slow.close()
    assert finals(heard(other, tones("now") + PAUSE)) == ["now"]
    other.close()


def test_so_many_are_listened_to_and_who_is_silent_for_long_makes_way(model: Path) -> None:
    ears = Ears.open(model, replace(Limits(), listenings=2, listening_s=0.5))
    first, second = ears.listen(), ears.listen()
    with pytest.raises(BusyError):
        ears.listen()
    first.take(tones("a"))
    wait_for(lambda: first.closed and second.closed)
    assert first.take(tones("a")) == [] and first.partial == ""
    assert finals(heard(ears.listen(), tones("me") + PAUSE)) == ["me"]
    ears.close()


@pytest.mark.parametrize("pcm", [b"\0", bytes(2**16 + 2), bytes(2**16 - 1)])
def test_what_is_no_sound_is_refused(listening: Listening, pcm: bytes) -> None:
    with pytest.raises(SoundError, match="int16"):
        listening.take(pcm)


def test_any_bytes_are_some_sound(listening: Listening) -> None:
    for seed in range(20):
        listening.take(bytes((seed * place * place) % 256 for place in range(2 * RATE)))
    listening.drop()
    assert finals(heard(listening, tones("fine") + PAUSE)) == ["fine"]


def test_capitals_become_a_sentence() -> None:
    assert written(" HOW DO  I ") == "How do i" and written("I am OK") == "I am OK"


def test_neither_sound_nor_text_is_logged_or_shown(
    ears: Ears, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        listening = ears.listen()
        found = heard(listening, tones("secret") + PAUSE)
        listening.close()
    assert finals(found) == ["secret"]
    assert "secret" not in caplog.text + repr(found) + repr(listening)


LACKING = {
    "tokens.txt": "no tokens.txt$",
    "encoder-epoch-1.onnx": r"no encoder\*.onnx$",
    "joiner-epoch-1.onnx": r"no joiner\*.onnx$",
}


@pytest.mark.parametrize("name", LACKING)
def test_what_a_folder_lacks_is_named(tmp_path: Path, name: str) -> None:
    folder = tone_model(tmp_path, "transducer")
    assert find_model(folder).kind == "transducer"
    (folder / name).unlink()
    with pytest.raises(RequestError, match=LACKING[name]):
        Ears.open(folder)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such folder"):
        Ears.open(tmp_path / "nowhere")
    with pytest.raises(RequestError, match=r"no tokens.txt, no encoder\*.onnx"):
        Ears.open(tmp_path)
    (tmp_path / "tokens.txt").write_text("<blk> 0\n")
    for data in (b"", b"\x00", b"\xff" * 50, b"\x0a\xff\xff\xff\x7f", b"not a model at all"):
        (tmp_path / "model.onnx").write_bytes(data)
        with pytest.raises(RequestError, match=r"model\.onnx is no "):
            Ears.open(tmp_path)
    for name in ("one.int8.onnx", "two.int8.onnx"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(RequestError, match="leave one of one.int8.onnx, two.int8.onnx"):
        Ears.open(tmp_path)


def test_the_smaller_file_is_taken(model: Path) -> None:
    assert Path(find_model(model).files["model"]).name == "ctc-epoch-1.int8.onnx"
    assert find_model(model).kind == "zipformer2_ctc"


def test_a_model_that_would_end_the_process_ends_a_trial(tmp_path: Path) -> None:
    """sherpa-onnx calls exit where a token or an entry of the metadata is missing."""
    folder = tone_model(tmp_path, "nemo")
    tokens = folder / "tokens.txt"
    whole = tokens.read_text()
    tokens.write_text(whole.replace("<blk>", "<none>"))
    with pytest.raises(RequestError, match="does not run: .*<blk>"):
        Ears.open(folder)
    tokens.write_text(whole)
    model = onnx.load(folder / "model.onnx")
    del model.metadata_props[0]
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(RequestError, match="does not run: .*window_size"):
        Ears.open(folder)


def test_without_the_extra_the_command_says_what_to_install(
    tiny_bundle: Path, model: Path, tmp_path: Path
) -> None:
    """A module of that name stands before the real one, and cannot be imported."""
    (tmp_path / "sherpa_onnx.py").write_text("raise ModuleNotFoundError('not here')\n")
    command = [sys.executable, "-m", "uservlm.runtime", "serve", str(tiny_bundle), "--port", "0"]
    done = subprocess.run(
        [*command, "--hear", str(model), "--users", str(tmp_path / "people")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode != 0
    assert "pip install 'uservlm[speech]'" in done.stderr and "Traceback" not in done.stderr
