"""Real Chromium windows on the demo chart: a write crosses from one to another, a restart needs no reload."""

import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, WebSocket, async_playwright, expect

from acceptance.conftest import ROOT, Running, Start
from soak.proxy import Proxy
from support.live_client import live_client

APP = ROOT / "examples" / "clinic" / "dist"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REQUIRED = bool(os.environ.get("BONFIRE_TEST_REQUIRE_BROWSER"))

pytestmark = [pytest.mark.acceptance, pytest.mark.browser]
if not REQUIRED:
    pytestmark += [
        pytest.mark.skipif(CHROMIUM is None, reason="NO CHROMIUM ON THIS MACHINE: the browser tests did not run"),
        pytest.mark.skipif(
            not APP.exists(), reason="THE DEMO IS NOT BUILT (make clinic): the browser tests did not run"
        ),
    ]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    assert CHROMIUM is not None, "the browser tests need Chromium"
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield launched
        await launched.close()


@pytest.fixture
def clinic(start: Start) -> Running:
    return start("dev", "--app", str(APP))


async def window(browser: Browser, url: str) -> tuple[Page, list[str]]:
    """A window of its own, and what goes wrong in it."""
    page = await (await browser.new_context(viewport={"width": 1440, "height": 900})).new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    await page.goto(url)
    return page, wrong


async def test_a_note_written_in_one_window_appears_in_the_other(
    browser: Browser, clinic: Running, tmp_path: Path
) -> None:
    (one, wrong_one), (two, wrong_two) = [await window(browser, clinic.url) for _ in range(2)]
    await expect(one.get_by_test_id("patient").first).to_be_visible()
    await one.get_by_test_id("patient").first.click()
    await expect(one.get_by_test_id("banner")).to_be_visible()
    await two.goto(one.url)
    await expect(two.get_by_test_id("banner")).to_be_visible()

    text = "Slept six hours, appetite back. Next visit in four weeks."
    await one.get_by_role("textbox", name="New note").fill(text)
    await expect(one.get_by_test_id("draft-status")).to_have_attribute("data-status", "saved")
    await one.get_by_role("button", name="Sign note").click()
    note = two.get_by_test_id("note").filter(has_text=text)
    await expect(note).to_be_visible()
    await expect(note).to_have_attribute("data-status", "signed")
    await expect(one.get_by_test_id("note").filter(has_text=text)).to_be_visible()
    await expect(one.get_by_test_id("freshness")).to_have_attribute("data-tone", "live")
    await two.screenshot(path=tmp_path / "two.png")
    assert (wrong_one, wrong_two) == ([], [])


async def test_a_window_recovers_from_a_killed_server_without_a_reload(browser: Browser, start: Start) -> None:
    running = start("dev", "--app", str(APP), port=_free_port())
    page, _ = await window(browser, running.url)
    await page.get_by_test_id("patient").first.click()
    patient = re.search(r"/patients/([^/?#]+)", page.url)
    assert patient is not None
    await expect(page.get_by_test_id("freshness")).to_have_attribute("data-tone", "live")
    await page.evaluate("window.notReloaded = true")
    running.kill()
    await expect(page.get_by_test_id("connection-notice")).not_to_be_empty(timeout=20_000)
    await expect(page.get_by_test_id("freshness")).to_have_attribute("data-tone", "stale", timeout=15_000)
    running = start("dev", "--app", str(APP), port=running.port)
    async with live_client(running.url) as client:
        await client.mutate("notes.create", patientId=patient[1], text="Written while that window was away.")
    await expect(page.get_by_text("Written while that window was away.").first).to_be_visible(timeout=30_000)
    await expect(page.get_by_test_id("freshness")).to_have_attribute("data-tone", "live")
    assert await page.evaluate("window.notReloaded") is True


WATCH = """() => {
  const parts = ['patient', 'banner', 'note'].map((name) => `[data-testid=${name}]`).join();
  const shown = () => document.querySelectorAll(parts).length;
  window.before = window.least = shown();
  window.firstNote = document.querySelector('[data-testid=note]');
  new MutationObserver(() => { window.least = Math.min(window.least, shown()) })
    .observe(document.body, { childList: true, subtree: true });
}"""
"""Notes from now on the least that the screen shows, and whether a note's own element stays."""


async def test_a_cut_leaves_the_screen_still_and_brings_only_what_was_missed(
    browser: Browser, clinic: Running, tmp_path: Path
) -> None:
    proxy = Proxy(clinic.port)
    page, _ = await window(browser, f"http://127.0.0.1:{await proxy.start()}")
    try:
        await page.get_by_test_id("patient").first.click()
        await expect(page.get_by_test_id("banner")).to_be_visible()
        patient = page.url.rpartition("/")[2]
        async with live_client(clinic.url) as client:
            await client.mutate("notes.create", patientId=patient, text="Written before.")
            await expect(page.get_by_test_id("note").filter(has_text="Written before.")).to_be_visible()
            await page.evaluate(WATCH)
            came: list[dict[str, Any]] = []
            page.on("websocket", lambda socket: _listen(socket, came))
            proxy.upstream = None
            for link in list(proxy.links):
                link.cut()
            await expect(page.get_by_test_id("freshness")).to_have_attribute("data-tone", "stale", timeout=15_000)
            await client.mutate("notes.create", patientId=patient, text="Written meanwhile.")
        await page.screenshot(path=tmp_path / "away.png")
        proxy.upstream = clinic.port
        await expect(page.get_by_test_id("note").filter(has_text="Written meanwhile.")).to_be_visible(timeout=15_000)
        await expect(page.get_by_test_id("freshness")).to_have_attribute("data-tone", "live")
        await page.screenshot(path=tmp_path / "back.png")
        types = [frame["type"] for frame in came]
        assert "resumed" in types
        assert "subscribed" not in types
        assert await page.evaluate("window.least >= window.before && window.before > 2")
        assert await page.evaluate("window.firstNote.isConnected")
    finally:
        await proxy.stop()


def _listen(socket: WebSocket, frames: list[dict[str, Any]]) -> None:
    socket.on("framereceived", lambda payload: frames.append(json.loads(payload)))


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_part_that_the_server_was_not_there_to_give_comes_later(browser: Browser, clinic: Running) -> None:
    page, _ = await window(browser, clinic.url)
    await expect(page.get_by_test_id("patient").first).to_be_visible()
    await page.route("**/assets/Chart-*.js", lambda route: route.abort())
    await page.get_by_test_id("patient").first.click()
    await expect(page.get_by_test_id("patients")).to_be_visible()
    await page.unroute("**/assets/Chart-*.js")
    await expect(page.get_by_test_id("banner")).to_be_visible(timeout=15_000)
