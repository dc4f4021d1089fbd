"""ALTabletService: which page the tablet shows, and what comes back from it.

Owns: the page, whether it is shown, and the tablet's signals. Knows nothing of HTML: there is no
browser, so a page "loads" when its file is in the package (or its address is outside), scripts are
recorded and not run, and what a page would raise comes from a scenario.

Not there: video, images, dialogs, keyboards, Wi-Fi.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from uservlm.pepper_app.service import RobotError, Service
from uservlm.pepper_app.virtual_calls import Bus, Calls
from uservlm.pepper_app.virtual_world import World

NAME: Final = "ALTabletService"
HOST: Final = "198.18.0.1"
LOAD_S: Final = 0.5
REFUSED: Final = (-6, "net::ERR_CONNECTION_REFUSED")
SIGNALS: Final = {
    "onJSEvent": "s",
    "onTouchDown": "ff",
    "onTouchDownRatio": "fff",
    "onConsoleMessage": "s",
    "onPageFinished": "",
    "onLoadPageError": "iss",
}
SIZE: Final = (1280, 800)


class Tablet:
    """See the module."""

    def __init__(self, world: World, bus: Bus, package: Callable[[str], Path | None]) -> None:
        """Have a tablet.

        Args:
            world: where it is.
            bus: carries its signals.
            package: gives the folder of an installed package.
        """
        self._world, self._bus, self._package = world, bus, package
        self.page, self.shown, self._loads = "", False, 0
        self._scale, self._brightness = 1.34, 1.0

    def services(self) -> list[Service]:
        """See `Part`."""
        calls = Calls(self._world, NAME)
        method = calls.method
        methods = (
            method("loadApplication", "s", "b", self._load_application),
            method("loadUrl", "s", "b", self._load),
            method("showWebview", "", "b", self._show),
            method("showWebview", "s", "b", lambda url: self._load(url) and self._show()),
            method("hideWebview", "", "b", self._hide),
            method("cleanWebview", "", "v", self._clean),
            method("reloadPage", "b", "v", lambda _: self._load(self.page)),
            method("executeJS", "s", "v", self._execute),
            method("robotIp", "", "s", lambda: HOST),
            method("setOnTouchWebviewScaleFactor", "f", "v", self._set_scale),
            method("getOnTouchScaleFactor", "", "f", lambda: self._scale),
            method("setBrightness", "f", "b", self._set_brightness),
            method("getBrightness", "", "f", lambda: self._brightness),
        )
        return [Service(NAME, methods, SIGNALS)]

    def held(self) -> list[str]:
        """See `Part`."""
        return []

    def raise_event(self, text: str) -> None:
        """Have the page say something, as `ALTabletBinding.raiseEvent` does.

        Raises:
            RobotError: no page is shown.
        """
        self._seen()
        self._world.did(NAME, "onJSEvent", text)
        self._bus.tell(NAME, "onJSEvent", text)

    def touch(self, x: float, y: float) -> None:
        """Have somebody touch the screen, at a place of its 1280 by 800.

        Raises:
            RobotError: no page is shown.
        """
        self._seen()
        self._world.did(NAME, "onTouchDown", x, y)
        self._bus.tell(NAME, "onTouchDown", x, y)
        self._bus.tell(NAME, "onTouchDownRatio", x / SIZE[0], y / SIZE[1], 1.0)

    def _seen(self) -> None:
        if not self.shown:
            raise RobotError("the tablet shows no page")

    def _load_application(self, name: str) -> bool:
        folder = self._package(name)
        if folder is None or not (folder / "html" / "index.html").is_file():
            self._world.did(NAME, "loadApplication", name, False)
            return False
        return self._load(f"http://{HOST}/apps/{name}/")

    def _load(self, url: str) -> bool:
        if not url:
            return False
        self.page = url
        self._loads += 1
        self._world.did(NAME, "load", url)
        fails = self._loads == 1 and "tablet-first-page" in self._world.misbehaving
        self._world.after(LOAD_S, lambda: self._loaded(url, fails))
        return True

    def _loaded(self, url: str, fails: bool) -> None:
        if fails:
            self._world.did(NAME, "onLoadPageError", *REFUSED, url)
            self._bus.tell(NAME, "onLoadPageError", *REFUSED, url)
        elif self.page == url:
            self._bus.tell(NAME, "onPageFinished")

    def _show(self) -> bool:
        self.shown = bool(self.page)
        self._world.did(NAME, "showWebview", self.page or "nothing")
        return self.shown

    def _hide(self) -> bool:
        self._world.did(NAME, "hideWebview")
        self.shown = False
        return True

    def _clean(self) -> None:
        self._world.did(NAME, "cleanWebview")
        self.page, self.shown = "", False

    def _execute(self, script: str) -> None:
        self._world.did(NAME, "executeJS" if self.page else "executeJS lost", script)

    def _set_scale(self, scale: float) -> None:
        self._scale = scale
        self._world.did(NAME, "scale", scale)

    def _set_brightness(self, brightness: float) -> bool:
        self._brightness = brightness
        self._world.did(NAME, "setBrightness", brightness)
        return 0 <= brightness <= 1
