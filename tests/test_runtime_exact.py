"""Exact attention against transformers in float32, and proof that the bound notices mistakes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from reference import Floats, Reference

from uservlm.runtime import GenerationOptions, UserVLM
from uservlm.runtime.image import to_pixels

BOUND = 0.02
"""Largest difference of a logit: f16 weights and f16 KV against float32."""
QUESTIONS = ("What should I wear today?", "Who am I, and how old do I look to you?", "Où suis-je ?")
LONGEST = 12


@dataclass(frozen=True)
class Pair:
    """The runtime and what it must agree with."""

    vlm: UserVLM
    reference: Reference
    image: Image.Image

    @property
    def pixels(self) -> torch.Tensor:
        return self.reference.pixels(self.image)


@pytest.fixture(scope="module")
def pair(proven: tuple[Path, Path]) -> Iterator[Pair]:
    checkpoint, bundle = proven
    torch.set_num_threads(1)
    noise = np.random.default_rng(0).integers(0, 255, (150, 201, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    with UserVLM.load(bundle, attention="exact", threads=1) as vlm:
        yield Pair(vlm, Reference.load(checkpoint), image)


def distance(one: Floats, other: Floats) -> float:
    return float(np.abs(one - other).max())


def text_of(vlm: UserVLM, tokens: list[int]) -> str:
    pieces = b"".join(vlm._language.piece(token) for token in tokens)
    return pieces.decode("utf-8", "replace")


def test_the_reference_is_transformers_own_forward(pair: Pair) -> None:
    """The masks spelled out by hand mean what the model's own forward means."""
    tokens = pair.vlm.prefix_tokens(QUESTIONS[0])
    own, ours = pair.reference.own_logits(pair.pixels, tokens), pair.reference.logits
    assert distance(own, ours(pair.pixels, tokens)) < 1e-4


def test_pixels_are_the_processors_own_bit_for_bit(pair: Pair) -> None:
    ours = to_pixels(pair.image, pair.vlm.bundle.manifest.pixels)
    assert np.array_equal(ours, pair.pixels.numpy())


def test_the_user_embedding_is_the_projectors_output(pair: Pair) -> None:
    """Not divided by √d: the division is the prefix's business."""
    width = pair.vlm.bundle.manifest.architecture.width
    with torch.no_grad():
        divided = pair.reference.model.model.get_image_features(pair.pixels)[0].numpy()
    assert distance(pair.vlm.encode(pair.image).features, divided * np.sqrt(width)) < 1e-4


@pytest.mark.parametrize("question", QUESTIONS)
def test_first_logits_are_the_originals(pair: Pair, question: str) -> None:
    tokens = pair.vlm.prefix_tokens(question)
    wanted = pair.reference.logits(pair.pixels, tokens)
    assert distance(pair.vlm.first_logits(question, image=pair.image), wanted) < BOUND
    assert wanted.std() > 20 * BOUND, "the bound must be small beside what the logits differ by"


@pytest.mark.parametrize("question", QUESTIONS)
def test_greedy_answer_is_the_originals(pair: Pair, question: str) -> None:
    """The same tokens, or the first that differs was a tie within the bound."""
    tokens = pair.vlm.prefix_tokens(question)
    options = GenerationOptions(max_new_tokens=LONGEST)
    answer = pair.vlm.ask(question, image=pair.image, options=options)
    wanted = pair.reference.greedy(pair.pixels, tokens, LONGEST)
    gaps = pair.reference.gaps(pair.pixels, tokens, wanted)
    sure = next((i for i, gap in enumerate(gaps) if gap < 2 * BOUND), len(wanted))
    assert sure > 0, "the very first token is a tie: choose another question"
    assert answer.text.startswith(text_of(pair.vlm, wanted[:sure]).rstrip("\ufffd"))
    if sure == len(wanted):
        assert answer.text == text_of(pair.vlm, wanted)


