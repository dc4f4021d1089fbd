"""The finished GGUF against the checkpoint, tensor by tensor.

Owns: that each stored matrix is the checkpoint's, to within what its type can hold. Behind 26 or
42 layers a logit no longer tells a damaged matrix from honest rounding; its own rows do. Rows are
read back from the file, through the runtime's reader.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Kind

from uservlm.converters.checkpoint import Checkpoint
from uservlm.converters.errors import ConversionError
from uservlm.converters.language_gguf import Entry, converted_rows, tensors
from uservlm.runtime.weights import Weights

ROWS = 16
"""Rows looked at of each tensor, evenly spread."""
BOUNDS: dict[Kind, float] = {
    Kind.F32: 1e-6, Kind.F16: 0.01, Kind.Q8_0: 0.02, Kind.Q6_K: 0.06, Kind.Q5_0: 0.12,
    Kind.Q4_K: 0.25, Kind.Q4_0: 0.25,
}  # fmt: skip
"""Largest ‖stored - original‖ / ‖original‖ a type may cost: two to three times what it costs normal
weights (Q4_0 0.09, Q4_K 0.08, Q6_K 0.02, Q8_0 0.006). Another matrix in its place would give 1.4, a
turned sign 2."""


def largest_error(checkpoint: Checkpoint, path: Path) -> float:
    """Compare every tensor of the GGUF with the checkpoint's and give the largest relative error.

    Raises:
        ConversionError: names the tensor that is further away than its type can explain.
    """
    weights = Weights(path)
    return max(_error(checkpoint, weights, entry) for entry in tensors(checkpoint.shape))


def _error(checkpoint: Checkpoint, weights: Weights, entry: Entry) -> float:
    count = entry.shape[0] if len(entry.shape) > 1 else 1
    chosen = np.unique(np.linspace(0, count - 1, ROWS).astype(int))
    found = weights.rows(chosen.tolist(), entry.target)
    wanted = np.concatenate(
        [np.atleast_2d(converted_rows(checkpoint, entry, row, row + 1)) for row in chosen]
        if len(entry.shape) > 1
        else [converted_rows(checkpoint, entry, 0, entry.shape[0])[None]]
    )
    length = float(np.linalg.norm(wanted))
    error = float(np.linalg.norm(found - wanted)) / max(length, 1e-30)
    kind = Kind(weights.tensors[entry.target].kind)
    # Written so that a NaN fails.
    if not error <= BOUNDS[kind]:
        raise ConversionError(
            f"{entry.target} is {error:.2g} away from {entry.source}, more than {kind.name} can "
            "explain: export again; if it stays so, choose a finer --quant"
        )
    return error
