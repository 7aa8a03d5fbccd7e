"""The web page in a real Chromium: drop, slider by keyboard, texts, download, errors in words, narrow screens."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api", reason="a browser needs playwright")

from playwright import sync_api

from tests.runtime.serve.helpers import line, pixels
from tests.runtime.serve.test_process import TOKEN, running

pytestmark = pytest.mark.slow
SIZES = {"desktop": (1280, 900), "phone": (360, 740)}


@contextmanager
def browsing() -> Iterator[Any]:
    """A Chromium: the system's, else Playwright's own. Skips where there is none."""
    with sync_api.sync_playwright() as driver:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        if path is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("no Chromium here: install the system's, or run `playwright install chromium`")
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  document.getElementById("drop").dispatchEvent(
    new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer }));
}"""


def drop(page: Any, name: str, data: bytes) -> None:
    """Drops a file on the page, as a hand does."""
    page.evaluate(DROP, [name, base64.b64encode(data).decode()])


def use(page: Any, address: str) -> None:
    """What a person does, with what they should see."""
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}/")
    drop(page, "sign.png", line(3))
    page.wait_for_selector("#error:not([hidden])")
    assert "access token" in page.inner_text("#error")
    page.fill("#token", TOKEN)
    page.fill("#text", "line 3")
    page.keyboard.press("Enter")
    page.wait_for_selector("#result:not([hidden])", timeout=60_000)
    assert page.inner_text("#before-text") == "line 3"
    assert page.is_hidden("#error")
    page.focus("#slider")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert page.get_attribute("#slider", "aria-valuetext") == "60% before, 40% after"
    bar, stage = page.locator("#bar").bounding_box(), page.locator("#stage").bounding_box()
    assert abs(bar["x"] + bar["width"] / 2 - stage["x"] - 0.6 * stage["width"]) < 3
    page.keyboard.press("Home")
    assert page.eval_on_selector("#after", "node => getComputedStyle(node).clipPath") == "inset(0px 0px 0px 0%)"
    assert page.evaluate("document.getElementById('before').naturalWidth * 4") == page.evaluate(
        "document.getElementById('after').naturalWidth"
    )
    with page.expect_download() as waiting:
        page.click("#download")
    assert waiting.value.suggested_filename == "sign-restored.png"
    assert pixels(Path(waiting.value.path()).read_bytes()).shape == (92, 4 * 109, 3)
    drop(page, "notes.txt", b"hello")
    page.wait_for_selector("#error:not([hidden])")
    assert "no picture in a known format" in page.inner_text("#error")
    assert page.is_hidden("#result")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the screen"
    assert all(url.startswith((address, "blob:", "data:")) for url in requests)
    assert not errors


def test_the_page_on_a_desktop_and_on_a_phone(tiny_bundle: Path, tmp_path: Path) -> None:
    options = ("--bundle", str(tiny_bundle), "--no-guard")
    with running(tmp_path / "log", *options) as (address, _), browsing() as browser:
        for name, (width, height) in SIZES.items():
            scheme = "dark" if name == "phone" else "light"
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            use(context.new_page(), address)
            context.close()
