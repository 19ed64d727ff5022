"""The built site in Chromium and Firefox, headless: `make test-browser`. Skips without the site or a browser.

FLOWGRESSION_PAGE=ADDRESS, such as the one that `flowgression serve` prints, tests a running server's page instead.
"""

import functools
import os
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("websocket", reason="websocket-client is not installed")

from tests.page.bidi import Browser
from tests.page.controls import CONTROLS, ELSEWHERE, FINEST, PICTURES

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs" / "_build" / "site"
AXE = ROOT / "docs" / "_build" / "npm" / "axe-core-4.14.1" / "axe.min.js"
SEVEN = [(0.27, 0.27), (0.72, 0.27), (0.45, 0.82)]  # shares of the width and height
RUNNING = os.environ.get("FLOWGRESSION_PAGE")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not RUNNING and not (SITE / "models" / "index.json").is_file(), reason="run `make site` first"),
]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the site on a plain static server, ready for more of a query."""
    if RUNNING:
        yield RUNNING + ("&" if "?" in RUNNING else "?")
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/?"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Browser]:
    """The page, fresh, with its models ready; no test may leave an error on the console or ask another host."""
    browser.requests.clear()
    browser.errors.clear()
    browser.size(1280, 900)
    _open(browser, f"{site}steps=4")
    yield browser
    assert browser.errors == []
    own = site.split("?")[0]
    assert [url for url in browser.requests if not url.startswith((own, "data:", f"blob:{own}"))] == []


def _open(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.wait("return document.documentElement.dataset.ready")
    browser.js("document.documentElement.style.scrollBehavior = 'auto'")  # a button that glides away is missed
    _settled(browser)


def _settled(browser: Browser) -> None:
    browser.wait("return !document.querySelector('[aria-busy=true]')")


def _visit(browser: Browser, *sections: str) -> None:
    """Scrolls there, so that what is drawn only near the window is drawn."""
    for section in sections:
        browser.js("document.getElementById(given).scrollIntoView({ behavior: 'instant' })", section)
        time.sleep(0.2)


def _picture(browser: Browser, selector: str) -> str:
    return browser.js("return document.querySelector(given).toDataURL()", selector)


def _text(browser: Browser, selector: str) -> str:
    return browser.js("return document.querySelector(given).textContent", selector)


def test_all_models_draw_what_they_are_told(page: Browser) -> None:
    assert page.js("return [...document.querySelectorAll('#model-columns h3')].map((each) => each.textContent)") == [
        "SiT", "ARFlow", "FlowAR", "FastFlowAR", "SiT, one step",
    ]  # fmt: skip
    said = page.js("return [...document.querySelectorAll('#model-columns .said')].map((each) => each.textContent)")
    assert sum("seven" in each for each in said) >= 3, said


LETTERS = [
    [[(0.24, 0.75), (0.5, 0.15), (0.76, 0.75)], [(0.33, 0.55), (0.67, 0.55)]],  # A
    [[(0.35, 0.75), (0.35, 0.15), (0.6, 0.2), (0.6, 0.4), (0.35, 0.45)], [(0.5, 0.45), (0.68, 0.75)]],  # R
]


def test_drawn_letters_become_an_alphabet(page: Browser) -> None:
    _visit(page, "alphabet")
    for number, strokes in enumerate(LETTERS, 1):
        for stroke in strokes:
            page.draw(f"#alphabet-pads .letter:nth-child({number}) canvas", stroke)
    assert page.js("return document.querySelector('#alphabet-png').disabled")
    page.click("#alphabet-go")
    said = page.wait(
        "const said = document.querySelector('#alphabet-status').textContent; return said.includes(' in ') && said",
        timeout=300,
    )
    assert "from 2 in" in said
    ink = page.js(
        """return [...document.querySelectorAll('#alphabet-sheet canvas')].map((canvas) => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const values = data.filter((_, at) => at % 4 === 0), paper = Math.max(...values);
        return values.filter((value) => value < paper - 100).length / values.length; });"""
    )
    assert len(ink) >= 62
    assert all(0.01 < share < 0.5 for share in ink[:62]), ink  # every letter and digit has strokes, none is a blot
    assert page.js("return document.querySelector('#alphabet-line').width") > 200
    saved = page.js(SAVED, {"png": "alphabet.png", "svg": "alphabet.svg", "font": "My-Hand."})
    assert saved["png"][:8] == [0x89, *b"PNG\r\n\x1a\n"]
    paths = ElementTree.fromstring(bytes(saved["svg"])).iter("{http://www.w3.org/2000/svg}path")
    assert sum("Z" in path.attrib["d"] for path in paths) >= 62
    assert saved["widths"]["A"] > 10  # the browser reads the font: its own sanitizer has let it pass
    assert saved["widths"]["A"] != saved["widths"]["other"]
    assert "My-Hand" in _text(page, "#alphabet-status")


PHOTO = """
  const canvas = new OffscreenCanvas(600, 300), context = canvas.getContext("2d");
  context.fillStyle = "#ddd";
  context.fillRect(0, 0, 600, 300);
  context.fillStyle = "#222";
  context.font = "bold 200px sans-serif";
  context.fillText("H", 60, 230);
  context.fillText("o", 340, 230);
  const carried = new DataTransfer(), input = document.querySelector("#alphabet-photo");
  carried.items.add(new File([await canvas.convertToBlob()], "page.png", { type: "image/png" }));
  document.querySelector("#alphabet-photo-text").value = given;
  input.files = carried.files;
  input.dispatchEvent(new Event("change"));
