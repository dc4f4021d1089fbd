"""A finished bundle proven again, on this machine and by this processor, without the original.

Owns: asking a bundle what its proof holds the original's words for. Needs nothing but the runtime:
what a bundle is held against here came along with it. `verify_against.py` asks the original anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from uservlm.converters.cases import calibration_cases, calibration_pictures
from uservlm.converters.errors import ParityError
from uservlm.converters.parity import Done, Reply, ask, thresholds
from uservlm.converters.plan import heading
from uservlm.converters.proof import Proof, Said, read_proof, spread
from uservlm.converters.vision_onnx import mean_token_cosine
from uservlm.runtime.adapters import NO_ADAPTER
from uservlm.runtime.agreement import kl_divergence
from uservlm.runtime.bundle import PROOF_FILE, Bundle, open_bundle
from uservlm.runtime.errors import BundleError
from uservlm.runtime.manifest import Manifest, Parity
from uservlm.runtime.vision_choice import VisionChoice, choose_vision

LIMITS = ("vision_cosine", "answer_kl")
"""Of the thresholds: what a repetition is held against."""


@dataclass(frozen=True)
class Repeat:
    """One model of a bundle, asked again and compared with what the original said then."""

    adapter: str
    """NO_ADAPTER for none."""
    cases: int
    vision_cosine: float
    first_token_kl: float
    first_token_top1: float
    same_answers: float
    """Share of answers that are, token by token, those of the day the bundle was made."""
    recorded: Parity
    """The figures of that day."""

    @property
    def faults(self) -> list[str]:
        """What is worse than the export itself would have let pass."""
        limits = self.recorded.threshold
        faults = []
        # Written so that a NaN is a fault.
        if not self.vision_cosine >= limits["vision_cosine"]:
            faults.append(
                f"vision_cosine is {self.vision_cosine:.4g}, "
                f"needed at least {limits['vision_cosine']:g}"
            )
        if not self.first_token_kl <= limits["answer_kl"]:
            faults.append(
                f"first_token_kl is {self.first_token_kl:.4g}, "
                f"needed at most {limits['answer_kl']:g}"
            )
        return faults


def repeat(
    path: Path, done: Done = lambda count: None, vision: VisionChoice = "auto"
) -> list[Repeat]:
    """Hash every file, ask the bundle the cases of its proof again, and compare.

    Args:
        path: the bundle's folder.
        done: called with 1 after each answer.
        vision: which encoder looks; held against the figures of that one.

    Raises:
        BundleError: damaged, or it holds no proof, or no such encoder.
    """
    from uservlm.runtime import UserVLM

    bundle = open_bundle(path)
    proof = read_proof(path)
    recorded = {name: _recorded(bundle, name, vision) for name in proof.said}
    with UserVLM.load(path, attention="exact", vision=vision, verify=False) as vlm:
        users = [vlm.encode(picture) for picture in calibration_pictures()[: len(proof.features)]]
        cosine = min(
            mean_token_cosine(theirs.astype(np.float32), spread(user.features))
            for theirs, user in zip(proof.features, users, strict=True)
        )
        found = []
        for name, said in proof.said.items():
            cases = calibration_cases(len(said.answers))
            replies = ask(vlm, cases, users, "exact", done, name, proof.limit)
            found.append(_compare(name, recorded[name], cosine, said, replies))
    return found


def check_repeats(repeats: Sequence[Repeat]) -> None:
    """Stop a bundle that no longer answers as it should.

    Raises:
        ParityError: names every figure that misses its threshold.
    """
    faults = [f"{heading(one.adapter)}{fault}" for one in repeats for fault in one.faults]
    if faults:
        raise ParityError(f"the bundle does not answer like its original here: {'; '.join(faults)}")


def questions_in(proof: Proof) -> int:
    """Count the answers that `repeat` asks for."""
    return sum(len(said.answers) for said in proof.said.values())


def _recorded(bundle: Bundle, name: str, vision: VisionChoice) -> Parity:
    """Give the figures that a model of the bundle had when it was made, seeing by `vision`."""
    manifest = bundle.manifest
    if name != NO_ADAPTER and name not in manifest.adapters:
        raise BundleError(
            f"{bundle.path}: {PROOF_FILE} is about an adapter {name!r} that the manifest does not "
            "list; export the bundle again"
        )
    recorded = manifest.parity if name == NO_ADAPTER else manifest.adapters[name].parity
    if recorded is None:
        raise BundleError(f"{bundle.path}: the manifest holds no parity; export the bundle again")
    lacking = [figure for figure in LIMITS if figure not in recorded.threshold]
    if lacking:
        raise BundleError(
            f"{bundle.path}: the manifest's parity.threshold lacks {', '.join(lacking)}; "
            "export the bundle again"
        )
    return _seen_by(manifest, recorded, vision)


def _seen_by(manifest: Manifest, recorded: Parity, vision: VisionChoice) -> Parity:
    """Put in the other encoder's figures: those of the export are of the first one listed."""
    other = manifest.vision_ggml
    if other is None or choose_vision(manifest, vision) == manifest.seeing[0]:
        return recorded
    limits = thresholds(replace(manifest.precision, vision=other.kind))
    return replace(recorded, vision_cosine=other.cosine, threshold=limits)


def _compare(
    name: str, recorded: Parity, cosine: float, said: Said, replies: Sequence[Reply]
) -> Repeat:
    first = [(theirs.astype(np.float32), ours.logits[0]) for theirs, ours in
             zip(said.first, replies, strict=True)]  # fmt: skip
    return Repeat(
        adapter=name,
        cases=len(replies),
        vision_cosine=cosine,
        first_token_kl=float(np.mean([kl_divergence(one, two) for one, two in first])),
        first_token_top1=float(np.mean([one.argmax() == two.argmax() for one, two in first])),
        same_answers=float(
            np.mean(
                [theirs == ours.tokens for theirs, ours in zip(said.answers, replies, strict=True)]
            )
        ),
        recorded=recorded,
    )
