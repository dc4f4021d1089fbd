"""docs/data-protection.md says what the code does: names, durations, and the app's own words."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from named_commands import ROOT, commands, every_option, of_program, of_uservlm

from uservlm.bench import quality, quality_page, quality_results
from uservlm.bench.audit import command as audit
from uservlm.bench.audit import page as audit_page
from uservlm.pepper_app.brain_service import SIGNALS
from uservlm.pepper_app.deploy_ssh import LOGS
from uservlm.pepper_app.project.onboard import consent, debts, faces, touch, visit
from uservlm.pepper_app.project.onboard.__main__ import DATA
from uservlm.pepper_app.project.onboard.life import EVENTS
from uservlm.pepper_app.project.onboard.recognition import RECOGNISE, WHEN_ASKED
from uservlm.pepper_app.project.onboard.settings import Settings
from uservlm.pepper_app.project.onboard.terms import Terms
from uservlm.pepper_app.project.onboard.words import COMMANDS, SAYS, SUGGESTIONS
from uservlm.runtime.identity import IDENTITY_FILE
from uservlm.runtime.keyfile import KEY_FILE, KEY_VARIABLE
from uservlm.runtime.looking import PICTURES
from uservlm.runtime.profiles import KEEPS, Consent
from uservlm.runtime.sealing import Label
from uservlm.runtime.server import page_routes, users_routes
from uservlm.runtime.server.faults import _RULES
from uservlm.runtime.server.limits import Limits
from uservlm.runtime.server.our_forms import ConsentForm
from uservlm.runtime.server.pages import Pages
from uservlm.runtime.server.tokenfile import token_path
from uservlm.runtime.shelf import CHECK_FILE, file_of
from uservlm.runtime.store import MAX_USERS
from uservlm.runtime.telemetry import VARIABLE
from uservlm.runtime.vault import FOLDER_VARIABLE, users_folder
from uservlm.toolchain.deploy import FOLDER
from uservlm.toolchain.deploy_unit import KEPT

DOCS = ROOT / "docs"
PAGE = (DOCS / "data-protection.md").read_text(encoding="utf-8")
APP = ROOT / "pepper_app" / "project"
SPANS = sorted(set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", PAGE, flags=re.S | re.M))))

FOREIGN: Final = {
    "MaxRetentionSec": "journald.conf",
    "MemorySwapMax=0": "systemd.resource-control",
    "LimitCORE=0": "systemd.exec",
    "https://": "an address",
}
"""What others have named; nothing here can hold it."""


def table(title: str) -> list[list[str]]:
    """Give the cells of the rows of the table whose first column has that title."""
    lines = PAGE.splitlines()
    begin = next(at for at, line in enumerate(lines) if line.startswith(f"| {title} |"))
    rows = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def section(title: str) -> str:
    """Give the text under a heading of the third level."""
    return PAGE.split(f"### {title}\n")[1].split("\n### ")[0]


def quoted(text: str) -> Iterator[tuple[str, str, str]]:
    """Give the rows of consent tables: a key, and its text in English and French."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3:
            yield cells[0].strip("`"), cells[1], cells[2]


@cache
def routes() -> frozenset[str]:
    """Give the routes about people, and those of the page."""
    nothing: Any = None  # they are only looked at
    routers = users_routes.routes(nothing), page_routes.routes(nothing, nothing, nothing)
    every: list[Any] = [route for router in routers for route in router.routes]
    return frozenset(
        f"{method} {route.path.replace('{user:path}', 'ID')}"
        for route in every
        for method in route.methods
    )


def of_settings(span: str) -> bool:
    """Whether the app takes this setting; with a value, this value; or it is one of its values."""
    if span.strip('"') in RECOGNISE:
        return True
    given = json.loads("{%s}" % (span if ":" in span else f"{span}: null"))
    settings = Settings({name: value for name, value in given.items() if value is not None})
    return all(hasattr(settings, name) for name in given)


