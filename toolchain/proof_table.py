"""The tables of what was proven, from `toolchain/proofs/*.json`: `prove.py --readme`.

Owns: which pages have such tables, which lines a table has, which of them README repeats, and the
markers `<!-- proofs:emulated -->`, `<!-- proofs:emulated#short -->` and
`<!-- proofs:estimated -->`. A test fails when a page and the records disagree. Knows nothing of how
anything is proven.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from uservlm.bench.markers import fill
from uservlm.toolchain.proof import RECORDS, Part, Proof, load, path_of
from uservlm.toolchain.proof_errors import RecordError
from uservlm.toolchain.proof_world import NATIVE, Weights
from uservlm.toolchain.targets import TARGETS

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = (ROOT / "README.md", ROOT / "docs" / "boards.md")
"""Where the tables stand."""
TELLING: Final = (
    "run on",
    "answers with the host's tokens",
    "loaded from outside the runtime",
    "runtime",
)
"""The lines of the short table."""
MISSING: Final = "not tried"


def update(page: Path, records: Path = RECORDS) -> bool:
    """Write a page's tables anew, and say whether anything changed.

    Raises:
        RecordError: a record cannot be read, or a marker names no table.
        MarkerError: a marker has no end.
    """
    text = page.read_text(encoding="utf-8")
    new = render(text, records)
    if new != text:
        page.write_text(new, encoding="utf-8")
    return new != text


def render(text: str, records: Path = RECORDS) -> str:
    """Give a page's text with the tables these records make; raises as `update` does."""
    proofs = [load(name, records) for name in TARGETS if path_of(name, records).is_file()]
    tables = {"emulated": emulated, "emulated#short": shortened, "estimated": estimated}

    def content(name: str) -> str:
        if name not in tables:
            raise RecordError(f"<!-- proofs:{name} -->: there are {', '.join(tables)}")
        return tables[name](proofs)

    return fill(text, "proofs", content)


def emulated(proofs: Sequence[Proof]) -> str:
    """Give the table of what was shown, a column for each target, and with what."""
    return _shown_table(proofs, _lines(proofs)) + _with(proofs)


def shortened(proofs: Sequence[Proof]) -> str:
    """Give the TELLING lines of the same table."""
    lines = _lines(proofs)
    return _shown_table(proofs, {what: lines[what] for what in TELLING})


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
                _counts(counted, _giga),
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
    note = (
        "\nTimes are estimated of counted instructions, all cores free; nobody measured them. The "
        "image's positions are extrapolated from the few that were counted.\n"
    )
    return _table(head, rows) + note


def _shown_table(proofs: Sequence[Proof], lines: Mapping[str, Sequence[str]]) -> str:
    names = [proof.target for proof in proofs]
    return _table(["", *names], [[what, *cells] for what, cells in lines.items()])


def _lines(proofs: Sequence[Proof]) -> dict[str, list[str]]:
    """Give each line's cells, one for each target."""
    return {
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
        "runtime": [_runtime(proof) for proof in proofs],
    }


def _where(proof: Proof) -> str:
    return _joined(dict.fromkeys(part.where for part in _of(proof, "answers")))


def _controls(proof: Proof) -> str:
    def told(parts: Sequence[Part]) -> str:
        refused = {name for part in parts for name in part.figures.get("refuses", ())}
        return f"SIGILL: {_joined(sorted(refused))}"

    return _shown(_of(proof, "controls"), told)


def _wrong_build(proof: Proof) -> str:
    return _shown(
        _of(proof, "control"),
        lambda parts: _joined(f"{part.must} ({part.where})" for part in parts),
    )


def _tokens(proof: Proof) -> str:
    return _shown(
        _of(proof, "answers", "shipped"),
        _each(lambda found: f"{found['same_tokens']} of {found['questions']}"),
    )


def _logits(proof: Proof, weights: Weights) -> str:
    def told(parts: Sequence[Part]) -> str:
        greatest = max(part.figures["logits"] for part in parts)
        spread = max(part.figures["logits_spread"] for part in parts)
        return f"{greatest:.2g} of a standard deviation of {spread:.2g}"

    return _shown(_of(proof, "answers", weights), told)


