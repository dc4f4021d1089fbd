"""What the caller of an export may choose, checked before anything is done."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from uservlm.converters.cases import CASES
from uservlm.converters.errors import ConversionError
from uservlm.converters.quantise import QUANTISATIONS
from uservlm.models.prompt import TEMPLATE
from uservlm.runtime.adapters import NO_ADAPTER
from uservlm.runtime.manifest import Mask

VISIONS = ("int8", "fp32", "none")
VISION_GGUFS = ("q8_0", "f32", "none")
KNOWN: dict[str, tuple[str | None, ...]] = {
    "quant": QUANTISATIONS,
    "vision": VISIONS,
    "vision_gguf": (*VISION_GGUFS, None),
    "mask": get_args(Mask),
}
"""What an option may be."""


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how."""

    model: str | Path
    """A checkpoint's folder, or a hub id such as `ACIDE/User-VLM-3B-base`; also a PEFT adapter."""
    out: Path
    """Folder of the bundle."""
    quant: str = "q4_k_m"
    """Weights of the language model, one of QUANTISATIONS."""
    vision: str = "int8"
    """Weights of `vision.onnx`, one of VISIONS; none: it is left out."""
    vision_gguf: str | None = None
    """Weights of `vision.gguf`, one of VISION_GGUFS; None: one as fine as vision.onnx where the
    model is small or there is no vision.onnx, otherwise none."""
    template: str = TEMPLATE
    """Text around a question; PaliGemma's own models take `{question}` and a newline."""
    revision: str | None = None
    """Branch, tag or commit of the hub repository."""
    adapters: tuple[str | Path, ...] = ()
    """PEFT LoRA adapters, folders or hub ids, merged into the weights in this order."""
    kept: Mapping[str, str | Path] = field(default_factory=dict)
    """PEFT LoRA adapters by the name they are switched on with at run time."""
    calibration: Path | None = None
    """Folder of pictures the int8 vision encoder is measured on; None draws people."""
    importance: int = 0
    """Calibration prompts an importance matrix is measured on before quantising; 0: none."""
    mask: Mask = "paligemma"
    """What the checkpoint was tuned with; user-first makes resident what it computes."""
    cases: int | None = None
    """Pairs of picture and question the bundle is compared on; None goes by the model's size."""
    force: bool = False
    """Export again even when the bundle is there already."""

    def __post_init__(self) -> None:
        """Refuse what no export could be made of.

        Raises:
            ConversionError: names the option and what it may be.
        """
        for name, known in KNOWN.items():
            if (given := getattr(self, name)) not in known:
                listed = ", ".join(one for one in known if one is not None)
                raise ConversionError(f"{name} is {given!r}, not one of {listed}")
        if (self.vision, self.vision_gguf) == ("none", "none"):
            raise ConversionError("without vision.onnx and vision.gguf a bundle is blind: keep one")
        if self.template.count("{question}") != 1 or not self.template.endswith("\n"):
            raise ConversionError(
                f"template {self.template!r} must hold {{question}} once and end in a newline"
            )
        if self.cases is not None and not 1 <= self.cases <= CASES:
            raise ConversionError(f"cases is {self.cases}: give 1 to {CASES}")
        if not 0 <= self.importance <= CASES:
            raise ConversionError(f"importance is {self.importance}: give 0 to {CASES} prompts")
        for name in self.kept:
            if name == NO_ADAPTER or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                raise ConversionError(
                    f"adapter name {name!r}: give letters, digits, dots and dashes, "
                    f"and not {NO_ADAPTER!r}"
                )
