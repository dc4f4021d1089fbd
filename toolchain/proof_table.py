"""README's tables of what was proven, from `toolchain/proofs/*.json`: `prove.py --readme`.

Owns: which lines the tables have, and their markers `<!-- proofs:emulated -->` and
`<!-- proofs:estimated -->`. A test fails when README and the records disagree. Knows nothing of
how anything is proven.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from uservlm.bench.markers import fill
from uservlm.toolchain.proof import RECORDS, Part, Proof, load, path_of
from uservlm.toolchain.proof_errors import RecordError
from uservlm.toolchain.proof_world import Weights
from uservlm.toolchain.targets import TARGETS

README: Final = Path(__file__).resolve().parents[1] / "README.md"
MISSING: Final = "not tried"


def update(readme: Path, records: Path = RECORDS) -> bool:
    """Write the tables anew, and say whether anything changed.

    Raises:
        RecordError: a record cannot be read, or a marker names no table.
        MarkerError: a marker has no end.
    """
    text = readme.read_text(encoding="utf-8")
    new = render(text, records)
    if new != text:
        readme.write_text(new, encoding="utf-8")
    return new != text


def render(text: str, records: Path = RECORDS) -> str:
    """Give README's text with the tables these records make; raises as `update` does."""
    proofs = [load(name, records) for name in TARGETS if path_of(name, records).is_file()]
    tables = {"emulated": emulated, "estimated": estimated}

    def content(name: str) -> str:
        if name not in tables:
            raise RecordError(f"<!-- proofs:{name} -->: there are {', '.join(tables)}")
        return tables[name](proofs)

    return fill(text, "proofs", content)


def emulated(proofs: Sequence[Proof]) -> str:
    """Give the table of what was shown, a column for each target."""
    lines = {
        "run on": [_where(proof) for proof in proofs],
        "the emulator refuses what the processor lacks": [_controls(proof) for proof in proofs],
        "a wrong build fails there": [_wrong_build(proof) for proof in proofs],
        "answers with the host's tokens": [_tokens(proof) for proof in proofs],
        "greatest difference of a logit, weights in float": [
            _logits(proof, "float") for proof in proofs
        ],
        "the same, 4 bits": [_logits(proof, "shipped") for proof in proofs],
        "user embedding, cosine with the host's": [_vision(proof) for proof in proofs],
        "ggml's variant": [_variants(proof) for proof in proofs],
        "loaded from outside the runtime": [_outside(proof) for proof in proofs],
        "asked about whom a companion has seen": [_carried(proof) for proof in proofs],
        "asked over a virtual Pepper's bus": [_conversation(proof) for proof in proofs],
        "32 bits, 3 GB, Linux 4.0's calls": [_old_kernel(proof) for proof in proofs],
        "instructions, pocket": [_counted(proof) for proof in proofs],
        "runtime": [f"{proof.runtime['bytes'] / 1e6:.0f} MB .tar.xz" for proof in proofs],
    }
    names = [proof.target for proof in proofs]
    return _table(["", *names], [[what, *cells] for what, cells in lines.items()]) + _with(proofs)


def estimated(proofs: Sequence[Proof]) -> str:
    """Give the table of counted instructions, and the times that were estimated of them."""
    rows = []
    for one in (estimate for proof in proofs for estimate in proof.estimates):
        seconds, counted, on = one["estimated_seconds"], one["counted"], one["on"]
        space = one["native_within_3_gb"].get("address_space_mb")
        rows.append(
            [
                f"{one['bundle']}, {one['image_size']} px, {one['language']}",
                on["name"],
                f"{_giga(counted['prefill'])} a position, {_giga(counted['decode'])} a token",
                _seconds(seconds["token"]),
                _seconds(seconds["image_tokens"]),
                _seconds(seconds["vision"]) if "vision" in seconds else "not counted",
                f"{space} MB" if space else "not measured",
            ]
        )
    head = [
        "",
        "on",
        "instructions",
        "a token",
        "the image's positions",
        "the picture",
        "addresses",
    ]
    note = "\nTimes are estimated of counted instructions, all cores free; nobody measured them.\n"
    return _table(head, rows) + note


def _where(proof: Proof) -> str:
    return _joined(dict.fromkeys(part.where for part in _of(proof, "answers")))


def _controls(proof: Proof) -> str:
    refused = {name for part in _of(proof, "controls") for name in part.figures.get("refuses", ())}
    return _shown(_of(proof, "controls"), f"SIGILL: {_joined(sorted(refused))}")


