"""The page that `flowgression serve` shows of a model of one's own, in Chromium and Firefox: no word of digits."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("websocket", reason="websocket-client is not installed")

from flowgression.families.flowar.model import FlowAR
from flowgression.families.sit.model import SiT
from flowgression.sampling.loading import make_pipeline
from flowgression.web.models import load_models
from flowgression.web.server import PageServer
from tests.page.bidi import Browser

pytestmark = pytest.mark.slow
NAMES = ["Symbols", "Smileys and emotion drawn by hand on paper", *(f"class number {number}" for number in range(8))]
RED = [(0.2, 0.5), (0.8, 0.5)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server with colour models of ten classes that are no digits: a SiT, and a FlowAR of three scales."""
    folder = tmp_path_factory.mktemp("own")
    shared: dict[str, Any] = {"sample_size": 16, "in_channels": 3, "hidden_size": 16, "num_heads": 2, "num_classes": 10}
    models = {
        "my-pictures": SiT(patch_size=4, depth=1, prediction_type="sample", **shared),
        "my-scales": FlowAR(
            patch_size=4, scales=(1, 2, 4), encoder_depth=1, decoder_depth=1, flow_width=16, flow_depth=1,
            flow_num_heads=2, **shared,
        ),
    }  # fmt: skip
    for name, model in models.items():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
        make_pipeline(model.eval(), id2label=dict(enumerate(NAMES))).save_pretrained(folder / name)
    server = PageServer(load_models([str(folder / name) for name in models]))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.url
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Browser]:
    browser.errors.clear()
    browser.size(1280, 900)
    browser.open(f"{address}&steps=3")
    browser.wait("return document.documentElement.dataset.ready")
    browser.wait("return !document.querySelector('[aria-busy=true]')")
    yield browser
    assert browser.errors == []


def test_it_is_named_and_nothing_is_said_of_digits(page: Browser) -> None:
    assert page.js("return document.querySelector('h1:not([hidden] *)').textContent") == "my-pictures"
    labels = page.js("return [...document.querySelectorAll('#class-choices label')].map((each) => each.textContent)")
    assert labels == NAMES
    seen = page.js("return document.querySelector('main').innerText")
    for word in ("digit", "four ways", "FastFlowAR", "read as"):
        assert word not in seen.split("Attention from a polynomial")[0].split("FastFlowAR: attention")[0], word
    links = page.js(
        "return [...document.querySelectorAll('.top nav a')].filter((a) => a.offsetParent).map((a) => a.hash)"
    )
    assert "#finish" not in links
    assert "#picture" in links


def test_pictures_are_on_the_first_screen(page: Browser) -> None:
    box = page.js("return document.querySelector('#model-columns .picture').getBoundingClientRect().toJSON()")
    assert box["bottom"] < 900
    assert page.js("return document.querySelectorAll('input[name=class]:checked').length") == 1


@pytest.mark.parametrize("width", [320, 390])
def test_long_names_wrap_on_a_phone(page: Browser, width: int) -> None:
    page.size(width, 800)
    assert page.js("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    boxes = page.js(
        "const all = [...document.querySelectorAll('#class-choices label')];"
        "return all.map((each) => each.getBoundingClientRect().toJSON())"
    )
    assert all(box["left"] >= 0 and box["right"] <= width for box in boxes)
    assert all(box["height"] < 90 for box in boxes)  # words side by side, not letters below each other


def test_a_drawing_is_drawn_anew_as_much_as_the_strength_says(page: Browser, tmp_path: Path) -> None:
    page.js("document.getElementById('picture').scrollIntoView({ behavior: 'instant' })")
    time.sleep(0.2)
    page.draw("#picture-pad canvas", RED)
    drawn = page.js(MEANS, "#picture-pad canvas")
    assert drawn[0] > drawn[1] + 5  # red on white
    found = []
    for strength in ("0.05", "1"):
        page.js(
            """const slider = document.querySelector("#picture-strength"); slider.value = given;
            slider.dispatchEvent(new Event("input", { bubbles: true }));""",
            strength,
        )
        page.click("#picture-go")
        page.wait("return document.querySelector('#picture-results .cost')?.textContent.includes('NFE in all, ')")
        page.wait("return document.querySelector('#picture-results figure:not(.waiting) .said')?.textContent === ''")
        found.append(page.js("return document.querySelector('#picture-results .picture').toDataURL()"))
    assert found[0] != found[1]
    page.click("#picture-clear")
    assert page.js(MEANS, "#picture-pad canvas") == [255, 255, 255]


