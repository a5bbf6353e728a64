"""The whole app in a real browser: the shipped model, the example pictures, and what visitors do."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from himtok_core import geometry

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "assets" / "examples"
TRUTH = json.loads((EXAMPLES / "truth.json").read_text(encoding="utf-8"))
KNOWN = ("lion_and_pig.png", "lion")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)
PATIENCE = 180_000  # milliseconds; a busy machine answers slowly, and slow is not wrong
expect.set_options(timeout=PATIENCE)

# Every text that the answer had on its way, oldest first.
WATCH_ANSWER = """() => {
    window.seen = [];
    new MutationObserver(() => {
        const said = [...document.querySelectorAll('#conversation .said:not(.waiting)')].pop();
        if (said && said.innerText !== window.seen.at(-1)) window.seen.push(said.innerText);
    }).observe(
        document.querySelector('#conversation'), { childList: true, subtree: true, characterData: true });
}"""
HAND_OVER = """([kind, name, type, content]) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type }));
    const event = kind === 'paste'
        ? new ClipboardEvent('paste', { bubbles: true, cancelable: true, clipboardData: transfer })
        : new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: transfer });
    document.querySelector('#stage').dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    wanted = [os.environ["CHROMIUM"]] if os.environ.get("CHROMIUM") else BROWSERS
    executable = next(filter(None, map(shutil.which, wanted)), None)
    if executable is None:
        reason = "no Chromium found: install it (apt-get install chromium) or set CHROMIUM to its path"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app as a visitor's machine runs it, with its defaults, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("app") / "log.txt"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HIMTOK_")}
    with log.open("w") as output:
        app = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py"), "--port", str(port)],
            stdout=output, stderr=subprocess.STDOUT,
            cwd=tmp_path_factory.mktemp("elsewhere"), env={**environment, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}/"
            _wait_until_it_answers(address, app, log)
            yield address
        finally:
            app.terminate()
            app.wait(timeout=30)


def _wait_until_it_answers(address: str, app: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert app.poll() is None, f"the app ended: {log.read_text()}"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"the app did not answer: {log.read_text()}")


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    visit(page, address)
    yield page
    context.close()


def visit(page: Page, address: str) -> None:
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_selector("body.ready #examples button")


def pick_example(page: Page, number: int) -> None:
    page.locator("#examples button").nth(number).click()
    page.wait_for_selector(".stage.filled img.picture")


def ask(page: Page, kind: str, text: str) -> None:
    """Choose a kind, write, send, and wait until the answer is whole."""
    before = page.locator(".answer footer").count()
    page.locator("#kind label", has_text=kind).first.click()
    page.locator("#question textarea").fill(text)
    page.locator("#send").click()
    expect(page.locator(".answer footer")).to_have_count(before + 1)
    page.wait_for_selector("#send:visible")


def downloaded_mask(page: Page) -> np.ndarray:
    with page.expect_download() as download:
        page.locator("#legend .download").first.click()
    return np.asarray(Image.open(download.value.path()).convert("L")) == 255


def known_object() -> tuple[int, dict]:
    """Number of KNOWN's picture among the examples, and what the truth says about the object."""
    picture, name = KNOWN
    (known,) = [item for item in TRUTH[picture] if item["name"] == name]
    return list(TRUTH).index(picture), known


def first_name(number: int) -> str:
    """The name of the first object in an example."""
    return TRUTH[list(TRUTH)[number]][0]["name"]


# ---- the visit -------------------------------------------------------------------------------------------


def test_a_visitor_segments_asks_again_and_changes_the_length(page: Page) -> None:
    number, known = known_object()
    pick_example(page, number)
    expect(page.locator("#suggestions button").first).to_have_text(first_name(number))
    page.locator("#question textarea").fill(known["name"])
    expect(page.locator("#preview code")).to_have_text(f"Segment <ref>{known['name']}</ref>.")

    page.evaluate(WATCH_ANSWER)
    ask(page, "Segment", known["name"])
    seen = page.evaluate("window.seen")
    assert len(seen) >= 2, f"the answer did not stream: {seen}"
    expect(page.locator(".turn .asked").first).to_have_text(f"Segment <ref>{known['name']}</ref>.")
    expect(page.locator(".said .chip summary").first).to_contain_text("tokens")

    area = page.locator("#stage img.area")
    expect(area).to_have_count(1)
    assert area.evaluate("image => image.complete && image.naturalWidth > 0")
    colours = {page.locator(selector).first.evaluate("item => item.style.getPropertyValue('--object')")
               for selector in ("#stage img.area", "#legend li", ".said .chip")}
    assert len(colours) == 1

    mask, truth = downloaded_mask(page), geometry.rle_to_mask(known["mask"])
    assert mask.shape == truth.shape
    assert geometry.mask_iou(mask, truth) >= 0.6

    whole = area.get_attribute("src")
    page.locator("#length input[type=number]").fill("1")
    page.locator("#length input[type=number]").press("Enter")
    expect(area).not_to_have_attribute("src", whole)
    expect(page.locator("#lengths [aria-pressed=true]")).to_have_attribute("data-length", "1")
    page.locator("#lengths [data-length='32']").click()
    expect(area).to_have_attribute("src", whole)
    assert page.locator(".turn").count() == 1

    ask(page, "Question", "What is in the picture?")
    assert page.locator(".turn").count() == 2
    expect(page.locator(".said").last).not_to_be_empty()

    page.locator("#retry").click()
    expect(page.locator(".answer footer")).to_have_count(2)
    page.locator("#clear").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator(".stage.filled")).to_have_count(1)


