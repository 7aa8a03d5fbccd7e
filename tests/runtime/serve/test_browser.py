"""The web page in a real Chromium: drop, slider, zoom and lines by keyboard, mouse and fingers, texts, download, errors
in words, narrow screens."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("playwright.sync_api", reason="a browser needs playwright")

from playwright import sync_api

from runtime import Restorer
from runtime.serve import Settings
from tests.runtime.helpers import StubExecutor, stub_bundle
from tests.runtime.serve.helpers import PLACES, Knowing, draw_page, line, listening, pixels, png
from textsr.reading import LineReading, spread

pytestmark = pytest.mark.slow
TOKEN = "correct horse battery"
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


class Wavering:
    """Reads a line as it comes with doubts, and otherwise once it is restored."""

    name = "wavering"

    def read(self, images: Sequence[NDArray[np.uint8]]) -> list[LineReading]:
        """See `runtime.recognizer.LineReader`."""
        return [self._read("Hallo 42", 0.95) if len(image) > 48 else self._read("Hello 4", 0.7) for image in images]

    def _read(self, text: str, last: float) -> LineReading:
        return LineReading(text, (*[0.9] * (len(text) - 1), last), spread(text))


class Watch:
    """What a page of the browser asks for, and what goes wrong in it."""

    def __init__(self, page: Any, address: str) -> None:
        self.address, self.errors = address, list[str]()
        self.asked: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda told: self.errors.append(told.text) if "Content Security" in told.text else None)

    def check(self, page: Any) -> None:
        """Nothing from elsewhere, no errors, no wider than the screen."""
        assert all(url.startswith((self.address, "blob:", "data:")) for url in self.asked)
        assert not self.errors
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the screen"


def divider(page: Any) -> float:
    """Where the divider is, as a share of the picture's frame."""
    bar, stage = page.locator("#bar").bounding_box(), page.locator("#stage").bounding_box()
    share: float = (bar["x"] + bar["width"] / 2 - stage["x"]) / stage["width"]
    return share


def use(page: Any, address: str) -> None:
    """What a person does with a line, and what they should see."""
    watch = Watch(page, address)
    page.goto(f"{address}/")
    drop(page, "sign.png", line(3))
    page.wait_for_selector("#error:not([hidden])")
    assert "access token" in page.inner_text("#error")
    page.fill("#token", TOKEN)
    page.fill("#text", "line 3")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer:not([hidden])", timeout=60_000)
    assert page.inner_text("#lines .before") == "line 3"
    assert "You said" in page.inner_text("#lines")
    assert page.is_hidden("#error")
    page.focus("#slider")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert page.get_attribute("#slider", "aria-valuetext") == "60% before, 40% after"
    assert abs(divider(page) - 0.6) < 0.01
    page.keyboard.press("Home")
    assert page.eval_on_selector("#after-layer", "node => getComputedStyle(node).clipPath") == "inset(0px 0px 0px 0%)"
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
    assert page.is_hidden("#answer")
    watch.check(page)
    assert f"{address}/v1/restore" in watch.asked


def marks(text: Any) -> str:
    """A text with its marked parts."""
    return re.sub(r"<span>([^<]*)</span>", r"\1", text.inner_html())


def scale_of(page: Any) -> float:
    """Pixels on the screen for one of the picture."""
    found: float = page.eval_on_selector("#before", "node => new DOMMatrix(getComputedStyle(node).transform).a")
    return found


def chosen(page: Any) -> list[int]:
    """The lines marked on the picture; the list must agree."""
    found: list[int] = page.eval_on_selector_all("#boxes g.on", "nodes => nodes.map((node) => +node.dataset.number)")
    listed = page.eval_on_selector_all(
        "#lines li", "nodes => nodes.flatMap((node, place) => node.classList.contains('on') ? [place] : [])"
    )
    assert found == listed
    return found


def frame(page: Any, number: int) -> tuple[float, float]:
    """The middle of a line's frame in the window."""
    box = page.locator(f'#boxes g[data-number="{number}"] .frame').bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def use_page(page: Any, address: str, touch: bool) -> None:
    """What a person does with a page, and what they should see."""
    watch = Watch(page, address)
    page.goto(f"{address}/")
    page.click("#options summary")
    page.fill("#token", TOKEN)
    drop(page, "form.png", png(draw_page()))
    page.wait_for_selector("#answer.page:not([hidden])", timeout=120_000)
    assert f"{address}/v1/page" in watch.asked
    assert page.locator("#lines li").count() == page.locator("#boxes g").count() == len(PLACES)
    first = page.locator("#lines li").first
    assert marks(first.locator(".before")) == 'H<del>e</del>llo <span class="doubt" title="70% sure">4</span>'
    assert marks(first.locator(".after")) == "H<ins>a</ins>llo 4<ins>2</ins>"
    assert "Before 87%" in first.inner_text()
    assert page.inner_text("#verdict").startswith("3 of 3 lines restored. 3 of the restored read differently")
    for number, (left, top) in enumerate(PLACES):
        stage, at = page.locator("#stage").bounding_box(), frame(page, number)
        shown = ((at[0] - stage["x"]) / stage["width"], (at[1] - stage["y"]) / stage["height"])
        assert np.allclose(shown, ((left + 60) / 300, (top + 12) / 150), atol=0.02)
    by_keyboard(page)
    by_mouse(page)
    if touch:
        by_fingers(page)
    with page.expect_download() as waiting:
        page.click("#download")
    assert waiting.value.suggested_filename == "form-restored.png"
    assert pixels(Path(waiting.value.path()).read_bytes()).shape == (600, 1200, 3)
    watch.check(page)


