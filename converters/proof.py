"""What the original said, kept in the bundle, so that it can be proven again without the original.

Owns: `proof.npz`. A bundle that is copied to another machine, or run by another processor or a
newer llama.cpp, is asked the same questions there and compared with this. All of it comes from
drawn people: nothing of anybody's picture is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from uservlm.converters.parity import Logits, Reply
from uservlm.converters.vision_onnx import Features
from uservlm.runtime.bundle import PROOF_FILE
from uservlm.runtime.errors import BundleError

Half = npt.NDArray[np.float16]
TOKENS = 256
"""Image tokens of each picture that are kept, evenly spread."""


@dataclass(frozen=True)
class Said:
    """One model's side of the parity cases."""

    first: Half
    """The original's logits of the first answer token, float16 [cases, rows]."""
    answers: tuple[tuple[int, ...], ...]
    """What the bundle answered when it was made."""


@dataclass(frozen=True)
class Proof:
    """The original's side, and the answers of the day."""

    features: Half
    """User embeddings of the drawn pictures, float16 [pictures, at most TOKENS, d]."""
    limit: int
    """Tokens of an answer, at most."""
    said: Mapping[str, Said]
    """By adapter; NO_ADAPTER is the bundle with none."""

    def save(self, folder: Path) -> Path:
        """Write `proof.npz` into a bundle's folder and give the file."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "features": self.features,
            "limit": np.array(self.limit),
        }
        for name, said in self.said.items():
            lengths = [len(answer) for answer in said.answers]
            flat = [token for answer in said.answers for token in answer]
            arrays[f"{name}/first"] = said.first
            arrays[f"{name}/lengths"] = np.array(lengths, dtype=np.int32)
            arrays[f"{name}/answers"] = np.array(flat, dtype=np.int32)
        np.savez(folder / PROOF_FILE, **arrays)  # type: ignore[arg-type]
        return folder / PROOF_FILE


def make_proof(
    features: Sequence[Features],
    original: Mapping[str, Sequence[Logits]],
    replies: Mapping[str, Sequence[Reply]],
    limit: int,
) -> Proof:
    """Keep what is needed to ask again.

    Args:
        features: the original's, float32 [N, d] per drawn picture.
        original: per adapter and case, float32 [positions, rows].
        replies: the bundle's, per adapter and case.
        limit: tokens that were looked at of each answer.
    """
    said = {
        name: Said(
            np.stack([positions[0] for positions in original[name]]).astype(np.float16),
            tuple(reply.tokens for reply in replies[name]),
        )
        for name in original
    }
    return Proof(np.stack([spread(one) for one in features]).astype(np.float16), limit, said)


def spread(features: Features) -> Features:
    """Give at most TOKENS evenly spread rows of [N, d]."""
    step = max(1, len(features) // TOKENS)
    return features[::step]


def read_proof(folder: Path) -> Proof:
    """Read a bundle's proof.

    Raises:
        BundleError: there is none, or it is damaged.
    """
    path = folder / PROOF_FILE
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = [key.removesuffix("/first") for key in arrays if key.endswith("/first")]
            said = {name: _said(arrays, name) for name in names}
            return Proof(arrays["features"], int(arrays["limit"]), said)
    except FileNotFoundError as error:
        raise BundleError(
            f"{path} is missing: give the original with --reference, or export the bundle again"
        ) from error
    except PermissionError as error:
        raise BundleError(
            f"{path} may not be read by this user: change its permissions (chmod) or its owner"
        ) from error
    except (BadZipFile, ValueError, KeyError, OSError) as error:
        raise BundleError(f"{path} is damaged: {error}; export the bundle again") from error


def _said(arrays: Mapping[str, npt.NDArray[np.generic]], name: str) -> Said:
    ends = np.cumsum(np.asarray(arrays[f"{name}/lengths"], dtype=np.int64))
    flat = arrays[f"{name}/answers"]
    answers = tuple(tuple(int(token) for token in part) for part in np.split(flat, ends[:-1]))
    return Said(np.asarray(arrays[f"{name}/first"], dtype=np.float16), answers)