def _wrong_build(proof: Proof) -> str:
    parts = _of(proof, "control")
    return _shown(parts, _joined(f"{part.must} ({part.where})" for part in parts))


def _tokens(proof: Proof) -> str:
    parts = _of(proof, "answers", "shipped")
    return _shown(
        parts, _each(parts, lambda found: f"{found['same_tokens']} of {found['questions']}")
    )


def _logits(proof: Proof, weights: Weights) -> str:
    parts = _of(proof, "answers", weights)
    if not parts:
        return MISSING
    greatest = max(part.figures["logits"] for part in parts)
    spread = max(part.figures["logits_spread"] for part in parts)
    return f"{greatest:.2g} of a standard deviation of {spread:.2g}"


def _vision(proof: Proof) -> str:
    """Say how near each encoder comes to the host's same one."""
    least: dict[str, float] = {}
    for part in (part for part in _of(proof, "answers") if part.figures):
        name = f"{part.figures['vision']}, {part.figures['weights']}"
        least[name] = min(least.get(name, 1.0), part.figures["vision_cosine"])
    return _joined(f"{cosine:.6f} ({name})" for name, cosine in least.items()) or MISSING


def _variants(proof: Proof) -> str:
    return _each(_of(proof, "answers"), lambda found: str(found["variant"]))


def _outside(proof: Proof) -> str:
    parts = _of(proof, "answers")
    bad = [problem for part in parts for problem in part.problems if "has loaded" in problem]
    libraries = max((part.figures.get("libraries", 0) for part in parts), default=0)
    return _joined(bad) if bad else _shown(parts, f"nothing, of {libraries} libraries")


def _carried(proof: Proof) -> str:
    parts = _of(proof, "carried")
    return _shown(parts, _each(parts, lambda found: f"{found['questions']} answers, no picture"))


def _conversation(proof: Proof) -> str:
    parts = _of(proof, "conversation")
    return _shown(parts, _each(parts, lambda found: f"{found['questions']} answers, as the host's"))


def _old_kernel(proof: Proof) -> str:
    parts = [part for part in _of(proof, "answers") if part.where == "native"]
    if proof.target != "pepper-i686":
        return "–"
    space = max((part.figures.get("address_space_mb", 0) for part in parts), default=0)
    return _shown(parts, f"{space} MB of addresses at most, the pocket")


def _counted(proof: Proof) -> str:
    def told(found: Mapping[str, Any]) -> str:
        vision = found["vision"]
        picture = "" if vision is None else f"{_mega(vision)} a picture, "
        return f"{picture}{_mega(found['prefill'])} a position, {_mega(found['decode'])} a token"

    parts = _of(proof, "instructions")
    return _shown(parts, _each(parts, told))


def _with(proofs: Sequence[Proof]) -> str:
    """Say with what it was shown."""
    told = [
        f"{proof.target}: {proof.when[:10]}, commit {proof.commit}, qemu {proof.qemu['proving']}, "
        f"archive {proof.runtime['sha256'][:12]}…, bundle {proof.bundle['name']}"
        for proof in proofs
    ]
    return f"\n{'; '.join(told)}.\n" if told else ""


def _of(proof: Proof, kind: str, weights: Weights | None = None) -> list[Part]:
    """Give the parts of a kind; those of some weights, if they came so far as to have figures."""
    parts = [part for part in proof.parts if part.kind == kind]
    if weights is None:
        return parts
    return [part for part in parts if part.figures.get("weights") == weights]


def _shown(parts: Sequence[Part], text: str) -> str:
    """Give the text, if all of it is shown."""
    if not parts:
        return MISSING
    wrong = [problem for part in parts for problem in part.problems]
    return f"NOT SHOWN: {_joined(wrong)}" if wrong else text


def _each(parts: Sequence[Part], told: Callable[[Mapping[str, Any]], str]) -> str:
    """Give what the parts found, once where they found the same."""
    return _joined(dict.fromkeys(told(part.figures) for part in parts if part.figures)) or MISSING


def _mega(count: float) -> str:
    return f"{count / 1e6:.3g} M"


def _giga(count: float) -> str:
    return f"{count / 1e9:.2g} G"


def _seconds(bounds: Sequence[float]) -> str:
    least, most = bounds
    return f"{least:g} to {most:g} s"


def _joined(texts: Iterable[str]) -> str:
    return ", ".join(texts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )
