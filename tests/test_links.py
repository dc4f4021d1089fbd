"""README and docs: every relative link leads to a file, every #anchor to a heading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "models" / "pocket" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCED = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


def broken(page: Path) -> Iterator[str]:
    """Give the links of a page that lead nowhere."""
    text = re.sub(r"`[^`\n]*`", "", FENCED.sub("", page.read_text(encoding="utf-8")))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        to = page.parent / file if file else page
        if not to.exists() or (anchor and anchor not in anchors(to)):
            yield target


@cache
def anchors(page: Path) -> frozenset[str]:
    """Give a page's anchors, as GitHub makes them of headings: a repeated one is numbered."""
    found: set[str] = set()
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    for heading in re.findall(r"^#{1,6} +(.+?) *$", text, re.MULTILINE):
        shown = re.sub(r"\]\([^)]*\)", "]", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        again = 1
        while (numbered := name if again == 1 else f"{name}-{again - 1}") in found:
            again += 1
        found.add(numbered)
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert not [*broken(page)]


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# One `thing`, twice\n\n# One thing, twice\n```\n# no heading\n```\n")
    page.write_text(
        "[a](other.md) [b](other.md#one-thing-twice-1) [c](#here) [d](https://example.org/x)\n"
        "[e](none.md) [f](other.md#two) [g](#there) [h](other.md#no-heading) `[i](code.md)`\n"
        "```\n[j](fenced.md)\n```\n## Here\n"
    )
    assert [*broken(page)] == ["none.md", "other.md#two", "#there", "other.md#no-heading"]
