"""The original: a checkpoint run by transformers' own layers in float32, one layer at a time.

Owns: asking the checkpoint what the bundle is asked, with one decoder layer in memory, so that a
10B model (39 GB in float32) is checked on a machine with 8. The layers, norms, rotary embedding and
vision tower are transformers' classes; what joins them is written here: scale, mask, softcap. That
it equals transformers' own forward is a test. Knows nothing of bundles.

Two traps of transformers: its other attention paths drop Gemma 2's softcap without a word, so
attention is eager; and since 4.52 PaliGemma's head leaves out `final_logit_softcapping`, which is
put back as config.json says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from uservlm.converters import names
from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.errors import TokenizerError
from uservlm.converters.vision_onnx import Features, Pixels, reference_features

if TYPE_CHECKING:
    import torch

Logits = npt.NDArray[np.float32]
"""float32 [rows of the embedding table], before the softmax."""

HEAD_ROWS = 8192
"""Rows of the output head that are multiplied at once."""
INPUTS = {
    "self_attn.q_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj": ("self_attn.o_proj",),
    "mlp.gate_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj": ("mlp.down_proj",),
}
"""Where an input of a decoder layer is looked at, and the matrices that it is multiplied with."""

Done = Callable[[int], None]


@dataclass(frozen=True)
class Asked:
    """One case: what the prefix is, and the answer whose every position is looked at."""

    features: Features
    """User embedding, float32 [1, N, d] or [N, d], not divided by √d."""
    prompt: tuple[int, ...]
    """Tokens behind the image rows, `<bos>` first."""
    answer: tuple[int, ...] = ()
    """Tokens behind the prompt, maybe none."""


class Importance:
    """Mean squares of what the columns of each matrix are multiplied with, summed up as it runs."""

    def __init__(self) -> None:
        self._sums: dict[str, npt.NDArray[np.float64]] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, inputs: torch.Tensor) -> None:
        """Note inputs [..., columns] of the matrix of this canonical name."""
        flat = inputs.reshape(-1, inputs.shape[-1])
        squares = flat.square().sum(0).double().numpy()
        self._sums[name] = self._sums.get(name, 0) + squares
        self._counts[name] = self._counts.get(name, 0) + len(flat)

    def means(self) -> dict[str, npt.NDArray[np.float32]]:
        """Give float32 [columns] by canonical name."""
        return {
            name: (sums / self._counts[name]).astype(np.float32)
            for name, sums in self._sums.items()
        }


class Tokenizer:
    """The checkpoint's own tokenizer, as transformers reads it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Read it.

        Raises:
            TokenizerError: transformers cannot, or it has no token to begin with.
        """
        from transformers import AutoTokenizer

        try:
            # transformers 5 stores a list of extra tokens, of which 4.57 can make nothing; each of
            # them is among the added tokens as well.
            self._words = AutoTokenizer.from_pretrained(checkpoint.folder, extra_special_tokens={})
        except Exception as error:  # tokenizers raises it bare
            raise TokenizerError(
                f"{checkpoint.folder}: transformers cannot open the tokenizer "
                f"({_first_line(error)}): save the processor again, with transformers 4.57 or 5"
            ) from error
        if self._words.bos_token_id is None:
            raise TokenizerError(f"{checkpoint.folder}: the tokenizer names no bos_token")

    def prompt(self, text: str) -> tuple[int, ...]:
        """Cut what stands behind the picture into ids, `<bos>` put in front."""
        ids = self._words(text, add_special_tokens=False)["input_ids"]
        return (int(self._words.bos_token_id), *ids)


def embed(checkpoint: Checkpoint, pictures: Sequence[Pixels], done: Done) -> list[Features]:
    """Give user embeddings by transformers' SigLIP and projector, float32 [N, d] each.

    Args:
        checkpoint: its vision tower and projector.
        pictures: float32 [1, 3, S, S] each.
        done: called with 1 after each picture.
    """
    return [features[0] for features in reference_features(checkpoint, pictures, done)]


def logits(
    checkpoint: Checkpoint,
    cases: Sequence[Asked],
    done: Done = lambda count: None,
    importance: Importance | None = None,
) -> list[npt.NDArray[np.float32]]:
    """Give the logits of every answer position, under the mask PaliGemma was trained with.

    Image and prompt see each other whole, the answer sees what stands before it.

    Args:
        checkpoint: its language model.
        cases: each gives len(answer) + 1 positions, the first being the prompt's last token; see
            `Asked`.
        done: called with 1 after each layer.
        importance: takes note of what the matrices are multiplied with.

    Returns:
        float32 [len(answer) + 1, rows of the embedding table] for each case.
    """
    import torch

    with torch.inference_mode():
        streams = _layers(checkpoint, cases, done, importance)
        norm = _norm(checkpoint)
        last = [
            norm(stream)[:, -len(case.answer) - 1 :]
            for stream, case in zip(streams, cases, strict=True)
        ]
        found = _head(checkpoint, torch.cat([stream[0] for stream in last]))
    return np.split(found, np.cumsum([stream.shape[1] for stream in last])[:-1])


def _layers(
    checkpoint: Checkpoint, cases: Sequence[Asked], done: Done, importance: Importance | None
) -> list[torch.Tensor]:
    """Run the cases through all layers, each layer loaded once: float32 [1, T, d] per case."""
    streams = [_enter(checkpoint, case) for case in cases]
    places = [_positions(checkpoint, case) for case in cases]
    for number, layer in enumerate(_loaded_layers(checkpoint)):
        hooks = _listen(layer, f"{names.LANGUAGE}layers.{number}.", importance)
        for index, (mask, rotary) in enumerate(places):
            (streams[index],) = layer(
                streams[index], position_embeddings=rotary, attention_mask=mask
            )
        for hook in hooks:
            hook.remove()
        done(1)
    return streams


def _loaded_layers(checkpoint: Checkpoint) -> Iterator[Any]:
    """Give transformers' decoder layer again and again, with the weights of the next layer."""
    from transformers.modeling_utils import no_init_weights
    from transformers.models.gemma2.modeling_gemma2 import Gemma2DecoderLayer

    config = _eager(checkpoint)
    with no_init_weights():
        layer = Gemma2DecoderLayer(config, 0).eval().requires_grad_(False)
    wanted = tuple(layer.state_dict())
    for number in range(checkpoint.shape.layers):
        prefix = f"{names.LANGUAGE}layers.{number}."
        state = {name: checkpoint.read(prefix + name) for name in wanted}
        layer.load_state_dict(state, strict=True, assign=True)
        yield layer


