"""A page looked at in the Chromium of this machine: what it logs, asks for and how it lies there.

Nothing is downloaded. A machine without one skips, but never where CI=true says that it has to be
there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "no Chromium here: sudo apt install chromium"
HEIGHT = 900

Scheme = Literal["light", "dark"]


@dataclass
class Seen:
    """What a page did while it was open."""

    complaints: list[str] = field(default_factory=list)
    """Errors and warnings, its scripts' and its own."""
    requests: list[str] = field(default_factory=list)
    """Addresses."""


@contextmanager
def browser() -> Iterator[Browser]:
    """Give this machine's Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    # Its sandbox refuses to be started by root; what is opened here is our own page.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=arguments)
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def look(opened: Browser, file: Path, width: int, scheme: Scheme) -> Iterator[tuple[Page, Seen]]:
    """Open a file in a window so many pixels wide."""
    with open_page(opened, file.as_uri(), width, scheme) as (page, seen):
        yield page, seen


@contextmanager
def open_page(
    opened: Browser, address: str, width: int, scheme: Scheme
) -> Iterator[tuple[Page, Seen]]:
    """Open an address in a window so many pixels wide."""
    seen = Seen()
    page = opened.new_page(
        viewport={"width": width, "height": HEIGHT}, color_scheme=scheme, reduced_motion="reduce"
    )
    page.on(
        "console",
        lambda said: (
            seen.complaints.append(said.text) if said.type in ("error", "warning") else None
        ),
    )
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    try:
        page.goto(address)
        yield page, seen
    finally:
        page.close()