"""


def test_letters_of_a_photo_fill_the_pads(page: Browser) -> None:
    _visit(page, "alphabet")
    page.js(PHOTO, "Hox")
    wait = "const said = document.querySelector('#alphabet-status').textContent; return said.includes('photo') && said"
    assert "shows 2 letters side by side, but 3 are named" in page.wait(wait)
    page.js(PHOTO, "Ho")
    page.wait("return document.querySelector('#alphabet-status').textContent.startsWith('2 letters')")
    chosen = page.js(
        "return [...document.querySelectorAll('#alphabet-pads select')].map((s) => s.selectedOptions[0].text)"
    )
    assert chosen[:2] == ["H", "o"]
    inked = page.js(
        """return [...document.querySelectorAll('#alphabet-pads canvas')].map((canvas) => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const values = data.filter((_, at) => at % 4 === 0), paper = Math.max(...values);
        return values.filter((value) => value < paper - 100).length / values.length; });"""
    )
    assert inked[0] > 0.05
    assert inked[1] > 0.03
    assert inked[2:] == [0, 0]


SAVED = """
  // What is handed to the visitor, by the ending of the file's name; the font is then used.
  const blobs = {}, kept = [], create = URL.createObjectURL;
  URL.createObjectURL = (blob) => { kept.push(blob); return create.call(URL, blob); };
  HTMLAnchorElement.prototype.click = function () { blobs[this.download] = kept.at(-1); };
  for (const [kind, start] of Object.entries(given)) {
    document.querySelector(`#alphabet-${kind}`).click();
    for (let k = 0; k < 600 && !Object.keys(blobs).some((name) => name.startsWith(start)); k++) {
      await new Promise((resolve) => setTimeout(resolve, 100)); }
  }
  const found = { widths: {} };
  for (const [kind, start] of Object.entries(given)) {
    const [name] = Object.keys(blobs).filter((each) => each.startsWith(start));
    found[kind] = [...new Uint8Array(await blobs[name].arrayBuffer())];
  }
  const face = new FontFace("Mine", Uint8Array.from(found.font).buffer);
  document.fonts.add(await face.load());
  const context = document.createElement("canvas").getContext("2d");
  for (const [name, family] of [["A", "Mine"], ["other", "monospace"]]) {
    context.font = `40px ${family}`;
    found.widths[name] = context.measureText("A").width;
  }
  return found;
"""


def test_a_seven_drawn_on_the_page_is_called_a_seven(page: Browser) -> None:
    page.draw("#pad canvas", SEVEN)
    guess = page.wait(
        "const said = document.querySelector('#pad-guess').textContent; return said.includes('%') && said"
    )
    assert "seven" in guess
    page.click("#finish-go")
    page.wait(
        "const models = document.querySelectorAll('#model-columns h3').length;"
        "return models > 3 && document.querySelectorAll('#finish-results .said').length === models"
    )
    said = page.wait(
        "const all = [...document.querySelectorAll('#finish-results .said')].map((each) => each.textContent);"
        "return all.every((each) => each.startsWith('read')) && all"
    )
    assert sum("seven" in each for each in said) >= 3, said


STATE = """
  const all = [...document.querySelectorAll(given)];
  return JSON.stringify(all.map((each) => each instanceof HTMLCanvasElement ? each.toDataURL()
    : each instanceof HTMLSelectElement ? each.value
    : each.textContent + [...each.querySelectorAll("canvas")].map((canvas) => canvas.className).join()));
