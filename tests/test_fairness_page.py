"""docs/fairness.md held against the code: what it names is there, its limits are the audit's."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from audit_tables import PROBES, passing

from uservlm.bench.audit import thresholds, world
from uservlm.bench.audit.phrases import KEPT, NOT_KEPT, TOO_FEW
from uservlm.bench.audit.probes import PARTS, read

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGE = (DOCS / "fairness.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("#")[0].split()
    for block in re.findall(r"```\n(.*?)```", PAGE, flags=re.S)
    for line in block.splitlines()
    if line.strip().startswith(("python ", "uservlm "))
]
DECIDING = [
    ("" if number else probe, figure.name.replace("_", " "),
     f"{'≤' if figure.limit.side == 'at most' else '≥'} {figure.limit.value:g}")
    for probe in PROBES
    for number, figure in enumerate(one for one in passing(probe).figures if one.limit)
    if figure.limit is not None
]  # fmt: skip
"""Rows of an audit's table: the probe in its first one, the figure, its limit."""


def source(words: list[str]) -> str:
    """The code of the command that a line starts."""
    if words[0] == "uservlm":
        folder = ROOT / "runtime"
        names = [f"{words[1]}_command.py", "__main__.py", "ask_command.py", "engine_options.py"]
        return "".join(path.read_text() for path in map(folder.joinpath, names) if path.is_file())
    if words[1] == "-m":
        found = find_spec(words[2])
        assert found is not None and found.origin is not None, words[2]
        return Path(found.origin).read_text(encoding="utf-8")
    command = ROOT / words[1]
    beside = command.parent.glob("options.py") if command.name == "export.py" else ()
    return "".join(path.read_text(encoding="utf-8") for path in (command, *beside))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_its_commands_have_these_options(words: list[str]) -> None:
    code = source(words)
    for option in (word for word in words if word.startswith("--")):
        assert f'"{option}"' in code, option


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)\s]+)\)", PAGE))))
def test_its_links_lead_somewhere(target: str) -> None:
    if target.startswith("https://"):
        return
    file, _, anchor = target.partition("#")
    text = (DOCS / file).read_text(encoding="utf-8") if file else PAGE
    heads = re.findall(r"^#+ (.+)$", text, flags=re.M)
    anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
    assert not anchor or anchor in anchors


def test_its_table_names_every_probe_and_all_limits_of_its_part() -> None:
    found: dict[str, set[str]] = {}
    part = ""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and re.search(r"at (?:most|least) [\d.]+", cells[4]):
            part = cells[0][:1] or part
            found.setdefault(part, set()).update(re.findall(r"at (?:most|least) [\d.]+", cells[4]))
    rules = thresholds.limits()
    written = {
        name: {f"{one.side} {one.value:g}" for one in rules[name].values()} for name in rules
    }
    assert found == {str(number): written[name] for number, name in enumerate(PARTS, 1)}
    own = PAGE[PAGE.index("## With your own pictures") :]
    assert written["group"] <= set(re.findall(r"at (?:most|least) [\d.]+", own))
    assert all(f"`{probe.id}`" in PAGE for probe in read().probe)


def test_its_audits_are_of_todays_people_and_told_in_the_audits_words() -> None:
    assert f"seed {world.SEED}" in PAGE
    audits = [
        one for one in re.findall(r"```\n(.*?)```", PAGE, flags=re.S) if "part and probe" in one
    ]
    rows = [[line for line in one.splitlines() if re.search(r"[≤≥]", line)] for one in audits]
    assert len(audits) == 3 and len({len(some) for some in rows}) == 1
    for some in rows:
        probes = [row[:20].strip().partition(" ")[2] for row in some]
        figures = [re.split(r"\s{2,}", row[20:].strip()) for row in some]
        told = [(probe, figure[0], figure[-2])
                for probe, figure in zip(probes, figures, strict=True)]  # fmt: skip
        assert told == DECIDING
        assert all(row.endswith((f"  {KEPT}", f"  {NOT_KEPT}", f"  {TOO_FEW}")) for row in some)