def by_keyboard(page: Any) -> None:
    """Lines, zoom and moving with keys alone."""
    whole = scale_of(page)
    page.focus("#lines li:nth-child(1) .pick")
    assert chosen(page) == [0]
    page.keyboard.press("Tab")  # its details
    page.keyboard.press("Tab")
    assert chosen(page) == [1]
    page.keyboard.press("Enter")
    assert page.get_attribute("#lines li:nth-child(2) .pick", "aria-current") == "true"
    assert scale_of(page) > whole
    stage = page.locator("#stage").bounding_box()
    at = frame(page, 1)
    assert abs(at[0] - stage["x"] - stage["width"] / 2) < stage["width"] / 3, "the chosen line is in view"
    page.focus("#stage")
    page.keyboard.press("0")
    assert scale_of(page) == whole
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert scale_of(page) > 2 * whole
    before = frame(page, 1)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    after = frame(page, 1)
    assert after[0] < before[0]
    assert after[1] > before[1]
    page.keyboard.press("-")
    page.focus("#zoom-fit")
    page.keyboard.press("Enter")
    assert scale_of(page) == whole
    assert page.is_disabled("#zoom-out")


def by_mouse(page: Any) -> None:
    """Frames, divider, wheel and drag with a mouse."""
    page.locator("#stage").scroll_into_view_if_needed()
    page.mouse.click(*frame(page, 2))
    assert chosen(page) == [2]
    assert page.evaluate("document.activeElement.textContent").startswith("Line 3")
    stage = page.locator("#stage").bounding_box()
    middle = stage["y"] + stage["height"] / 2
    page.mouse.move(stage["x"] + 0.5 * stage["width"], middle)
    page.mouse.down()
    page.mouse.move(stage["x"] + 0.25 * stage["width"], middle, steps=4)
    page.mouse.up()
    assert abs(divider(page) - 0.25) < 0.02
    whole, at = scale_of(page), frame(page, 0)
    page.mouse.move(*at)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -150)
    page.keyboard.up("Control")
    page.wait_for_function("(was) => new DOMMatrix(getComputedStyle(before).transform).a > was", arg=whole)
    page.mouse.move(stage["x"] + 0.7 * stage["width"], middle)
    begin = frame(page, 0)
    page.mouse.down()
    page.mouse.move(stage["x"] + 0.7 * stage["width"] - 30, middle, steps=4)
    page.mouse.up()
    assert frame(page, 0)[0] < begin[0]
    assert abs(divider(page) - 0.25) < 0.02, "far from the divider it is the picture that moves"
    page.click("#zoom-fit")


def by_fingers(page: Any) -> None:
    """Two fingers apart zoom; one taps a line."""
    page.locator("#stage").scroll_into_view_if_needed()
    stage, whole = page.locator("#stage").bounding_box(), scale_of(page)
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    session = page.context.new_cdp_session(page)
    for kind, gap in (("touchStart", 20), ("touchMove", 30), ("touchMove", 60), ("touchEnd", None)):
        points = [] if gap is None else [{"x": x - gap, "y": y, "id": 0}, {"x": x + gap, "y": y, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert scale_of(page) > 2 * whole
    page.click("#zoom-fit")
    page.touchscreen.tap(*frame(page, 0))
    assert chosen(page) == [0]


def choose_kind(page: Any, address: str) -> None:
    """Line or page as the person says, by the keys; it is remembered."""
    page.goto(f"{address}/")
    page.click("#options summary")
    page.fill("#token", TOKEN)
    drop(page, "sign.png", line(3))
    page.wait_for_selector("#answer:not([hidden])", timeout=60_000)
    page.focus("[name=kind]:checked")
    with page.expect_response("**/v1/page", timeout=60_000):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
    page.wait_for_selector("#answer.page:not([hidden])", timeout=60_000)
    assert page.is_hidden("#text")
    page.reload()
    assert page.input_value("[name=kind]:checked") == "page"
    page.route("**/v1/page", lambda route: None)  # never answers
    drop(page, "sign.png", line(3))
    page.click("#cancel")
    page.wait_for_function("document.getElementById('status').textContent === 'Cancelled.'")
    assert page.is_hidden("#error")
    page.route("**/readyz", lambda route: route.fulfill(json={"status": "ready", "pages": False}))
    page.reload()
    page.wait_for_selector("[value=page]:disabled", state="attached")
    assert page.input_value("[name=kind]:checked") == "line"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One for all tests."""
    with browsing() as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SIZES)
def test_the_page_on_a_desktop_and_on_a_phone(name: str, scheme: str, browser: Any) -> None:
    (width, height), touch = SIZES[name], name == "phone"
    restorer = Restorer(stub_bundle(), StubExecutor(), Wavering())
    with listening(restorer, Settings(max_wait=0.0, token=TOKEN), Knowing()) as address:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=touch)
        use(context.new_page(), address)
        use_page(context.new_page(), address, touch)
        choose_kind(context.new_page(), address)
        context.close()