"""


def test_every_control_is_used(page: Browser) -> None:
    present = page.js(
        "return [...document.querySelectorAll('button[id], input[id], select[id]')].map((each) => each.id)"
    )
    assert set(present) == set(CONTROLS) | ELSEWHERE
    page.js(
        "for (const id of ['memory', 'scales']) document.getElementById(id).scrollIntoView({ behavior: 'instant' })"
    )
    page.wait("return document.querySelectorAll('#scales-maps canvas').length === 4")
    page.wait("return document.querySelectorAll('#state-maps canvas').length === 16")
    _settled(page)
    for control, (action, *rest) in CONTROLS.items():
        governed = rest[-1]
        before = page.js(STATE, governed)
        _use(page, control, action, rest)
        try:
            page.wait(f"const before = {before!r}; const state = await (async (given) => {{ {STATE} }})({governed!r});"
                      "return state !== before;", timeout=60)  # fmt: skip
        except TimeoutError:
            pytest.fail(f"{page.name}: {control} changed nothing of {governed}")
        _settled(page)
    chosen = page.js("return document.querySelector('input[name=class]:checked').value")
    page.js("document.querySelector('input[name=class]:checked').focus()")
    page.press("Right")
    assert page.js("return document.querySelector('input[name=class]:checked').value") != chosen
    _settled(page)


def _use(page: Browser, control: str, action: str, rest: list[str]) -> None:
    selector = f"#{control}"
    if action == "click":
        page.click(selector)
    elif action in ("left", "right", "home"):
        page.js("document.querySelector(given).focus()", selector)
        page.press(action.capitalize())
    elif action == "type":
        page.js("const field = document.querySelector(given); field.focus(); field.select();", selector)
        page.press(rest[0], "Enter")
        page.js("document.activeElement.blur()")
    else:  # a native list is no part of the document, so its choice is made as the browser reports it
        page.js(
            """const [selector, value] = given, list = document.querySelector(selector);
            list.value = value === null ? list.options[list.options.length - 1].value : value;
            list.dispatchEvent(new Event("change", { bubbles: true }));""",
            [selector, None if action == "choose-last" else rest[0]],
        )


def test_forgetting_changes_the_picture(page: Browser) -> None:
    _visit(page, "memory")
    page.wait("return document.querySelectorAll('#state-maps canvas').length === 16")
    _use(page, "past", "choose", ["forget"])
    page.js("document.querySelector('#forget-from').focus()")
    page.press("Left", "Left", "Left")
    page.wait("return document.querySelector('#memory-changed-caption').textContent.includes('forgotten')")
    page.wait("return !document.querySelector('#memory-difference-caption').textContent.endsWith(' 0')")


def test_a_coarse_map_can_be_painted_with_the_keyboard(page: Browser) -> None:
    _visit(page, "scales")
    page.wait("return document.querySelectorAll('#scales-maps canvas').length === 4")
    coarse, fine = "#scales-maps figure:nth-child(1) canvas", FINEST
    second, before = "#scales-maps figure:nth-child(2) canvas", _picture(page, fine)
    untouched = _picture(page, coarse)
    page.js("document.querySelector(given).focus()", second)
    page.press("Left", "Left", "Space", "Right", "Space")
    page.wait("return document.querySelector('#scales-caption').textContent.includes('same to the bit')")
    assert _picture(page, fine) != before
    assert _picture(page, coarse) == untouched


def test_the_circuit_agrees_with_arithmetic(page: Browser) -> None:
    for name in ("adder", "product"):
        _use(page, "circuit", "choose", [name])
        for _ in range(8):
            page.click("#circuit-random")
            values = page.js(
                "return [...document.querySelectorAll('#circuit-numbers dd')].map((each) => each.textContent)"
            )
            assert values[0] == values[1]
    bit = page.js("return document.querySelector('#circuit-inputs button').getAttribute('aria-pressed')")
    page.click("#circuit-inputs button")
    assert page.js("return document.querySelector('#circuit-inputs button').getAttribute('aria-pressed')") != bit


def test_a_link_shows_what_its_sender_saw(page: Browser) -> None:
    _use(page, "seed", "type", ["42"])
    page.js("document.querySelector('#time').focus()")
    page.press("Home", "Right", "Right")
    page.wait("return location.search.includes('seed=42') && location.search.includes('time=20')")
    _settled(page)
    page.wait("return document.querySelector('#model-columns figure:last-child .said').textContent.startsWith('read')")
    seen = page.js(STATE, PICTURES)
    _open(page, page.js("return location.href"))
    page.wait("return document.querySelector('#model-columns figure:last-child .said').textContent.startsWith('read')")
    assert page.js(STATE, PICTURES) == seen


@pytest.mark.parametrize("name", ["__proto__", "constructor"])
def test_names_in_a_link_are_text(page: Browser, site: str, name: str) -> None:
    """The page opens as if the link had not named them; the circuit's bits are as many as they should be."""
    _open(page, f"{site}steps=4&circuit={name}&past={name}&scalesmodel={name}&bits={'x' * 15}&__proto__=1")
    _visit(page, "memory", "scales")
    page.wait("return document.querySelector('#memory-changed-caption').textContent === 'The same'")
    _settled(page)
    numbers = page.js("return [...document.querySelectorAll('#circuit-numbers dd')].map((each) => each.textContent)")
    assert numbers[0] == numbers[1]
    assert "NaN" not in "".join(numbers)


