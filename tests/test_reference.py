"""The converter's layer-by-layer reference equals transformers' own forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from reference import Reference as Whole  # noqa: E402

from uservlm.converters import names  # noqa: E402
from uservlm.converters.cases import calibration_pictures  # noqa: E402
from uservlm.converters.checkpoint import open_checkpoint  # noqa: E402
from uservlm.converters.export import POCKET  # noqa: E402
from uservlm.converters.pixels import read_pixels  # noqa: E402
from uservlm.converters.reference import (  # noqa: E402
    Asked,
    Importance,
    Tokenizer,
    embed,
    logits,
)
from uservlm.models.prompt import TEMPLATE  # noqa: E402
from uservlm.runtime.image import to_pixels  # noqa: E402

QUESTIONS = ("What do you see?", "How do I feel?")


@pytest.fixture(scope="module", params=["random", "pocket"])
def folder(request: pytest.FixtureRequest) -> Path:
    return POCKET if request.param == "pocket" else request.getfixturevalue("tiny_checkpoint")


def test_it_gives_transformers_logits_at_every_position(folder: Path) -> None:
    checkpoint, whole = open_checkpoint(folder), Whole.load(folder)
    pictures = [to_pixels(one, read_pixels(checkpoint)) for one in calibration_pictures()[:2]]
    users = embed(checkpoint, pictures, lambda _: None)
    tokenizer = Tokenizer(checkpoint)
    answer = (7, 19, 4, 30)
    cases: list[Asked] = []
    wanted: list[list[np.ndarray]] = []
    for picture, user, question in zip(pictures, users, QUESTIONS, strict=True):
        prompt = tokenizer.prompt(TEMPLATE.replace("{question}", question))
        cases.append(Asked(user, prompt, answer if question == QUESTIONS[0] else ()))
        pixels = torch.from_numpy(picture)
        said = cases[-1].answer
        wanted.append([whole.own_logits(pixels, prompt)])
        wanted[-1] += [
            whole.logits(pixels, prompt, answer=said[: count + 1]) for count in range(len(said))
        ]
    seen: list[int] = []
    found = logits(checkpoint, cases, seen.append)
    assert sum(seen) == checkpoint.shape.layers
    for ours, theirs, case in zip(found, wanted, cases, strict=True):
        assert ours.shape == (len(case.answer) + 1, checkpoint.shape.rows)
        assert np.abs(ours - np.stack(theirs)).max() < 2e-4 < np.std(theirs)


def test_importance_is_the_mean_square_of_what_goes_in(tiny_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint)
    shape, importance = checkpoint.shape, Importance()
    rng = np.random.default_rng(0)
    features = rng.normal(size=(shape.image_tokens, shape.width)).astype(np.float32)
    prompt = (2, 5, 6)
    logits(checkpoint, [Asked(features, prompt)], importance=importance)
    means = importance.means()
    matrices = {
        name
        for name, size in names.expected(shape).items()
        if name.startswith(f"{names.LANGUAGE}layers.") and len(size) == 2
    }
    assert set(means) == matrices
    rows = [checkpoint.read_rows(names.EMBEDDINGS, token, token + 1) for token in prompt]
    stream = torch.cat([torch.from_numpy(features), *[row * shape.width**0.5 for row in rows]])
    gain = 1 + checkpoint.read("language_model.layers.0.input_layernorm.weight")
    epsilon = checkpoint.config.text_config.rms_norm_eps
    normed = stream * (stream.square().mean(1, keepdim=True) + epsilon).rsqrt() * gain
    np.testing.assert_allclose(
        means["language_model.layers.0.self_attn.k_proj.weight"],
        normed.square().mean(0).numpy(),
        rtol=1e-3,
    )
