"""docs/fairness.md held against the code: what it names is there, its limits are the audit's."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from uservlm.bench.audit.probes import read

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGE = (DOCS / "fairness.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("#")[0].split()
    for block in re.findall(r"```\n(.*?)```", PAGE, flags=re.S)
    for line in block.splitlines()
    if line.strip().startswith(("python ", "uservlm "))
]


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


def test_its_table_names_every_probe_and_the_limits() -> None:
    for probe in read().probe:
        assert f"`{probe.id}`" in PAGE, probe.id
    assert "at most 0.05 more" in PAGE and "at most 3 times" in PAGE and "at most 0.15" in PAGE
    text = (ROOT / "bench" / "audit" / "thresholds.toml").read_text(encoding="utf-8")
    values = re.findall(r"^\[(\w+\.\w+)\].*?^value = ([\d.]+)", text, flags=re.M | re.S)
    assert dict(values)["counterfactual.excess"] == "0.05"
    assert dict(values)["counterfactual.kl_ratio"] == "3.0"
    assert dict(values)["stereotype.gap"] == "0.15"