def test_a_visitor_refines_a_mask_and_compares(page: Page) -> None:
    number, known = known_object()
    pick_example(page, number)
    ask(page, "Segment", known["name"])
    truth = geometry.rle_to_mask(known["mask"])
    before = downloaded_mask(page)
    drawn = page.locator("#stage img.area").get_attribute("src")

    page.locator("#refine input").check()
    expect(page.locator("#refinement")).to_contain_text("IoU of the two")
    expect(page.locator("#refinement")).to_contain_text(" ms")
    expect(page.locator("#stage .before img.area")).to_have_attribute("src", drawn)
    expect(page.locator("#stage .after img.area")).not_to_have_attribute("src", drawn)
    after = downloaded_mask(page)
    assert geometry.mask_iou(after, truth) > geometry.mask_iou(before, truth)

    # The line between the two follows its slider.
    line = page.locator("#stage .line")
    middle = line.bounding_box()["x"]
    page.locator("#line input[type=range]").fill("20")
    moved = f"document.querySelector('#stage .line').getBoundingClientRect().x < {middle} - 20"
    page.wait_for_function(moved)

    page.locator("#lengths [data-length='4']").click()
    expect(page.locator("#stage .before img.area")).not_to_have_attribute("src", drawn)
    page.locator("#refine input").uncheck()
    expect(page.locator("#stage .before")).to_have_count(0)
    expect(page.locator("#refinement")).to_be_empty()


def test_a_visitor_asks_which_of_several_things_a_mask_is(page: Page) -> None:
    number, known = known_object()
    pick_example(page, number)
    page.locator("#kind label", has_text="Which is it?").click()
    page.locator("#question textarea").fill("pig, lion")
    expect(page.locator("#preview")).to_contain_text("segment something first")
    ask(page, "Segment", known["name"])
    ask(page, "Which is it?", f"pig, {known['name']}")
    expect(page.locator(".turn .asked").last).to_contain_text(f"A. pig\nB. {known['name']}")
    expect(page.locator(".said").last).to_have_text("B")


def test_a_file_that_is_no_picture_is_refused_with_a_message(page: Page, tmp_path: Path) -> None:
    pick_example(page, 0)
    shown = page.locator("img.picture").get_attribute("src")
    notes = tmp_path / "notes.png"
    notes.write_text("no picture at all")
    page.locator("#strip input[type=file]").set_input_files(notes)
    expect(page.get_by_test_id("toast-text")).to_contain_text("not a picture")
    assert page.locator("img.picture").get_attribute("src") == shown


def test_a_question_without_a_picture_says_what_is_missing(page: Page) -> None:
    page.locator("#question textarea").fill("red apple")
    page.locator("#question textarea").press("Enter")
    expect(page.get_by_test_id("toast-text")).to_contain_text("no picture yet")


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_can_be_dropped_or_pasted(page: Page, kind: str) -> None:
    content = base64.b64encode((EXAMPLES / list(TRUTH)[1]).read_bytes()).decode()
    page.evaluate(HAND_OVER, [kind, "mine.png", "image/png", content])
    page.wait_for_selector(".stage.filled img.picture")


def test_markup_of_a_visitor_is_shown_and_never_run(page: Page) -> None:
    pick_example(page, 0)
    text = "<img src=x onerror=\"window.ran=1\"><script>window.ran=1</script> ${window.ran=1} {{x}} <ref>a"
    ask(page, "Question", text)
    expect(page.locator(".asked").first).to_have_text(text)
    assert page.evaluate("window.ran") is None


def test_visitors_at_the_same_time_share_nothing(browser: Browser, address: str) -> None:
    contexts = [browser.new_context() for _ in range(2)]
    pages = [context.new_page() for context in contexts]
    for number, page in enumerate(pages):
        page.set_default_timeout(PATIENCE)
        visit(page, address)
        pick_example(page, number)
    names = [first_name(number) for number in range(2)]
    for page, name in zip(pages, names):
        page.locator("#question textarea").fill(name)
        page.locator("#send").click()
    for page, name in zip(pages, names):
        expect(page.locator(".answer footer")).to_have_count(1)
        expect(page.locator(".asked")).to_have_text([f"Segment <ref>{name}</ref>."])
    for context in contexts:
        context.close()


def test_nothing_is_fetched_from_elsewhere(browser: Browser, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_default_timeout(PATIENCE)
    visit(page, address)
    pick_example(page, 0)
    assert asked
    assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_one_column_with_the_question_in_reach(
    browser: Browser, address: str, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    visit(page, address)
    pick_example(page, 0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    stage, composer = page.locator("#stage").bounding_box(), page.locator("#composer").bounding_box()
    assert stage["width"] > 330 and composer["width"] > 330
    assert composer["y"] + composer["height"] <= 845
    colour = page.locator(".gradio-container").evaluate("item => getComputedStyle(item).backgroundColor")
    brightness = sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) / (3 * 255)
    assert (brightness > 0.5) == (scheme == "light")
    context.close()