def _vision(proof: Proof) -> str:
    """Say how near each encoder comes to the host's same one."""

    def told(parts: Sequence[Part]) -> str:
        least: dict[str, float] = {}
        for figures in (part.figures for part in parts):
            name = f"{figures['vision']}, {figures['weights']}"
            least[name] = min(least.get(name, 1.0), figures["vision_cosine"])
        return _joined(f"{cosine:.6f} ({name})" for name, cosine in least.items())

    return _shown(_of(proof, "answers"), told)


def _variants(proof: Proof) -> str:
    return _shown(_of(proof, "answers"), _each(lambda found: str(found["variant"])))


def _outside(proof: Proof) -> str:
    def told(parts: Sequence[Part]) -> str:
        return f"nothing, of {max(part.figures['libraries'] for part in parts)} libraries"

    return _shown(_of(proof, "answers"), told)


def _carried(proof: Proof) -> str:
    return _shown(
        _of(proof, "carried"), _each(lambda found: f"{found['questions']} answers, no picture")
    )


def _conversation(proof: Proof) -> str:
    return _shown(
        _of(proof, "conversation"),
        _each(lambda found: f"{found['questions']} answers, as the host's"),
    )


def _old_kernel(proof: Proof) -> str:
    def told(parts: Sequence[Part]) -> str:
        space = max(part.figures["address_space_mb"] for part in parts)
        return f"{space} MB of addresses at most, the pocket"

    if proof.target != "pepper-i686":
        return "–"
    return _shown([part for part in _of(proof, "answers") if part.where == NATIVE], told)


def _counted(proof: Proof) -> str:
    return _shown(_of(proof, "instructions"), _each(lambda found: _counts(found, _mega)))


def _runtime(proof: Proof) -> str:
    """Say how large it is, if its files are whole."""
    size = f"{proof.runtime['bytes'] / 1e6:.0f} MB .tar.xz"
    return _shown(_of(proof, "archive"), lambda _: size)


def _counts(found: Mapping[str, Any], spelt: Callable[[float], str]) -> str:
    """Say what was counted, and over how much of it: a position costs less among many."""
    vision = found["vision"]
    picture = "" if vision is None else f"{spelt(vision)} a picture, "
    position = f"{spelt(found['prefill'])} a position (of {found['positions']})"
    return f"{picture}{position}, {spelt(found['decode'])} a token (of {found['tokens']})"


def _with(proofs: Sequence[Proof]) -> str:
    """Say with what it was shown."""
    told = [
        f"{proof.target}: {proof.when[:10]}, commit {_short(proof.commit)}, "
        f"qemu {proof.qemu['proving']}, archive {proof.runtime['sha256'][:12]}…, "
        f"bundle {proof.bundle['name']}"
        for proof in proofs
    ]
    return f"\n{'; '.join(told)}.\n" if told else ""


def _of(proof: Proof, kind: str, weights: Weights | None = None) -> list[Part]:
    """Give the parts of a kind; or those of some weights, and those that did not come so far."""
    parts = [part for part in proof.parts if part.kind == kind]
    return [part for part in parts if weights in (None, part.figures.get("weights", weights))]


def _shown(parts: Sequence[Part], told: Callable[[Sequence[Part]], str]) -> str:
    """Give what is told of parts, if all of them hold; else what does not, and where."""
    if not parts:
        return MISSING
    wrong = [f"{problem} ({part.where})" for part in parts for problem in part.problems]
    return f"NOT SHOWN: {_joined(dict.fromkeys(wrong))}" if wrong else told(parts)


def _each(told: Callable[[Mapping[str, Any]], str]) -> Callable[[Sequence[Part]], str]:
    """Tell what parts found, once where they found the same."""
    return lambda parts: _joined(dict.fromkeys(told(part.figures) for part in parts))


def _short(commit: str) -> str:
    """Give ten digits of a commit, and whatever is said of it besides."""
    name, plus, rest = commit.partition("+")
    return f"{name[:10]}{plus}{rest}"


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
