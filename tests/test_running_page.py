"""docs/running.md, followed word for word on the pocket bundle."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^(?:uservlm|python) .*$", PAGE, re.MULTILINE)


def test_the_page_can_be_followed(
    pocket_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from uservlm.models.demo import save_pictures

    bundles = tmp_path / "bundles"
    bundles.mkdir()
    (bundles / "pocket").symlink_to(pocket_bundle)
    save_pictures(bundles)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/running.md", "exec"), names)
    names["vlm"].close()  # type: ignore[attr-defined]
    assert "Let us go step by step" in capsys.readouterr().out
    left = {path.name for path in (bundles / "people").iterdir()}
    assert len(left) <= 3, f"Grace was forgotten: only the key and its proof stay, not {left}"


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_are_understood(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not run here, but for their options: other tests run them."""
    from uservlm.runtime.__main__ import _parser

    program, *arguments = shlex.split(line.partition(" #")[0])
    if program == "uservlm":
        assert _parser().parse_args(arguments)
    else:
        assert (ROOT / arguments[0]).is_file()
