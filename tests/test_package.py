"""The package of the app: against its folder, its manifest's promises and the real qipkg."""

from __future__ import annotations

import ast
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import pytest

from uservlm.pepper_app.package import PML, PROJECT, listed, main, pack
from uservlm.pepper_app.project.onboard.settings import read
from uservlm.runtime.errors import RequestError, StoreError

ROOT = Path(__file__).resolve().parents[1]
QIPKG = Path(sys.executable).with_name("qipkg")
NOT_PACKED = (PML, "onboard/py.typed", "translations/*.ts", "**/__pycache__/*", "**/.*")
LANGUAGES = ("en_US", "fr_FR")
URL, TOKEN = "http://192.0.2.7:8080", "the-token-of-the-brain"


def names(content: bytes) -> list[str]:
    with zipfile.ZipFile(BytesIO(content)) as packed:
        return packed.namelist()


def manifest() -> ElementTree.Element:
    return ElementTree.parse(PROJECT / "manifest.xml").getroot()


def qipkg(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the real one, which keeps a file in the home of whoever runs it."""
    return subprocess.run(
        [QIPKG, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "HOME": str(home)},
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    return shutil.copytree(PROJECT, tmp_path / "project", ignore=ignored)


def spoil(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new), "utf-8")


def test_the_project_lists_every_file_of_its_folder() -> None:
    there = {path.relative_to(PROJECT) for path in PROJECT.rglob("*") if path.is_file()}
    packed = {path for path in there if not any(map(path.match, NOT_PACKED))}
    hint = f"put the File lines of {PML} in order"
    assert listed() == sorted(path.as_posix() for path in packed), hint


def test_its_version_is_that_of_setup_py() -> None:
    [call] = [
        node
        for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup"
    ]
    [version] = [word.value for word in call.keywords if word.arg == "version"]
    assert manifest().get("version") == ast.literal_eval(version)


def test_what_the_manifest_names_is_there() -> None:
    there, root = set(listed()), manifest()
    [behavior] = [one.get("path") for one in root.iter("behaviorContent")]
    topics = {topic.get("path"): topic.get("language") for topic in root.iter("topic")}
    assert f"{behavior}/behavior.xar" in there and set(topics) <= there
    assert sorted(filter(None, topics.values())) == sorted(LANGUAGES)
    assert pack({}).services == ("uservlm.App",)
    assert {"icon.png", "html/index.html", "onboard/__main__.py"} <= there


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_manifest_says_everything_in_both_languages(language: str) -> None:
    root = manifest()
    for path in ("names/name", "descriptions/description"):
        for within in (".", "contents/behaviorContent"):
            [text] = root.findall(f"{within}/{path}[@lang='{language}']")
            assert text.text
    content = "contents/behaviorContent"
    for kind in ("triggerSentences", "loadingResponses"):
        assert len(root.findall(f"{content}/{kind}/sentence[@lang='{language}']")) > 1
    assert language in [one.text for one in root.findall("supportedLanguages/language")]


def test_the_icon_has_the_size_choregraphe_asks_for() -> None:
    head = (PROJECT / "icon.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", head[16:]) == (320, 320)


def test_the_same_files_give_the_same_bytes(project: Path) -> None:
    for path in project.rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(0o700)
    assert pack({}, project).content == pack({}).content == pack({}).content
    with zipfile.ZipFile(BytesIO(pack({}).content)) as packed:
        kinds = {(entry.external_attr >> 16, entry.date_time) for entry in packed.infolist()}
        assert packed.testzip() is None
    assert kinds == {(0o100644, (1980, 1, 1, 0, 0, 0))}


def test_what_is_to_be_executed_may_be(project: Path) -> None:
    one = '<executableFiles><file path="html/page.js"/></executableFiles>'
    spoil(project / "manifest.xml", "<executableFiles/>", one)
    with zipfile.ZipFile(BytesIO(pack({}, project).content)) as packed:
        modes = {entry.filename: entry.external_attr >> 16 for entry in packed.infolist()}
    assert modes.pop("html/page.js") == 0o100755 and set(modes.values()) == {0o100644}


def test_the_settings_are_what_was_given_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token, file = tmp_path / "token", tmp_path / "new/one.pkg"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    given = ["--brain", URL, "--token-file", str(token), "--language", "fr", "--listen", "free"]
    assert main(["--out", str(file), *given]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    told = capsys.readouterr().out
    assert "holds the brain's token" in told and TOKEN not in told
    with zipfile.ZipFile(file) as packed:
        packed.extract("settings.json", tmp_path)
        assert packed.getinfo("settings.json").external_attr >> 16 == 0o100600, "it has the token"
    settings = read(str(tmp_path / "settings.json"))
    assert (settings.brain, settings.token) == (URL, TOKEN)
    assert (settings.language, settings.listen) == ("fr", ("free",))
    assert main(["--out", str(file), "--listen", "words, dialog"]) == 0
    with zipfile.ZipFile(file) as packed:
        assert json.loads(packed.read("settings.json")) == {"listen": ["words", "dialog"]}
    assert "token" not in capsys.readouterr().out


def test_settings_come_from_a_file_too_and_what_is_said_beside_it_counts(tmp_path: Path) -> None:
    given, file = tmp_path / "mine.json", tmp_path / "one.pkg"
    given.write_text(json.dumps({"days": 30, "language": "en"}))
    assert main(["--out", str(file), "--settings", str(given), "--language", "fr"]) == 0
    with zipfile.ZipFile(file) as packed:
        assert json.loads(packed.read("settings.json")) == {"days": 30, "language": "fr"}


@pytest.mark.parametrize(
    ("text", "says"), [("{", "is no JSON"), ("[]", "is no JSON object"), ('{"dais": 1}', "dais")]
)
def test_settings_that_cannot_be_are_refused_in_one_line(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.json").write_text(text)
    assert main(["--out", str(tmp_path / "p"), "--settings", str(tmp_path / "mine.json")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


def test_without_settings_there_is_no_file_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    [file] = (tmp_path / "dist").iterdir()
    assert file.name == f"uservlm-{manifest().get('version')}.pkg"
    assert file.read_bytes() == pack({}).content
    assert "settings.json" not in names(pack({}).content)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--brain", "192.0.2.7"], "brain is http://HOST:PORT"),
        (["--listen", "dialog,telepathy"], "listen is some of dialog, words, free"),
        (["--token-file", "/nowhere/token"], "token cannot be read from /nowhere/token"),
        (["--out", "/proc/uservlm/new.pkg"], "/proc/uservlm/new.pkg cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    given: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path / "one.pkg"), *given]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("package: ") and says in line
    assert not list(tmp_path.iterdir())


def test_a_token_that_others_can_read_or_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    for text, mode, says in ((TOKEN, 0o644, "chmod 600"), (" \n", 0o600, "is empty")):
        token.write_text(text)
        token.chmod(mode)
        assert main(["--token-file", str(token), "--out", str(tmp_path / "x.pkg")]) == 2
        told = capsys.readouterr()
        assert says in told.err and TOKEN not in told.err + told.out


def test_nothing_shows_the_token() -> None:
    assert TOKEN not in repr(pack({"token": TOKEN}))


def test_a_project_that_names_a_missing_file_or_a_bad_setting_gives_no_package(
    project: Path,
) -> None:
    with pytest.raises(RequestError, match="no setting volume"):
        pack({"volume": 11}, project)
    (project / "html/page.js").unlink()
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        pack({}, project)


def test_qipkg_packs_the_same_files(project: Path, tmp_path: Path) -> None:
    """All but the two translations, which it compiles when it can (see the module's docstring)."""
    if not shutil.which("lrelease"):
        failed = qipkg(tmp_path, "make-package", project / PML, "-o", tmp_path / "none.pkg")
        assert failed.returncode == 2 and "find executable: lrelease" in failed.stderr
        text = (project / PML).read_text("utf-8")
        head, rest = text.split("<Translations")
        (project / PML).write_text(head + rest.split("</Translations>")[1], "utf-8")
    theirs = tmp_path / "theirs.pkg"
    made = qipkg(tmp_path, "make-package", project / PML, "-o", theirs)
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(theirs) as packed:
        found = [name for name in packed.namelist() if not name.endswith(".qm")]
    assert sorted(found) == names(pack({}).content)


def test_qipkg_finds_nothing_to_say_against_it(tmp_path: Path) -> None:
    file = tmp_path / "ours.pkg"
    file.write_bytes(pack({"language": "en"}).content)
    looked = qipkg(tmp_path, "validate-package", file)
    assert looked.returncode == 0, looked.stderr
    assert looked.stdout.split("\n") == ["The package satisfies default package requirements", ""]
    assert looked.stderr == ""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('uuid="uservlm"', 'uuid="User VLM"', "UID is not defined correctly"),
        (' model="JULIETTE"', "", "no model defined"),
        ('<name lang="en_US">', '<name lang="de_DE">', "name is not defined for 'en_US'"),
        ('<sentence lang="fr_FR">', '<sentence lang="de_DE">', "no trigger sentence defined"),
    ],
)
def test_qipkg_would_say_so(project: Path, tmp_path: Path, old: str, new: str, says: str) -> None:
    spoil(project / "manifest.xml", old, new)
    file = tmp_path / "spoilt.pkg"
    file.write_bytes(pack({}, project).content)
    looked = qipkg(tmp_path, "validate-package", file)
    assert looked.returncode == 2 and says in looked.stdout, looked


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_translations_are_qt_s_and_empty_because_the_behavior_says_nothing(
    language: str,
) -> None:
    root = ElementTree.parse(PROJECT / f"translations/translation_{language}.ts").getroot()
    assert (root.tag, root.get("version"), root.get("language")) == ("TS", "2.1", language)
    assert not list(root)
    assert ".say(" not in (PROJECT / "behavior_1/behavior.xar").read_text("utf-8")