def test_the_tour_has_five_stops_and_keeps_the_focus(page: Browser) -> None:
    page.click("#tour-start")
    titles = []
    for stop in range(5):
        titles.append(_text(page, "#tour-title"))
        assert page.js("return document.activeElement.id") == "tour-title"
        assert _text(page, "#tour-count") == f"Stop {stop + 1} of 5"
        page.click("#tour-next")
    assert len(set(titles)) == 5
    assert page.js("return document.querySelector('#tour').hidden")
    page.click("#tour-start")
    page.click("#tour-next")
    page.click("#tour-back")
    assert _text(page, "#tour-count") == "Stop 1 of 5"
    page.click("#tour-end")
    assert page.js("return document.querySelector('#tour').hidden")


@pytest.mark.skipif(bool(RUNNING), reason="a server takes no uploads")
def test_a_model_of_ones_own_joins_the_others(page: Browser) -> None:
    page.js(
        """const transfer = new DataTransfer();
        for (const name of ["manifest.json", "velocity.onnx"]) {
          const response = await fetch(`models/sit-mnist/${name}`);
          transfer.items.add(new File([await response.blob()], name));
        }
        const input = document.querySelector("#own-files");
        input.files = transfer.files;
        input.dispatchEvent(new Event("change"));"""
    )
    page.wait("return document.querySelector('#own-status').textContent.includes('joined')")
    page.wait("return document.querySelectorAll('#model-columns .said').length === 6")
    _settled(page)
    first, own = page.js(
        "return [...document.querySelectorAll('#model-columns figure')].map((each) => each.querySelector('canvas'))"
        ".filter((_, k) => k === 0 || k === 5).map((canvas) => canvas.toDataURL())"
    )
    assert first == own
    page.js(
        """const transfer = new DataTransfer();
        transfer.items.add(new File(["no"], "notes.txt"));
        const input = document.querySelector("#own-files");
        input.files = transfer.files;
        input.dispatchEvent(new Event("change"));"""
    )
    page.wait("return document.querySelector('#own-status').textContent.includes('no manifest.json')")


def _violations(page: Browser) -> list[str]:
    page.send("script.evaluate", expression=AXE.read_text(), target={"context": page.context}, awaitPromise=False)
    found: list[dict[str, Any]] = page.js("return (await axe.run(document)).violations")
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found for node in each["nodes"]]


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not there: `make test-browser` fetches it")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(page: Browser, theme: str) -> None:
    _use(page, "theme", "choose", [theme])
    page.js(
        "for (const id of ['memory', 'scales']) document.getElementById(id).scrollIntoView({ behavior: 'instant' })"
    )
    page.wait("return document.querySelectorAll('#scales-maps canvas').length === 4")
    assert _violations(page) == []
    page.click("#tour-start")
    assert _violations(page) == []
    page.click("#tour-end")
    _use(page, "theme", "choose", ["auto"])


@pytest.mark.parametrize("width", [320, 390, 768])
def test_phones_need_no_sideways_scroll(page: Browser, width: int) -> None:
    page.size(width, 800)
    _visit(page, "memory", "scales")
    page.wait("return document.querySelectorAll('#scales-maps canvas').length === 4")
    wide = page.js(
        """return [...document.body.querySelectorAll("*")].filter((each) =>
        each.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !each.closest("pre, math"))
        .map((each) => each.tagName + "#" + each.id + "." + each.className)"""
    )
    assert page.js("return document.documentElement.scrollWidth <= document.documentElement.clientWidth"), wide
