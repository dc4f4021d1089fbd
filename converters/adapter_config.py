"""The adapter_config.json of PEFT: a LoRA that is a plain sum, or a refusal that says why.

Owns: which kinds can be merged, and rank and scale of each module. Knows nothing of tensors.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uservlm.converters.errors import CheckpointError

CONFIG_FILE = "adapter_config.json"

MERGE = (
    "merge it with peft (PeftModel.from_pretrained(…).merge_and_unload().save_pretrained(…)) "
    "and export the result"
)

PLAIN = "export a plain LoRA instead, which means the same for every token"

REFUSED: dict[str, str] = {
    "use_dora": "DoRA changes the length of weights, it does not only add to them",
    "use_qalora": "QALoRA pools its inputs",
    "use_bdlora": "its matrices are block-diagonal",
    "lora_bias": "it trains biases",
    "fan_in_fan_out": "its weights are stored transposed, as no PaliGemma's are",
    "trainable_token_indices": "it trains single rows of the token embeddings",
    "layer_replication": "it makes layers that the checkpoint does not have",
    "target_parameters": "it adapts parameters that are no layer's weight",
    "kasa_config": "KaSA changes the weights it starts from",
    "monteclora_config": "MonteCLoRA draws its weights",
    "megatron_config": "it was trained on Megatron's own layers",
}
"""Fields that must be empty, and what they mean; peft can merge these."""
PER_TOKEN: dict[str, str] = {
    "alora_invocation_tokens": "aLoRA is on for a part of the prompt only",
    "arrow_config": "Arrow chooses among adapters for every token",
}
"""Fields that must be empty because nothing could be merged."""
START = (True, False, "gaussian", "eva", "orthogonal")
"""init_lora_weights after which the base weights are still the checkpoint's; PiSSA, OLoRA, CorDA,
LoftQ and LoRA-GA take from them what they give the adapter (peft, tuners/lora/layer.py)."""
IGNORED = frozenset(
    (
        "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path",
        "revision", "inference_mode", "r", "target_modules", "exclude_modules", "lora_alpha",
        "lora_dropout", "bias", "use_rslora", "modules_to_save", "init_lora_weights",
        "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "megatron_core",
        "loftq_config", "eva_config", "corda_config", "lora_ga_config", "velora_config",
        "qalora_group_size", "ensure_weight_tying", "runtime_config", "target_modules_to_tie",
    )
)  # fmt: skip
"""Fields read here, and those that say only how the adapter was trained (peft 0.21.2)."""


@dataclass(frozen=True)
class Recipe:
    """How large the matrices are and how much they count."""

    r: int
    alpha: float
    ranks: dict[str, int]
    """Other ranks, by a pattern of the module's name."""
    alphas: dict[str, float]
    stabilised: bool
    """Divide by √rank instead of rank (rsLoRA)."""

    def rank(self, module: str) -> int:
        """Give the rank for a module, by its name in the wrapped model."""
        return self.ranks.get(_pattern(self.ranks, module), self.r)

    def scale(self, module: str) -> float:
        """Give the factor of B @ A for a module."""
        alpha, rank = self.alphas.get(_pattern(self.alphas, module), self.alpha), self.rank(module)
        return alpha / (math.sqrt(rank) if self.stabilised else rank)


def parse_recipe(path: Path, config: dict[str, Any]) -> Recipe:
    """Check a configuration and take from it what a merge needs.

    Raises:
        CheckpointError: damaged, or a kind of adapter that is not a plain sum.
    """
    _check_kind(path, config)
    try:
        recipe = Recipe(
            r=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            ranks={str(key): int(rank) for key, rank in (config.get("rank_pattern") or {}).items()},
            alphas={
                str(k): float(alpha) for k, alpha in (config.get("alpha_pattern") or {}).items()
            },
            stabilised=bool(config.get("use_rslora", False)),
        )
        for pattern in (*recipe.ranks, *recipe.alphas):
            re.compile(pattern)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, re.error) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error
    for alpha in (recipe.alpha, *recipe.alphas.values()):
        if not math.isfinite(alpha):
            raise CheckpointError(f"{path}: alpha is {alpha}, no finite number; save it again")
    if min((recipe.r, *recipe.ranks.values())) < 1:
        raise CheckpointError(f"{path}: a rank below 1")
    return recipe


def _check_kind(path: Path, config: dict[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        way_out = PLAIN if kind == "XLORA" else MERGE
        raise CheckpointError(f"{path}: peft_type {kind!r}, supported is 'LORA'; {way_out}")
    for name, value in config.items():
        if not value or name in IGNORED:
            continue
        reason = REFUSED.get(name) or PER_TOKEN.get(name) or "not known here"
        way_out = PLAIN if name in PER_TOKEN else MERGE
        raise CheckpointError(f"{path}: {name}={value!r}: {reason}; {way_out}")
    if config.get("bias", "none") != "none":
        raise CheckpointError(f"{path}: bias={config['bias']!r}: it trains biases; {MERGE}")
    start = config.get("init_lora_weights", True)
    if start not in START:
        raise CheckpointError(
            f"{path}: init_lora_weights={start!r} changes the weights it starts from; {MERGE}"
        )


def _pattern(patterns: dict[str, Any], module: str) -> str:
    """Give the first pattern that ends a module's name, as peft's `get_pattern_key` does."""
    fits = (key for key in patterns if re.match(rf"(.*\.)?({key})$", module))
    return next(fits, module)
