"""How fast the built page is: time to the first picture, and 50 guided steps of every model in one thread.

    make site && python benchmarks/page.py

Prints a table for each installed browser, headless, on a plain static server of this machine. The machine should be
idle: wall time is what a visitor waits.
"""

import functools
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.page.bidi import BROWSERS, Browser, missing  # noqa: E402


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def measure(browser: Browser, site: str) -> dict[str, float]:
    """Seconds, by what was waited for."""
    browser.size(1280, 900)
    began = time.perf_counter()
    browser.open(f"{site}?steps=50")
    browser.wait("return document.querySelector('#model-columns figure')?.dataset.seconds")
    found = {"load, and the first picture at 50 steps": time.perf_counter() - began}
    browser.wait("return document.querySelector('#model-columns').getAttribute('aria-busy') === 'false'")
    found["all four pictures"] = time.perf_counter() - began
    # A second seed: the graphs are loaded now.
    browser.js(
        """const seed = document.querySelector("#seed"); seed.value = 2;
        seed.dispatchEvent(new Event("change"));"""
    )
    browser.wait("return document.querySelector('#model-columns').getAttribute('aria-busy') === 'false'")
    figures = "[...document.querySelectorAll('#model-columns figure')]"
    seconds = browser.js(f"return {figures}.map((figure) => [figure.dataset.model, figure.dataset.seconds])")
    return found | {f"50 guided steps, {model}": float(value) for model, value in seconds}


def main() -> None:
    """Measures in every browser."""
    handler = functools.partial(_Quiet, directory=ROOT / "docs" / "_build" / "site")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site = f"http://127.0.0.1:{server.server_address[1]}/"
    for name, start in BROWSERS.items():
        if reason := missing(name):
            print(f"{name}: {reason}")
            continue
        with start() as browser:
            for what, seconds in measure(browser, site).items():
                print(f"{name:10} {what:40} {seconds:6.2f} s", flush=True)
    server.shutdown()


if __name__ == "__main__":
    main()
