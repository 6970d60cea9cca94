"""A real browser for tests, if this machine has one: Debian's Chromium, driven by Playwright."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Chromium for the block; skip without it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if PROGRAM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=PROGRAM, args=arguments)
        yield browser
        browser.close()


class Watched:
    """A page whose requests, errors and dialogs are noted; it fails on whatever its policy has blocked."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1366, "height": 900}, **options)
        self.context.set_default_timeout(15_000)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.errors.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)

    def serious(self, contrast_alone: bool = False) -> list[str]:
        """Return axe's serious and critical findings on the page as it is; `contrast_alone` is quicker."""
        from axe_playwright_python.sync_playwright import Axe

        options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
        options |= {"runOnly": ["color-contrast"]} if contrast_alone else {}
        found = Axe().run(self.page, options=options).response["violations"]
        return [
            f"{rule['id']}: {rule['help']}: {node['html'][:160]}"
            for rule in found
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"][:3]
        ]


def soon(is_so: Callable[[], bool]) -> bool:
    """Whether it is so within seconds: a busy browser paints after it was asked for a screenshot."""
    until = time.monotonic() + 5
    while not is_so():
        if time.monotonic() > until:
            return False
    return True