def _enter(checkpoint: Checkpoint, case: Asked) -> torch.Tensor:
    """Give what goes into the first layer, float32 [1, T, d]: all of it times √d, as Gemma does.

    Image features are divided by √d before, so that they come out as they were (transformers 4.57).
    """
    import torch

    ids = (*case.prompt, *case.answer)
    rows = [checkpoint.read_rows(names.EMBEDDINGS, token, token + 1) for token in ids]
    width = checkpoint.shape.width
    features = torch.from_numpy(np.asarray(case.features)).reshape(-1, width) / width**0.5
    whole = torch.cat([features, *rows])[None]
    return whole * torch.tensor(width**0.5, dtype=whole.dtype)


def _positions(
    checkpoint: Checkpoint, case: Asked
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Give the mask [1, 1, T, T] to add to scores, and the rotary cosines and sines.

    Positions count from 1, as PaliGemma's do.
    """
    import torch
    from transformers.models.gemma2.modeling_gemma2 import Gemma2RotaryEmbedding

    prefix = checkpoint.shape.image_tokens + len(case.prompt)
    total = prefix + len(case.answer)
    hidden = torch.ones(total, total).triu(1).bool()
    hidden[:prefix, :prefix] = False
    mask = torch.zeros(total, total).masked_fill(hidden, torch.finfo(torch.float32).min)
    rotary = Gemma2RotaryEmbedding(_eager(checkpoint))
    return mask[None, None], rotary(mask, torch.arange(1, total + 1)[None])


def _norm(checkpoint: Checkpoint) -> Any:
    from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

    norm = Gemma2RMSNorm(checkpoint.shape.width, eps=checkpoint.config.text_config.rms_norm_eps)
    norm.load_state_dict({"weight": checkpoint.read(f"{names.LANGUAGE}norm.weight")}, assign=True)
    return norm


def _head(checkpoint: Checkpoint, states: torch.Tensor) -> npt.NDArray[np.float32]:
    """Multiply float32 [n, d] with the token embeddings, some rows at a time, and cap."""
    import torch

    rows = checkpoint.shape.rows
    parts = [
        states @ checkpoint.read_rows(names.EMBEDDINGS, start, min(start + HEAD_ROWS, rows)).T
        for start in range(0, rows, HEAD_ROWS)
    ]
    found = torch.cat(parts, dim=1)
    cap = float(checkpoint.config.text_config.final_logit_softcapping or 0)
    capped: npt.NDArray[np.float32] = (torch.tanh(found / cap) * cap if cap else found).numpy()
    return capped


def _listen(layer: Any, prefix: str, importance: Importance | None) -> list[Any]:
    """Hook the inputs of a layer's matrices into `importance`."""
    if importance is None:
        return []

    def hook(targets: tuple[str, ...]) -> Callable[[Any, tuple[torch.Tensor, ...]], None]:
        def note(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            for target in targets:
                importance.add(f"{prefix}{target}.weight", inputs[0])

        return note

    return [
        layer.get_submodule(name).register_forward_pre_hook(hook(targets))
        for name, targets in INPUTS.items()
    ]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return shorten(lines[0], 160, placeholder=" …") if lines else type(error).__name__


def _eager(checkpoint: Checkpoint) -> Any:
    text = checkpoint.config.text_config
    config = text.__class__.from_dict(text.to_dict())
    config._attn_implementation = "eager"
    return config
