"""The page that `flowgression serve` shows of a model of one's own, in Chromium and Firefox: no word of digits."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("websocket", reason="websocket-client is not installed")

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
    """A running server with one colour model of ten classes that are no digits."""
    folder = tmp_path_factory.mktemp("own") / "my-pictures"
    model = SiT(
        sample_size=16, patch_size=4, in_channels=3, hidden_size=16, depth=1, num_heads=2, num_classes=10,
        prediction_type="sample",
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    make_pipeline(model.eval(), id2label=dict(enumerate(NAMES))).save_pretrained(folder)
    server = PageServer(load_models([str(folder)]))
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


MEANS = """
  const canvas = document.querySelector(given), context = canvas.getContext("2d");
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return [0, 1, 2].map((c) => data.filter((_, at) => at % 4 === c).reduce((a, b) => a + b) / (data.length / 4));
"""
