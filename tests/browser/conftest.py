"""A browser with a profile of its own, on the real front end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from emu_video.launcher.comfyui import PACK
from playwright.sync_api import Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
MINUTE = 60_000  # ms


@pytest.fixture
def page(tmp_path) -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        word = "no Chromium found: install it (on Debian and Ubuntu `apt install chromium`)"
        if os.environ.get("CI"):
            pytest.fail(word, pytrace=False)
        pytest.skip(word)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=chromium,
            args=FLAGS,
            viewport={"width": 1600, "height": 900},
        )
        page = context.pages[0]
        page.set_default_timeout(5 * MINUTE)
        yield page
        context.close()


@pytest.fixture
def template(server, page) -> tuple[Page, list[str]]:
    """The page with the template *text to video* open in it, and the errors that the page has raised so far."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{server.url}/?template=Text-to-Video-Pocket&source={PACK}")
    page.wait_for_function("window.app?.graph?.nodes?.some(node => node.type === 'EmuVideoSampler')")
    return page, problems
