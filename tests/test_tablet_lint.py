"""The linters of the tablet's page: they bite, they pass the page, and they name no registry."""

from __future__ import annotations

import json
import re
import shutil
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from uservlm.toolchain import tablet_lint

SCRIPTS = {
    "an-arrow-function": "window.setTimeout(() => 1, 1);",
    "let": "(function () { 'use strict'; let a = 1; return a; }());",
    "a-class": "(function () { 'use strict'; class A {} return A; }());",
    "a-template": "document.title = `a`;",
    "a-default-value": "(function (a = 1) { 'use strict'; return a; }());",
    "array-from": "document.title = Array.from([1]).length;",
    "object-entries": "document.title = Object.entries({}).length;",
    "object-assign": "document.title = Object.assign({}, {}).a;",
    "a-string-s-includes": "document.title = 'a'.includes('a');",
    "a-promise": "document.title = new Promise(function () { return 1; });",
    "a-lookbehind": "document.title = 'a'.replace(/(?<=a)b/, '');",
    "for-each-of-a-list-of-nodes": "document.querySelectorAll('p').forEach(Boolean);",
    "append": "document.body.append('a');",
    "replace-children": "document.body.replaceChildren();",
    "the-name-of-a-key": "document.onkeyup = function (event) { 'use strict'; return event.key; };",
    "an-observer": "document.title = new window.ResizeObserver(function () { return 1; });",
    "an-abort-controller": "document.title = new AbortController();",
    "a-global-of-no-browser": "UserVLM.show();",
    "fetch": "window.fetch('a');",
    "bare-fetch": "fetch('a');",
    "a-request": "document.title = new window.XMLHttpRequest();",
    "a-socket": "document.title = new window.WebSocket('ws://a');",
    "markup": "document.body.innerHTML = 'a';",
    "a-dialog-that-blocks": "window.confirm('a');",
    "storage": "window.localStorage.a = 'a';",
    "a-global-of-its-own": "var everybodys = 1; document.title = everybodys;",
}
SHEETS = {
    "grid": "p { display: grid; }",
    "a-variable": "p { color: var(--ink); }",
    "a-variable-s-definition": "p { --ink: #000000; }",
    "a-gap": "p { display: flex; gap: 1rem; }",
    "sticky": "p { position: sticky; }",
    "inset": "p { inset: 0; }",
    "aspect-ratio": "p { aspect-ratio: 1; }",
    "the-smaller-of-two": "p { width: min(1rem, 2rem); }",
    "an-alpha-in-hexadecimal": "p { color: #00000080; }",
    "is": "p:is(.a) { color: #000000; }",
    "focus-visible": "p:focus-visible { color: #000000; }",
    "nesting": "p { & b { color: #000000; } }",
    "an-import": "@import 'a.css';",
    "a-picture-from-outside": "p { background: url('a.png'); }",
    "a-question-about-motion": "@media (prefers-reduced-motion) { p { color: #000000; } }",
    "a-range": "@media (1/1 <= aspect-ratio) { p { color: #000000; } }",
    "the-dynamic-height": "p { height: 100dvh; }",
    "overflow-clip": "p { overflow: clip; }",
}


def checked(folder: Path) -> str:
    try:
        return tablet_lint.check(folder)
    except tablet_lint.UnavailableError as error:
        pytest.skip(
            "NOT CHECKED: whether the tablet's page keeps to ECMAScript 5 and Chrome 44, and "
            f"whether its linters would notice. {error}"
        )


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    for name, script in SCRIPTS.items():
        (folder / f"{name}.js").write_text(f"{script}\n")
    for name, sheet in SHEETS.items():
        (folder / f"{name}.css").write_text(f"{sheet}\n")
    (folder / "in-chrome-44.js").write_text("document.title = [1].map(Number).join('');\n")
    (folder / "in-chrome-44.css").write_text("p { display: flex; overflow: hidden; }\n")
    return checked(folder)


@pytest.mark.parametrize("name", [f"{name}.js" for name in SCRIPTS])
def test_a_script_that_chrome_44_cannot_run_or_the_page_must_not_is_refused(
    complaints: str, name: str
) -> None:
    assert re.search(rf"\b{re.escape(name)}\n\s+\d+:\d+\s+error", complaints)


@pytest.mark.parametrize("name", [f"{name}.css" for name in SHEETS])
def test_a_style_sheet_that_chrome_44_cannot_read_is_refused(complaints: str, name: str) -> None:
    assert re.search(rf"^{re.escape(name)}\n\s+\d+:\d+", complaints, re.MULTILINE)


def test_what_chrome_44_has_is_not_refused(complaints: str) -> None:
    assert "in-chrome-44" not in complaints


def test_the_page_itself_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(tablet_lint.PAGE) == ""
    assert tablet_lint.main([]) == 0
    assert "nothing that Chrome 44 does not have" in capsys.readouterr().out


def test_one_wrong_line_is_named_and_gives_exit_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "html"
    shutil.copytree(tablet_lint.PAGE, page)
    assert checked(page) == ""
    with (page / "page.js").open("a") as file:
        file.write("window.setTimeout(() => 1, 1);\n")
    assert tablet_lint.main([str(page)]) == 1
    said = capsys.readouterr().out
    assert "page.js" in said and "Parsing error" in said and "stylelint" not in said


def test_without_node_it_says_that_nothing_was_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(tablet_lint, "find_spec", missing)
    assert tablet_lint.main([]) == 2
    assert "NOT CHECKED: no Node.js: pip install" in capsys.readouterr().err


def test_the_linters_are_pinned_and_the_lockfile_names_no_address() -> None:
    settings = tablet_lint.SETTINGS
    wanted = json.loads((settings / "package.json").read_text())["devDependencies"]
    locked = json.loads((settings / "package-lock.json").read_text())["packages"]
    for name, version in wanted.items():
        assert re.fullmatch(r"\d+(\.\d+)+", version), name
        assert locked[f"node_modules/{name}"]["version"] == version
    assert all("integrity" in package for name, package in locked.items() if name)
    for file in settings.iterdir():
        assert not re.search(r"https?://|\"resolved\"|registry=", file.read_text()), file.name