@cache
def names() -> set[str]:
    """Words of the code's own."""
    served = {f"{kind}(user)" for kind in re.findall(r'method\("(\w+)", "s", ', service_text())}
    words_js = (APP / "html" / "words.js").read_text(encoding="utf-8")
    topics = [path.read_text(encoding="utf-8") for path in sorted((APP / "dialog").glob("*.top"))]
    return {
        quality_results.FILE, quality_page.PAGE, quality.ANSWERS, audit.JSON_FILE, audit_page.PAGE,
        KEY_FILE, KEY_VARIABLE, CHECK_FILE, FOLDER_VARIABLE, IDENTITY_FILE, f"{VARIABLE}=1",
        *KEEPS, *Consent.__dataclass_fields__, *vars(Settings()), *SAYS["en"], *EVENTS, *SIGNALS,
        "ask_consent", "terms",
        *served, "UserVLM", faces.FACES, visit.fresh("visitor").partition("-")[0] + "-",
        *(rule.code for rule in _RULES.values()),
        *(file_of(Label(kind, "OWNER")) for kind in KEEPS),
        *(name for name in ("identify",) if f'"{name}"' in service_text()),
        *(name for name in ("getLearnedFacesList",) if name in inspect.getsource(faces)),
        *(name for name in re.findall(r"\b(\w+): [\"\[]", words_js)),
        *(set.intersection(*(set(re.findall(r"concept:\((\w+)\)", one)) for one in topics))),
    }  # fmt: skip


def service_text() -> str:
    return (ROOT / "pepper_app" / "brain_service.py").read_text(encoding="utf-8")


def places() -> set[str]:
    """Where the code puts things, as the page writes it."""
    home = str(Path.home())
    found = (users_folder(), token_path(None), f"{DATA}/forget.json", LOGS)
    return {*(str(one).replace(home, "~") for one in found), f"~/{FOLDER}", *KEPT.values()}


def holds(span: str) -> bool:
    """Whether the code has what the page names."""
    words = shlex.split(span)
    kinds: list[tuple[str, Callable[[], bool]]] = [
        (r"(GET|POST|DELETE) /", lambda: span in routes()),
        (r"uservlm \w+", lambda: of_uservlm(words)),
        (r"python |(bench|toolchain)/\w+\.py", lambda: of_program(words)),
        (r"--[a-z]", lambda: words[0] in every_option()),
        (r'"', lambda: of_settings(span)),
        (r"~|/var/|(data|config|cache)$", lambda: span in places()),
        (r"[a-z_]+/", lambda: (ROOT / span).exists()),
    ]
    for pattern, check in kinds:
        if re.match(pattern, span):
            return check()
    return span in names() or span in FOREIGN


@pytest.mark.parametrize("span", SPANS)
def test_what_it_names_is_there(span: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (FOLDER_VARIABLE, "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert holds(span), span


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)\s]+)\)", PAGE))))
def test_its_links_lead_somewhere(target: str) -> None:
    file, _, anchor = target.partition("#")
    text = (DOCS / file).read_text(encoding="utf-8") if file else PAGE
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}
    assert not anchor or anchor in slugs


def test_durations_are_the_codes() -> None:
    limits, settings = Limits(), Settings()
    asked = commands()["ask"].get_default("days")
    assert settings.days == ConsentForm(how="x").days == asked == 365
    sweep = inspect.signature(Pages.sweep).parameters["seconds"].default
    assert {row[0]: row[1] for row in table("duration")} == {
        "consent": f"{settings.days} days",
        "guest, last seen": f"{limits.unseen_s:.0f} s",
        "what nobody named": f"{limits.unseen_s:.0f} s",
        "between two looks for who is to go": f"{sweep:.0f} s",
        "picture on the page": f"{limits.view_s:.0f} s",
        "turns on the page": str(limits.remembered_turns),
        "lines on the tablet": str(visit.REMEMBERED_LINES),
        "faces compared with the brain": f"{debts.COMPARE_S:.0f} s",
        "waiting for a yes; silence is a no": f"{consent.WAIT_S:.0f} s",
        "hand on the head": f"{touch.HOLD_S:.0f} s",
        "distance at which somebody is looked at": f"{settings.near_m} m",
    }
    kept = " ".join(" ".join(row) for row in table("what"))
    for figure in (
        f"{limits.view_s / 60:.0f} minutes",
        f"the last {limits.remembered_turns} turns",
        f"{visit.REMEMBERED_LINES} lines",
        f"At most {MAX_USERS} people",
        f"{PICTURES} pictures at most",
        f"{settings.days} days",
        f"after {limits.listening_s:.0f} s",
    ):
        assert figure in kept, figure
    assert settings.keeps == "state" and limits.unseen_s == 3600  # "an hour", in words


