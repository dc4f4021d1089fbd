"""docs/serving.md, followed word for word on the pocket bundle."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from serving import serving

from uservlm.models.demo import save_pictures
from uservlm.runtime.__main__ import _parser
from uservlm.runtime.server.faults import _RULES
from uservlm.runtime.server.limits import Limits

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^uservlm .*$", PAGE, re.MULTILINE)
ADDRESS = "http://127.0.0.1:8642"


def test_the_page_can_be_followed(
    pocket_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "bundles").mkdir()
    save_pictures(tmp_path / "bundles")
    monkeypatch.chdir(tmp_path)
    with serving(pocket_bundle, tmp_path) as brain:
        names: dict[str, object] = {}
        for block in BLOCKS:
            code = block.replace(ADDRESS, brain.url)
            exec(compile(code, "docs/serving.md", "exec"), names)
        assert brain.client.get("/v1/users").json()["data"] == []
    printed = capsys.readouterr().out
    assert printed.count("Let us go step by step") == 2
    assert re.search(r"20\d\d-\d\d-\d\dT", printed), "an expiry"


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_are_understood(line: str) -> None:
    program, *arguments = shlex.split(line.partition(" #")[0])
    assert program == "uservlm" and _parser().parse_args(arguments)


def test_it_names_every_code_and_the_limits_as_they_are() -> None:
    for rule in _RULES.values():
        assert f"`{rule.code}`" in PAGE, rule.code
    limits = Limits()
    for figure in (
        f"{limits.pixels // 10**6} megapixels and {limits.image_bytes // 10**6} MB",
        f"{limits.body_bytes // 2**20} MiB",
        f"{limits.waiting} turns wait or run",
        f"up to {limits.answer_tokens:,} are given".replace(",", " "),
    ):
        assert figure in PAGE, figure


def test_it_names_every_route(pocket_bundle: Path, tmp_path: Path) -> None:
    with serving(pocket_bundle, tmp_path) as brain:
        paths = brain.client.get("/openapi.json").json()["paths"]
    for path in paths:
        shown = path.replace("{user}", "ID").replace("{turn}", "TURN")
        shown = shown.replace("{model}", "NAME").replace("{session}", "SESSION")
        assert shown in PAGE or shown == "/v1/chat/completions", path
