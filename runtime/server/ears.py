"""Ears: speech to text in this process; the one file that knows sherpa-onnx.

Owns: the recogniser, the one thread it works on, and how much sound may wait. Knows nothing of
doors. Sound is held until it has been decoded, text until it has been told; neither is written or
logged. `pip install 'uservlm[speech]'` brings sherpa-onnx; it is imported when ears are opened.

    ears = Ears.open(Path("models/streaming-zipformer"))
    listening = ears.listen()
    for heard in listening.take(pcm):        # int16, mono, 16 kHz
        print(heard.text, heard.final)

sherpa-onnx ends the process (`exit`) when a model's metadata or tokens are not as it expects. So a
folder is tried in a process of its own first. It brings a copy of onnxruntime (2.0.1: 1.28.2) that
has no telemetry; neither opens a socket or writes a file (seen under strace).
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any, Final, TypeAlias

import numpy as np

from uservlm.runtime.errors import BusyError, RequestError
from uservlm.runtime.extras import way_to
from uservlm.runtime.server.limits import Limits
from uservlm.runtime.server.listening import Heard, Listening, Piece, Round
from uservlm.runtime.server.speech_model import SpeechModel, find_model
from uservlm.runtime.telemetry import silence_telemetry

Library: TypeAlias = Any
"""sherpa-onnx has no type stubs."""

_LOG = logging.getLogger("uservlm.ears")
RATE: Final = 16_000
_SILENT_S: Final = 2.4
"""Of silence, after which a stream in which nothing was said begins anew."""
_PAUSE_S: Final = 0.8
"""Of silence, after which what was said is whole."""
_LONGEST_S: Final = 20.0
"""Of speech without a pause; then it is cut."""
_TRIAL_S: Final = 120.0
_SWEEP_S: Final = 2.0
_CLOSE_S: Final = 2.0


class Ears:
    """One recogniser for everybody who listens; safe to use from several threads."""

    def __init__(self, recogniser: Library, kind: str, limits: Limits) -> None:
        """Begin to work; see `open`."""
        self.kind, self._limits = kind, limits
        self._recogniser = recogniser
        self._jobs: SimpleQueue[Listening | None] = SimpleQueue()
        self._listening: tuple[Listening, ...] = ()
        self._lock = Lock()
        self._thread = Thread(target=self._work, name="ears", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, folder: Path, limits: Limits | None = None) -> Ears:
        """Open a streaming model.

        Args:
            folder: see `speech_model.py`.
            limits: how many may listen, and how much sound may wait.

        Raises:
            RequestError: no sherpa-onnx here, files are missing, or the model does not run.
        """
        model = find_model(folder)
        _library()
        _try(folder)
        return cls(_recogniser(model), model.kind, limits or Limits())

    def listen(self, told: Callable[[Heard], None] | None = None) -> Listening:
        """Begin to listen to somebody.

        Args:
            told: of what is heard, on the ears' thread, and must be quick; None: `take` gives it.

        Raises:
            BusyError: too many listen already.
        """
        with self._lock:
            self._drop_idle()
            if len(self._listening) >= self._limits.listenings:
                raise BusyError(f"{self._limits.listenings} are listened to already")
            made = Listening(self._jobs.put, self._limits, told)
            self._listening += (made,)
            return made

    def close(self) -> None:
        """Hear nothing any more; what is in progress is dropped."""
        with self._lock:
            for one in self._listening:
                one.close()
            self._listening = ()
        self._jobs.put(None)
        self._thread.join(_CLOSE_S)

    def _work(self) -> None:
        """Decode what comes, piece by piece, in the order it came."""
        swept = monotonic()
        while True:
            try:
                listening = self._jobs.get(timeout=_SWEEP_S)
            except Empty:
                pass
            else:
                if listening is None:
                    return
                self._hear(listening)
            if monotonic() - swept >= _SWEEP_S:
                with self._lock:
                    self._drop_idle()
                swept = monotonic()

    def _hear(self, listening: Listening) -> None:
        """Decode the next piece of one."""
        piece = listening.next()
        if piece is None:
            return
        try:
            self._decode(listening, piece)
        except RuntimeError as error:  # of the library's: it costs this utterance
            _LOG.error("the ears failed at a piece of sound: %s", error, exc_info=error)
            listening.drop()
        finally:
            piece.done.set()

    def _decode(self, listening: Listening, piece: Piece) -> None:
        recogniser, this = self._recogniser, piece.round
        if this.stream is None:
            this.stream = recogniser.create_stream()
        samples = np.frombuffer(piece.pcm, "<i2").astype(np.float32) / 32_768
        this.stream.accept_waveform(RATE, samples)
        while recogniser.is_ready(this.stream):
            recogniser.decode_stream(this.stream)
            whole = recogniser.is_endpoint(this.stream)
            self._tell(listening, this, whole)
            if whole:
                recogniser.reset(this.stream)

    def _tell(self, listening: Listening, this: Round, whole: bool) -> None:
        text = written(str(self._recogniser.get_result(this.stream)))
        if text and (whole or text != this.partial):
            listening.tell(this, Heard(text, whole))
        this.partial = "" if whole else text

    def _drop_idle(self) -> None:
        """Let go of who has not been heard of; the lock is held."""
        for one in self._listening:
            if monotonic() - one.seen >= self._limits.listening_s:
                one.close()
        self._listening = tuple(one for one in self._listening if not one.closed)


def written(text: str) -> str:
    """Give text as people write it: models tuned on read books know capitals only."""
    text = " ".join(text.split())
    return text.capitalize() if text.isupper() else text


def _library() -> Library:
    """Import sherpa-onnx.

    Raises:
        RequestError: it is not here.
    """
    silence_telemetry()
    try:
        import sherpa_onnx
    except ImportError as error:
        raise RequestError(f"hearing needs sherpa-onnx ({error}): {way_to('speech')}") from error
    return sherpa_onnx


def _recogniser(model: SpeechModel) -> Library:
    """Open a model.

    Raises:
        RequestError: onnxruntime refuses it. What sherpa-onnx refuses ends the process.
    """
    kinds = _library().OnlineRecognizer
    opens = {
        "transducer": kinds.from_transducer,
        "zipformer2_ctc": kinds.from_zipformer2_ctc,
        "nemo_ctc": kinds.from_nemo_ctc,
    }[model.kind]
    try:
        return opens(
            **model.files,
            num_threads=1,
            sample_rate=RATE,
            enable_endpoint_detection=True,
            rule1_min_trailing_silence=_SILENT_S,
            rule2_min_trailing_silence=_PAUSE_S,
            rule3_min_utterance_length=_LONGEST_S,
        )
    except RuntimeError as error:
        raise RequestError(f"the speech model cannot be opened: {error}") from error


def _try(folder: Path) -> None:
    """Open a model and hear a little, where it may end the process.

    Raises:
        RequestError: it does not run.
    """
    command = [sys.executable, "-m", "uservlm.runtime.server.ears", str(folder.absolute())]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRIAL_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RequestError(f"the speech model in {folder} takes longer than a trial may") from error
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        last = lines[-1] if lines else f"exit code {done.returncode}"
        raise RequestError(f"the speech model in {folder} does not run: {last}")


def _trial(folder: Path) -> None:
    """What `_try` runs: two seconds of noise."""
    recogniser = _recogniser(find_model(folder))
    stream = recogniser.create_stream()
    noise = np.random.default_rng(0).normal(0, 0.01, 2 * RATE).astype(np.float32)
    stream.accept_waveform(RATE, noise)
    while recogniser.is_ready(stream):
        recogniser.decode_stream(stream)
    recogniser.get_result(stream)


if __name__ == "__main__":
    _trial(Path(sys.argv[1]))
