"""Which of a bundle's vision encoders is used, and opening it.

Owns: the choice: onnxruntime where the bundle has `vision.onnx` and this Python has onnxruntime,
ggml otherwise, unless the caller says which. It is made once, when a bundle is opened, and can be
asked for (`UserVLM.vision`, `uservlm inspect`): an encoder that fails later is an error and never a
reason to take the other one in silence. Knows nothing of how either computes.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final, Literal, TypeAlias, get_args

from uservlm.runtime.bundle import Bundle
from uservlm.runtime.errors import BundleError, RequestError
from uservlm.runtime.manifest import Manifest
from uservlm.runtime.vision import VisionEncoder
from uservlm.runtime.vision_figures import VISION_FILES, VisionKind
from uservlm.runtime.vision_ggml import GgmlVision
from uservlm.runtime.vision_onnx import OnnxVision

VisionChoice: TypeAlias = Literal["auto", "onnx", "ggml"]
"""What a caller may ask for."""

_REMEDIES: Final[dict[VisionKind, str]] = {
    "onnx": "export it again without --vision none",
    "ggml": "export it again with --vision-gguf q8_0",
}


def possible_vision(manifest: Manifest) -> tuple[VisionKind, ...]:
    """Give what can compute a bundle's features here, the first choice first.

    onnxruntime is looked for and not imported.
    """
    onnx = find_spec("onnxruntime") is not None
    return tuple(kind for kind in manifest.seeing if onnx or kind != "onnx")


def choose_vision(manifest: Manifest, wanted: VisionChoice = "auto") -> VisionKind:
    """Decide what computes the features.

    Raises:
        RequestError: what was asked for is neither of them.
        BundleError: it is not in the bundle, or not possible here.
    """
    if wanted not in get_args(VisionChoice):
        raise RequestError(f"vision={wanted!r}: one of {', '.join(get_args(VisionChoice))}")
    possible = possible_vision(manifest)
    if possible and wanted == "auto":
        return possible[0]
    if wanted != "auto" and wanted in possible:
        return wanted
    if wanted == "auto" or wanted in manifest.seeing:
        other = 'ask for vision="ggml"' if "ggml" in possible else _REMEDIES["ggml"]
        raise BundleError(
            f"the bundle {manifest.name} sees with onnxruntime, which is not installed here: "
            f"install it (pip install onnxruntime), or {other}"
        )
    raise BundleError(
        f"the bundle {manifest.name} has no {VISION_FILES[wanted]}: {_REMEDIES[wanted]}"
    )


def open_vision(
    bundle: Bundle, kind: VisionKind, threads: int, *, keep: bool = False
) -> VisionEncoder:
    """Check the file of an encoder that `choose_vision` gave; arguments as for `OnnxVision`.

    Raises:
        BundleError: damaged, or not this bundle's.
    """
    path, architecture = bundle.vision(kind), bundle.manifest.architecture
    if kind == "onnx":
        return OnnxVision(path, architecture, threads, keep=keep)
    return GgmlVision(path, architecture, threads)