@pytest.mark.parametrize("mistake", ["causal", "scaled twice", "resized by bilinear"])
def test_the_bound_notices_a_mistake(pair: Pair, mistake: str) -> None:
    """Each is a mistake somebody made: a mask, a scale, another library's resize."""
    question = QUESTIONS[0]
    tokens = pair.vlm.prefix_tokens(question)
    width = pair.vlm.bundle.manifest.architecture.width
    size = pair.vlm.bundle.manifest.pixels.size
    bilinear = pair.image.resize((size, size), Image.Resampling.BILINEAR)
    wrong = {
        "causal": lambda: pair.reference.logits(pair.pixels, tokens, causal=True),
        "scaled twice": lambda: pair.reference.logits(pair.pixels, tokens, image_scale=width**0.5),
        "resized by bilinear": lambda: pair.reference.logits(
            pair.reference.pixels(bilinear), tokens
        ),
    }[mistake]()
    assert distance(pair.vlm.first_logits(question, image=pair.image), wrong) > 2 * BOUND


def test_opencvs_bicubic_is_noticed(pair: Pair) -> None:
    """cv2 does not antialias when it shrinks: the reason why pictures go through Pillow."""
    cv2 = pytest.importorskip("cv2")
    size = pair.vlm.bundle.manifest.pixels.size
    picture = np.random.default_rng(1).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    shrunk = cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC)
    tokens = pair.vlm.prefix_tokens(QUESTIONS[0])
    wrong = pair.reference.logits(pair.reference.pixels(Image.fromarray(shrunk)), tokens)
    assert distance(pair.vlm.first_logits(QUESTIONS[0], image=picture), wrong) > 2 * BOUND


def test_a_warm_question_runs_no_vision(pair: Pair) -> None:
    pair.vlm.ask(QUESTIONS[0], image=pair.image, options=GenerationOptions(max_new_tokens=1))
    before = pair.vlm.counters.vision_runs
    answer = pair.vlm.ask(QUESTIONS[1], image=pair.image.copy(), options=GenerationOptions(1))
    assert pair.vlm.counters.vision_runs == before
    assert answer.usage.vision_runs == 0
    assert answer.usage.prefix_reused == 0, "exact attention computes the whole prefix again"


def test_an_embedding_stands_for_its_picture(pair: Pair) -> None:
    embedding = pair.vlm.encode(pair.image)
    from_picture = pair.vlm.first_logits(QUESTIONS[0], image=pair.image)
    assert np.array_equal(pair.vlm.first_logits(QUESTIONS[0], image=embedding), from_picture)


def test_tokens_are_the_hugging_face_tokenizers(pair: Pair, proven: tuple[Path, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(proven[0])
    for question in (*QUESTIONS, "  two  blanks,\n\na line, 12 345 and 🤖", "Hello\tthere"):
        prompt = pair.vlm.bundle.manifest.prompt.fill(question)
        wanted = [tokenizer.bos_token_id, *tokenizer(prompt, add_special_tokens=False).input_ids]
        assert list(pair.vlm.prefix_tokens(question)) == wanted, question


@pytest.mark.parametrize("text", ["<eos>", "<bos>", "<image>", "<pad>", "<|im_end|>"])
def test_special_tokens_in_a_question_stay_text(pair: Pair, text: str) -> None:
    """A user must not be able to end their turn or to claim a picture."""
    tokens = pair.vlm.prefix_tokens(f"a {text} b")
    control = set(range(4)) | {pair.reference.model.config.image_token_id}
    assert not control & set(tokens[1:])
    assert f"a {text} b" in text_of(pair.vlm, list(tokens))


def test_a_sliding_window_does_not_cut_the_prefix(make_checkpoint: object, tmp_path: Path) -> None:
    """llama.cpp slides inside a bidirectional block too; PaliGemma does not. Real at 896 px."""
    from uservlm.converters.pipeline import ExportOptions, export

    checkpoint = shutil.copytree(make_checkpoint(), tmp_path / "checkpoint")  # type: ignore[operator]
    config = json.loads((checkpoint / "config.json").read_text())
    config["text_config"]["sliding_window"] = 32
    (checkpoint / "config.json").write_text(json.dumps(config))
    bundle = export(ExportOptions(checkpoint, tmp_path / "bundle", "f16", "fp32", cases=1))
    reference = Reference.load(checkpoint)
    image = Image.fromarray(np.full((50, 50, 3), 90, np.uint8))
    with UserVLM.load(bundle, attention="exact", threads=1) as vlm:
        tokens = vlm.prefix_tokens(QUESTIONS[0])
        found = vlm.first_logits(QUESTIONS[0], image=image)
    assert distance(found, reference.logits(reference.pixels(image), tokens)) < BOUND
