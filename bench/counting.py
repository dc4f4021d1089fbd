"""The FLOPs of one prefill, counted while transformers' own class runs on meta tensors.

Owns: making a model without weights, running its vision side and its language side on shapes alone,
and what is a FLOP. Knows nothing of peers, tables or the paper.

`torch.utils.flop_counter` counts 2 for each multiply and add of matrix products and convolutions;
norms, softmax, activations and look-ups count nothing. Attention is `eager`, so its products are
seen as such; a causal mask saves nothing there, the whole square is computed and counted. The head
runs for one position, as `generate` of transformers 4.57 asks with `logits_to_keep=1`.

Where image features are scattered into the text's embeddings, the class asks how many there are,
which a meta tensor cannot tell. Its vision tower with projector and its forward for embeddings
therefore run one after the other, on the same numbers of tokens; scattering has no FLOPs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

T = TypeVar("T")
Inputs = Mapping[str, Any]
"""What an image processor makes of a picture, by the names of the model's arguments."""


@dataclass(frozen=True)
class Counted:
    """FLOPs of a run."""

    total: int
    attention: int = 0
    """Of it in products of activations with activations: scores and their weighted sums."""


NOTHING = Counted(0)


@dataclass(frozen=True)
class Seen:
    """A picture behind the vision tower and the projector."""

    cost: Counted
    features: int
    """Rows that the language model is given, of all crops or tiles."""
    beside: Tensor | None = None
    """[tiles, patches, width] where cross-attention reads them and they take no position."""


def build(config: Mapping[str, Any]) -> PreTrainedModel:
    """Make the class that a config.json asks for, on the meta device: no memory, no values.

    Args:
        config: config.json's keys, `model_type` among them.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    wanted = AutoConfig.for_model(**config)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForImageTextToText.from_config(
            wanted, attn_implementation="eager", dtype=torch.bfloat16
        )
    model.eval()
    return model


def weights(model: PreTrainedModel) -> int:
    """Number of weights; a tied head counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count(run: Callable[[], T]) -> tuple[T, Counted]:
    """Run something and count its FLOPs."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), _autocast_knows_meta(), counter:
        result = run()
    kinds = counter.get_flop_counts().get("Global", {})
    attention = int(kinds.get(torch.ops.aten.bmm, 0))
    return result, Counted(int(counter.get_total_flops()), attention)


def look(model: PreTrainedModel, picture: Inputs) -> Seen:
    """Count vision tower and projector on what an image processor made of a picture."""
    if model.config.model_type == "mllama":
        return _look_beside(model, picture)
    given = _on_meta(picture, model.dtype)
    behind: Any = model
    features, cost = count(lambda: behind.get_image_features(**given))
    return Seen(cost, sum(one.shape[:-1].numel() for one in features))


def read(
    model: PreTrainedModel, computed: int, cached: int = 0, beside: Tensor | None = None
) -> Counted:
    """Count the language model, head included, on embeddings of so many positions.

    Args:
        model: as `build` made it.
        computed: positions to compute.
        cached: positions before them whose keys and values are in the cache already.
        beside: `Seen.beside`; with `cached` its keys and values are in the cache, too.
    """
    import torch

    if not cached:
        return count(lambda: _forward(model, computed, 0, cross_attention_states=beside))[1]
    with torch.inference_mode(), _autocast_knows_meta():
        kept = _forward(model, cached, 0, cross_attention_states=beside).past_key_values
    return count(lambda: _forward(model, computed, cached, past_key_values=kept))[1]


def _forward(model: PreTrainedModel, computed: int, cached: int, **more: Any) -> Any:
    """The class's own forward; what it is asked about positions is real, all else on meta."""
    import torch

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, device="meta", dtype=model.dtype)

    return model(
        inputs_embeds=empty(1, computed, model.config.text_config.hidden_size),
        attention_mask=empty(1, 1, computed, cached + computed),
        position_ids=torch.empty((1, computed), device="meta", dtype=torch.long),
        cache_position=torch.arange(cached, cached + computed),
        use_cache=True,
        logits_to_keep=1,
        **{name: value for name, value in more.items() if value is not None},
    )


def _look_beside(model: Any, picture: Inputs) -> Seen:
    """Llama-3.2-Vision has no get_image_features: the two modules its forward calls."""
    given = _on_meta(picture, model.dtype)
    given = {name: value for name, value in given.items() if name != "num_tiles"}

    def run() -> Tensor:
        features: Tensor = model.model.vision_model(**given).last_hidden_state
        projected: Tensor = model.model.multi_modal_projector(features)
        return projected.flatten(0, -3)

    states, cost = count(run)
    return Seen(cost, states.shape[:-1].numel(), states)


def _on_meta(picture: Inputs, dtype: Any) -> dict[str, Any]:
    """Pixels and ids lose their values; sizes keep them, since shapes follow from them."""
    import torch

    def move(name: str, value: Any) -> Any:
        if name == "image_sizes":
            return [tuple(int(side) for side in size) for size in value]
        if not isinstance(value, torch.Tensor):
            return value
        return value.to("meta", dtype if value.is_floating_point() else value.dtype)

    return {name: move(name, value) for name, value in picture.items()}


@contextmanager
def _autocast_knows_meta() -> Iterator[None]:
    """Let rotary embeddings switch autocast off on meta, where torch has none to switch off."""
    import torch

    class Autocast(torch.autocast):
        def __init__(self, device_type: str, *args: Any, **more: Any) -> None:
            super().__init__("cpu" if device_type == "meta" else device_type, *args, **more)

    original = torch.autocast
    setattr(torch, "autocast", Autocast)  # noqa: B010
    try:
        yield
    finally:
        setattr(torch, "autocast", original)  # noqa: B010
