"""Speech for tests: a tone for each letter, and a recogniser that knows them, made here.

Owns: the alphabet, its tones, and hand-set ONNX models in the forms that sherpa-onnx opens. A
letter's tone lies in the middle of one mel bin, and its logit is how loud that bin is; a blank's is
a threshold that a room's noise does not reach. So tones come out as the letters they stand for.

    tone_model(folder)              a streaming model; then: uservlm serve BUNDLE --hear folder
    tones("how do i")               the PCM of it: int16, mono, 16 kHz
    wav(path, "how do i")           the same as a file, for a step of the virtual Pepper's
    silence(0.5)                    PCM of a quiet room

What the virtual Pepper hums, as anybody (220 Hz) or as itself (140 Hz), is heard as "hm" and "mm".
"""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

RATE = 16_000
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
SPACE = "\u2581"
"""How a list of tokens writes it."""
BINS = 80
FIRST_BIN, STEP = 18, 2
HUMS = {f"{SPACE}mm": 140.0, f"{SPACE}hm": 220.0}
TONE_S, GAP_S, FADE_S = 0.09, 0.08, 0.008
LOUD = 9_000
THRESHOLD = {"nemo": -4.0, "zipformer2": 0.5, "transducer": 2.5}
"""Log energy of a mel bin; a tone's lies well above and a quiet room's well below."""
CHUNK = 32
"""Frames of 10 ms that are decoded at once."""
EVERY = 4
"""Of these frames one is looked at: what sherpa-onnx counts pauses by."""

Kind = Literal["nemo", "zipformer2", "transducer"]


def hertz(mel_bin: int) -> float:
    """Give the middle of a mel bin as sherpa-onnx lays them out: 80 from 20 to 7,600 Hz."""
    low, high = (1127 * np.log(1 + edge / 700) for edge in (20.0, 7_600.0))
    mel = low + (mel_bin + 1) * (high - low) / (BINS + 1)
    return float(700 * (np.exp(mel / 1127) - 1))


