"""Debian's Chromium, driven by Playwright: pages as a person with a browser meets them."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = Path("/usr/bin/chromium")
MISSING = f"there is no {CHROMIUM}: `apt-get install chromium` brings it (README, Try it)"
TIMEOUT_MS = 15_000


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    _require()
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        try:
            yield browser
        finally:
            await browser.close()


def _require() -> None:
    """A machine without a browser fails these tests, and says how to get one."""
    assert CHROMIUM.exists(), MISSING


@asynccontextmanager
async def opened(
    browser: Browser,
    *,
    width: int = 1180,
    height: int = 900,
    theme: Literal["light", "dark"] = "light",
    scripts: bool = True,
) -> AsyncIterator[Page]:
    """A page of a new profile."""
    context = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, java_script_enabled=scripts
    )
    context.set_default_timeout(TIMEOUT_MS)
    try:
        yield await context.new_page()
    finally:
        await context.close()


async def sign_in(page: Page, url: str, credential: str) -> None:
    await page.goto(f"{url}/usage")
    await page.get_by_label("API key or session token").fill(credential)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_load_state()


@asynccontextmanager
async def signed_in(
    browser: Browser,
    url: str,
    credential: str,
    *,
    width: int = 1180,
    theme: Literal["light", "dark"] = "light",
    scripts: bool = True,
) -> AsyncIterator[Page]:
    async with opened(browser, width=width, theme=theme, scripts=scripts) as page:
        await sign_in(page, url, credential)
        yield page


class Watched:
    """What a page loads and complains of, from now on."""

    def __init__(self, page: Page) -> None:
        self.problems: list[str] = []
        self.origins: set[str] = set()
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.origins.add(_origin(request.url)))

    def _hear(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.problems.append(text)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
