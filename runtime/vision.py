"""Pixels to image features: what every vision encoder of a bundle promises.

Owns: one picture at a time, on one thread, and that nothing but whole features leaves. Knows
nothing of pictures, users or the language model, nor of how features are computed:
`vision_onnx.py` does it with onnxruntime, `vision_ggml.py` with ggml. `vision_choice.py` says which
of them a bundle gets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from uservlm.runtime.errors import BundleError, EngineError
from uservlm.runtime.manifest import Architecture
from uservlm.runtime.vision_figures import VisionKind

Pixels: TypeAlias = npt.NDArray[np.float32]
"""float32 [1, 3, S, S]."""
Features: TypeAlias = npt.NDArray[np.float32]
"""float32 [N, d], not divided by √d."""


class VisionEncoder(ABC):
    """SigLIP and projector, opened for a picture and closed again.

    A robot sees a new face once in a while, and between two of them the encoder would hold more
    memory than everything else but the language model. Safe to use from several threads;
    they encode one after another, because two at once would need the activations' memory twice.
    """

    kind: VisionKind
    """What computes the features."""

    def __init__(self, architecture: Architecture, *, keep: bool) -> None:
        """Take the sizes; a subclass checks its file and opens nothing.

        Args:
            architecture: what goes in and what comes out.
            keep: stay open between pictures, for who encodes many in a row. `release` closes it.

        Raises:
            BundleError: the sizes contradict each other.
        """
        self.shape = (architecture.image_tokens, architecture.width)
        """(N, d) of the features."""
        side, patch = architecture.image_size, architecture.patch_size
        if architecture.image_tokens * patch**2 != side**2:
            raise BundleError(
                f"{architecture.image_tokens} image tokens are not {side} / {patch} squared; "
                "export the bundle again"
            )
        self._keep, self._lock = keep, Lock()
        # AMX tiles are set up for a thread, by onnxruntime for its shapes and by ggml for others.
        # On one thread each would multiply in what the other left (seen: wrong answers from the
        # second picture on).
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vision")

    @property
    @abstractmethod
    def open(self) -> bool:
        """Whether its memory is taken."""

    def encode(self, pixels: Pixels) -> Features:
        """Compute the features of float32 [1, 3, S, S]: float32 [N, d], not divided by √d.

        Raises:
            BundleError: the file cannot be opened.
            EngineError: the computation failed, or the features are not finite.
        """
        with self._lock:
            try:
                features = self._thread.submit(self._run, pixels).result()
            finally:
                if not self._keep:
                    self._shut()
        if features.shape != self.shape or features.dtype != np.float32:
            raise EngineError(
                f"the vision encoder gave {features.dtype} {features.shape}, "
                f"not float32 {self.shape}"
            )
        if not np.isfinite(features).all():
            raise EngineError(
                "the vision encoder gave values that are not finite: export the bundle again"
            )
        return np.ascontiguousarray(features, dtype=np.float32)

    def release(self) -> None:
        """Give the memory back; waits for a picture that is being encoded.

        The next `encode` opens it again.
        """
        with self._lock:
            self._shut()

    def _shut(self) -> None:
        """Close behind whatever still runs: who waited for that may have been interrupted."""
        self._thread.submit(self._close).result()

    @abstractmethod
    def _run(self, pixels: Pixels) -> npt.NDArray[np.generic]:
        """Open if need be and compute [N, d]; called on the vision thread alone."""

    @abstractmethod
    def _close(self) -> None:
        """Give the memory back, if any is taken; called on the vision thread alone."""