def test_the_signs_say_what_is_so() -> None:
    settings = Settings()
    english, french = PAGE.split("## A sign for the wall")[1].split("## ")[0].split("**Ce robot")
    for sign, metres, held in (
        (english, f"{settings.near_m} m", f"{touch.HOLD_S:.0f} seconds"),
        (french, f"{settings.near_m} m".replace(".", ","), f"{touch.HOLD_S:.0f} secondes"),
    ):
        assert metres in sign and held in sign and f"[{settings.days}]" in sign
    for want in ("forget", "know"):  # what is a reason to compare
        assert COMMANDS["en"][want][0] in english and COMMANDS["fr"][want][0] in french


def test_who_is_compared_is_said_for_each_value_and_the_default_is_named() -> None:
    values = [row[0] for row in table("`recognise`")]
    assert [value.partition(",")[0].strip('`"') for value in values] == list(RECOGNISE)
    assert [RECOGNISE[at] for at, value in enumerate(values) if "default" in value] == [WHEN_ASKED]
    assert Settings().recognise == WHEN_ASKED


def test_what_it_warns_of_is_so() -> None:
    assert SUGGESTIONS["en"][1] == "How do I feel?" and "*How do I feel?*" in PAGE
    topic = (APP / "dialog" / "uservlm_enu.top").read_text(encoding="utf-8")
    for asked in ("How do I feel?", "How old do I look?", "Describe me."):
        assert f'$UserVLM/Question="{asked}"' in topic
    said = table("way")[1][0]
    for one in (*COMMANDS["en"]["forget"], *COMMANDS["fr"]["forget"]):
        assert one in said


def test_every_kind_of_file_and_every_way_to_erase_is_named() -> None:
    for kind in KEEPS:
        assert f"`{file_of(Label(kind, 'OWNER'))}`" in PAGE
    for path in ("DELETE /v1/users", "DELETE /v1/users/ID"):
        assert f"`{path}`" in PAGE and path in routes()
    for command in ("list", "show", "forget", "purge"):
        assert f"`uservlm users {command}" in PAGE


def test_what_the_app_says_is_quoted_word_for_word() -> None:
    spoken, shown = section("What the app says today").split("And beside the conversation")
    every = list(quoted(spoken))
    terms = {language: Terms(Settings(), language) for language in SAYS}
    written = [list(row[1:]) for row in every if row[0] == "terms"]
    assert written == [list(row) for row in zip(*(terms[one].written for one in SAYS), strict=True)]
    rows = {key: (english, french) for key, english, french in every if key != "terms"}
    assert rows.pop("ask_consent") == tuple(one.question for one in terms.values())
    for key, (english, french) in rows.items():
        assert (SAYS["en"][key], SAYS["fr"][key]) == ((english,), (french,)), key
    own = [key for key in SAYS["en"] if re.search(r"kept|keep|know|forg|alone", key)]
    assert set(rows) == set(own), "whatever is said of keeping, knowing and forgetting"
    rows_shown = list(quoted(shown))
    assert len(rows_shown) == 12
    for key, english, french in rows_shown:
        assert english in tablet("en")[key] and french in tablet("fr")[key], key


def tablet(language: str) -> dict[str, list[str]]:
    """Read what the tablet says about a person: texts by key, of html/words.js."""
    code = (APP / "html" / "words.js").read_text(encoding="utf-8")
    part = re.sub(r'"\s*\+\s*"', "", code.split(f"    {language}: {{")[1])
    part = part.split("about: {")[1].split("months:")[0]
    return {
        key: re.findall(r'"([^"]*)"', texts)
        for key, texts in re.findall(r'(\w+): (\[[^]]*\]|"[^"]*")', part)
    }