def nemo_hertz(mel_bin: int) -> float:
    """Give the middle of a mel bin of NeMo's features: 80 from 0 to 8,000 Hz, Slaney's scale."""
    mel = (mel_bin + 1) * (15 + np.log(8) * 27 / np.log(6.4)) / (BINS + 1)
    return float(mel * 200 / 3 if mel < 15 else 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


PITCHES = {letter: FIRST_BIN + STEP * place for place, letter in enumerate(LETTERS + " ")}


def tones(text: str) -> bytes:
    """Say something; letters, apostrophes and single spaces, whatever their case."""
    pieces = []
    length, fade = int(RATE * TONE_S), int(RATE * FADE_S)
    envelope = np.minimum(1.0, np.minimum(np.arange(length), np.arange(length)[::-1]) / fade)
    for letter in text.lower():
        times = np.arange(length) / RATE
        pieces.append(LOUD * envelope * np.sin(2 * np.pi * hertz(PITCHES[letter]) * times))
        pieces.append(np.zeros(int(RATE * GAP_S)))
    return np.concatenate(pieces or [np.zeros(0)]).astype("<i2").tobytes()


def silence(seconds: float, noise: float = 30.0) -> bytes:
    """Give a quiet room."""
    rng = np.random.default_rng(0)
    return rng.normal(0, noise, int(RATE * seconds)).astype("<i2").tobytes()


def hum(seconds: float, frequency: float = 140.0) -> bytes:
    """Give the virtual Pepper's own voice."""
    times = np.arange(int(RATE * seconds)) / RATE
    return (LOUD * np.sin(2 * np.pi * frequency * times)).astype("<i2").tobytes()


def wav(path: Path, text: str) -> Path:
    """Write what `tones` says to a file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(tones(text))
    return path


def tone_model(folder: Path, kind: Kind = "zipformer2") -> Path:
    """Write a recogniser of tones.

    Args:
        folder: made if it is not there.
        kind: which of the forms that sherpa-onnx opens; the transducer hears neither a letter twice
            running nor a hum.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [*LETTERS, SPACE, *HUMS, "<blk>"]
    if kind == "transducer":
        lines = [lines[-1], *lines[:-1]]
    text = "".join(f"{token} {number}\n" for number, token in enumerate(lines))
    (folder / "tokens.txt").write_text(text, encoding="utf-8")
    write = {"nemo": _nemo, "zipformer2": _zipformer2, "transducer": _transducer}
    write[kind](folder)
    return folder


def _weights(kind: Kind) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """From mel bins to logits: float32 [80, V] and [V]."""
    middles = [(nemo_hertz if kind == "nemo" else hertz)(one) for one in range(BINS)]
    blank_first = kind == "transducer"
    pitches = [*map(hertz, PITCHES.values()), *HUMS.values()]
    bins = [int(np.abs(np.array(middles) - pitch).argmin()) for pitch in pitches]
    assert len(set(bins)) == len(bins), "no two in one"
    weights = np.zeros((BINS, len(bins) + 1), np.float32)
    bias = np.zeros(len(bins) + 1, np.float32)
    for place, mel_bin in enumerate(bins):
        weights[mel_bin, place + blank_first] = 1.0
    bias[0 if blank_first else -1] = THRESHOLD[kind]
    return weights, bias


def _looked_at(name: str, kind: Kind) -> tuple[list[Any], list[Any]]:
    """From [B, T, 80] to logits [B, T / 4, V]: nodes, and what they hold."""
    weights, bias = _weights(kind)
    held = {
        "from": np.array([0]),
        "to": np.array([2**31]),
        "axis": np.array([1]),
        "step": np.array([EVERY]),
        "weights": weights,
        "bias": bias,
    }
    nodes = [
        helper.make_node("Slice", [name, "from", "to", "axis", "step"], ["some"]),
        helper.make_node("MatMul", ["some", "weights"], ["loud"]),
        helper.make_node("Add", ["loud", "bias"], ["logits"]),
    ]
    return nodes, [numpy_helper.from_array(value, key) for key, value in held.items()]


def _same(source: str, target: str) -> Any:
    return helper.make_node("Identity", [source], [target])


def _nemo(folder: Path) -> None:
    vocabulary = _weights("nemo")[1].size
    nodes, held = _looked_at("frames", "nemo")
    nodes.insert(0, helper.make_node("Transpose", ["audio"], ["frames"], perm=[0, 2, 1]))
    nodes += [_same("length", "logits_length")]
    nodes += [_same(f"cache{one}", f"cache{one}_next") for one in range(3)]
    caches = [("cache0", 1, [1, 1, 1, 1]), ("cache1", 1, [1, 1, 1, 1]), ("cache2", 7, [1])]
    given = [("audio", 1, [1, BINS, CHUNK]), ("length", 7, [1]), *caches]
    made = [("logits", 1, [1, CHUNK // EVERY, vocabulary]), ("logits_length", 7, [1])]
    made += [(f"{name}_next", kind, shape) for name, kind, shape in caches]
    said = {"window_size": CHUNK, "chunk_shift": CHUNK, "subsampling_factor": EVERY}
    said |= {"vocab_size": vocabulary - 1, "model_type": "EncDecCTCModelBPE"}
    said |= {f"cache_last_{of}_dim{one}": 1 for of in ("channel", "time") for one in (1, 2, 3)}
    _write(folder / "model.onnx", nodes, given, made, held, said)


def _zipformer2(folder: Path) -> None:
    vocabulary = _weights("zipformer2")[1].size
    nodes, held = _looked_at("x", "zipformer2")
    shapes = [[2, 1, 4], [1, 1, 2, 3], [2, 1, 4], [2, 1, 4], [1, 4, 1], [1, 4, 1], [1, 128, 3, 19]]
    states = [(f"state{place}", 1, shape) for place, shape in enumerate(shapes)]
    states.append(("seen", 7, [1]))
    nodes += [_same(name, f"{name}_next") for name, _, _ in states]
    made = [("logits", 1, [1, CHUNK // EVERY, vocabulary])]
    made += [(f"{name}_next", kind, shape) for name, kind, shape in states]
    said = {"encoder_dims": 4, "query_head_dims": 4, "value_head_dims": 4, "num_heads": 1}
    said |= {"num_encoder_layers": 1, "cnn_module_kernels": 3, "left_context_len": 2}
    said |= {"T": CHUNK, "decode_chunk_len": CHUNK, "model_type": "zipformer2"}
    given = [("x", 1, [1, CHUNK, BINS]), *states]
    _write(folder / "ctc-epoch-1.int8.onnx", nodes, given, made, held, said)
    (folder / "ctc-epoch-1.onnx").write_bytes(b"not read where there is an int8 one")


def _transducer(folder: Path) -> None:
    vocabulary = _weights("transducer")[1].size
    nodes, held = _looked_at("x", "transducer")
    nodes += [_same("h", "h_next"), _same("c", "c_next")]
    state = [("h", 1, [1, 1, 4]), ("c", 1, [1, 1, 4])]
    made = [("logits", 1, [1, CHUNK // EVERY, vocabulary])]
    made += [(f"{name}_next", kind, shape) for name, kind, shape in state]
    said = {"model_type": "lstm", "num_encoder_layers": 1, "T": CHUNK, "decode_chunk_len": CHUNK}
    said |= {"rnn_hidden_size": 4, "d_model": 4}
    given = [("x", 1, [1, CHUNK, BINS]), *state]
    _write(folder / "encoder-epoch-1.onnx", nodes, given, made, held, said)
    again = np.zeros((vocabulary, vocabulary), np.float32)
    again[range(1, vocabulary), range(1, vocabulary)] = -100.0  # no letter twice
    held = [numpy_helper.from_array(again, "again"), numpy_helper.from_array(np.array(1), "last")]
    nodes = [
        helper.make_node("Gather", ["y", "last"], ["newest"], axis=1),
        helper.make_node("Gather", ["again", "newest"], ["decoder_out"], axis=0),
    ]
    given, made = [("y", 7, ["N", 2])], [("decoder_out", 1, ["N", vocabulary])]
    said = {"vocab_size": vocabulary, "context_size": 2}
    _write(folder / "decoder-epoch-1.onnx", nodes, given, made, held, said)
    nodes = [helper.make_node("Add", ["encoder_out", "decoder_out"], ["logit"])]
    given = [(f"{of}coder_out", 1, ["N", vocabulary]) for of in ("en", "de")]
    made = [("logit", 1, ["N", vocabulary])]
    _write(folder / "joiner-epoch-1.onnx", nodes, given, made, [], {"joiner_dim": vocabulary})


def _write(
    path: Path, nodes: list[Any], given: list[Any], made: list[Any], held: list[Any], said: Any
) -> None:
    """Write a model; inputs and outputs are (name, element type, shape)."""
    assert (TensorProto.FLOAT, TensorProto.INT64) == (1, 7)
    sides = [[helper.make_tensor_value_info(*one) for one in side] for side in (given, made)]
    graph = helper.make_graph(nodes, "tones", *sides, initializer=held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in said.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, str(value)
    onnx.save(model, path)