FILE = """
  const canvas = new OffscreenCanvas(400, 200), context = canvas.getContext("2d");
  context.fillStyle = "#0000ff";
  context.fillRect(0, 0, 400, 200);
  context.fillStyle = "#ff0000";
  context.fillRect(200, 0, 200, 200);  // the middle square: blue on the left, red on the right
  const carried = new DataTransfer(), input = document.querySelector("#picture-file");
  const content = given === "picture.png" ? await canvas.convertToBlob() : "no picture";
  carried.items.add(new File([content], given, { type: "image/png" }));
  input.files = carried.files;
  input.dispatchEvent(new Event("change"));
"""


def test_a_picture_from_a_file_is_drawn_anew_by_every_model(page: Browser) -> None:
    page.js(FILE, "picture.png")
    page.wait("const [r, g, b] = await (async () => {" + MEANS.replace("given", "'#picture-pad canvas'") + "})();"
              "return r > 100 && r < 150 && g < 5 && b > 100 && b < 150")  # fmt: skip
    corners = page.js(
        """const context = document.querySelector("#picture-pad canvas").getContext("2d");
        return [0, 15].map((x) => [...context.getImageData(x, 8, 1, 1).data].slice(0, 3));"""
    )
    assert corners == [[0, 0, 255], [255, 0, 0]]
    page.click("#picture-go")
    done = "[...document.querySelectorAll('#picture-results figure:not(.waiting) .cost')]"
    page.wait(f"return {done}.filter((each) => each.textContent.includes('NFE in all, ')).length === 2")
    page.js(FILE, "broken.png")
    page.wait("return document.querySelector('#status').textContent.includes('broken.png is no picture')")
    assert len(page.errors) == 1
    page.errors.clear()


def test_maps_of_a_model_in_colour_are_painted_in_colour(page: Browser) -> None:
    page.js("document.getElementById('scales').scrollIntoView({ behavior: 'instant' })")
    page.wait("return document.querySelectorAll('#scales-maps canvas').length === 3")
    page.wait("return document.querySelector('#scales-figure').getAttribute('aria-busy') === 'false'")
    sides = page.js("return [...document.querySelectorAll('#scales-maps canvas')].map((each) => each.width)")
    assert sides == [4, 8, 16]
    shown = page.js("return ['brush', 'colour'].map((each) => document.getElementById(`scales-${each}`).offsetParent)")
    assert shown[0] is None
    assert shown[1] is not None
    finest = "return document.querySelector('#scales-maps figure:last-child canvas').toDataURL()"
    before = page.js(finest)
    second = "#scales-maps figure:nth-child(2) canvas"
    page.js("document.querySelector(given).focus()", second)
    page.press("Space")  # in the middle; the pad has the focus ring, and its pixels their colours
    page.press("Left", "Left")
    pixel = page.js(
        """return [...document.querySelector(given).getContext("2d").getImageData(4, 4, 1, 1).data].slice(0, 3)""",
        second,
    )
    assert pixel == [0xD0, 0x30, 0x20]
    page.wait("return document.querySelector('#scales-caption').textContent.includes('same to the bit')")
    assert page.js(finest) != before
    page.click("#scales-clear")
    page.wait(
        f"const means = (() => {{ {MEANS.replace('given', repr(second))} }})(); return means.join() === '255,255,255'"
    )


MEANS = """
  const canvas = document.querySelector(given), context = canvas.getContext("2d");
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return [0, 1, 2].map((c) => data.filter((_, at) => at % 4 === c).reduce((a, b) => a + b) / (data.length / 4));
"""
