"""A small client of WebDriver BiDi, the protocol that Firefox speaks itself and Chromium through chromedriver.

One connection drives one tab. All network requests and console messages of the tab are kept.
"""

import base64
import itertools
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websocket import WebSocket, create_connection

TIMEOUT = 120.0  # seconds that anything may take; the machine may be busy with other work
EVENTS = ["network.beforeRequestSent", "log.entryAdded"]
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Space": " ", "Left": "\ue012", "Right": "\ue014", "Home": "\ue011"}


class Browser:
    """A tab: navigation, JavaScript, pointer and keys, pictures; `requests` are addresses, `errors` console errors."""

    def __init__(self, socket: WebSocket, name: str):
        self.name = name
        self._socket = socket
        self._numbers = itertools.count(1)
        self.requests: list[str] = []
        self.errors: list[str] = []

    def attach(self) -> "Browser":
        """Takes a tab and subscribes to its events; a session must be open."""
        tree = self.send("browsingContext.getTree")
        self.context = tree["contexts"][0]["context"]
        self.send("session.subscribe", events=EVENTS)
        return self

    def send(self, method: str, **params: Any) -> Any:
        """The result of a command. Raises RuntimeError for an error, TimeoutError without an answer."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            message = json.loads(self._socket.recv())
            if message.get("type") == "event":
                self._note(message["method"], message["params"])
            elif message.get("id") == number:
                if message["type"] == "error":
                    raise RuntimeError(f"{method}: {message['error']}: {message['message']}")
                return message["result"]
        raise TimeoutError(method)

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "network.beforeRequestSent":
            self.requests.append(params["request"]["url"])
        elif method == "log.entryAdded" and params["level"] == "error":
            self.errors.append(str(params.get("text")))

    def open(self, url: str) -> None:
        """Goes there, and waits for the load event."""
        self.send("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def size(self, width: int, height: int) -> None:
        viewport = {"width": width, "height": height}
        self.send("browsingContext.setViewport", context=self.context, viewport=viewport)

    def js(self, code: str, given: Any = None) -> Any:
        """The result of the body of an async function of `given`; anything that JSON can hold."""
        wrapped = f"async (text) => {{ const given = JSON.parse(text); const run = async () => {{ {code} }}; "
        wrapped += "return JSON.stringify((await run()) ?? null); }"
        result = self.send(
            "script.callFunction",
            functionDeclaration=wrapped,
            arguments=[{"type": "string", "value": json.dumps(given)}],
            target={"context": self.context},
            awaitPromise=True,
        )
        if result["type"] == "exception":
            raise RuntimeError(result["exceptionDetails"]["text"])
        return json.loads(result["result"]["value"])

    def wait(self, code: str, timeout: float = TIMEOUT) -> Any:
        """The first true result of `js(code)`."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if found := self.js(code):
                return found
            time.sleep(0.1)
        raise TimeoutError(f"{self.name}: never true: {code}")

    def box(self, selector: str) -> dict[str, float]:
        """Left, top, width and height in the window, after scrolling there."""
        return self.js(
            """const element = document.querySelector(given);
            if (!element) throw new Error("no " + given);
            element.scrollIntoView({ block: "center", behavior: "instant" });
            const { left, top, width, height } = element.getBoundingClientRect();
            return { left, top, width, height };""",
            selector,
        )

    def click(self, selector: str) -> None:
        """Moves the pointer to the middle of an element and presses; the browser finds it, wherever it moved to."""
        self.box(selector)
        found = self.send(
            "script.evaluate",
            expression=f"document.querySelector({json.dumps(selector)})",
            target={"context": self.context},
            awaitPromise=False,
        )
        origin = {"type": "element", "element": {"sharedId": found["result"]["sharedId"]}}
        move = {"type": "pointerMove", "x": 0, "y": 0, "origin": origin}
        press = [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self._perform({"type": "pointer", "id": "mouse", "actions": [move, *press]})

    def draw(self, selector: str, points: Sequence[tuple[float, float]]) -> None:
        """One stroke through points, given as shares of the element's width and height."""
        box = self.box(selector)
        self.stroke([(box["left"] + x * box["width"], box["top"] + y * box["height"]) for x, y in points])

    def stroke(self, points: Sequence[tuple[float, float]]) -> None:
        """Presses at the first point, moves through the others, and lets go."""
        place = [{"type": "pointerMove", "x": round(x), "y": round(y), "duration": 20} for x, y in points]
        actions = [place[0], {"type": "pointerDown", "button": 0}, *place[1:], {"type": "pointerUp", "button": 0}]
        self._perform({"type": "pointer", "id": "mouse", "actions": actions})

    def press(self, *keys: str) -> None:
        """Presses keys, by name or as text, one after the other."""
        actions = []
        for value in itertools.chain(*(KEYS.get(key, key) for key in keys)):
            actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        self._perform({"type": "key", "id": "keyboard", "actions": actions})

    def _perform(self, source: dict[str, Any]) -> None:
        self.send("input.performActions", context=self.context, actions=[source])

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of the window, or of the whole document."""
        origin = "document" if whole else "viewport"
        data = self.send("browsingContext.captureScreenshot", context=self.context, origin=origin)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def firefox() -> Iterator[Browser]:
    """Headless Firefox with a fresh profile."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, "--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", profile]
        with _started(command, r"WebDriver BiDi listening on (ws://\S+)") as address:
            socket = create_connection(f"{address}/session", timeout=TIMEOUT, suppress_origin=True)
            browser = Browser(socket, "firefox")
            browser.send("session.new", capabilities={})
            try:
                yield browser.attach()
            finally:
                socket.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium behind chromedriver."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    assert program is not None
    assert driver is not None
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    options = {"binary": program, "args": flags}
    wanted = {"browserName": "chrome", "webSocketUrl": True, "goog:chromeOptions": options}
    with _started([driver, "--port=0"], r"started successfully on port (\d+)") as port:
        base = f"http://127.0.0.1:{port}/session"
        found = _post(base, {"capabilities": {"alwaysMatch": wanted}})["value"]
        socket = create_connection(found["capabilities"]["webSocketUrl"], timeout=TIMEOUT, suppress_origin=True)
        try:
            yield Browser(socket, "chromium").attach()
        finally:
            socket.close()
            urllib.request.urlopen(urllib.request.Request(f"{base}/{found['sessionId']}", method="DELETE"), timeout=30)


BROWSERS: dict[str, Callable[[], Any]] = {"chromium": chromium, "firefox": firefox}


def missing(name: str) -> str | None:
    """What a browser lacks here, or None."""
    wanted = {"chromium": [("chromium", "google-chrome"), ("chromedriver",)], "firefox": [("firefox-esr", "firefox")]}
    lacking = [names[0] for names in wanted[name] if not any(map(shutil.which, names))]
    return f"{', '.join(lacking)} not installed" if lacking else None


@contextmanager
def _started(command: list[str], pattern: str) -> Iterator[str]:
    """A process; what it says first that matches."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + TIMEOUT
            while time.monotonic() < deadline:
                log.seek(0)
                if match := re.search(pattern, log.read().decode(errors="replace")):
                    break
                assert process.poll() is None, f"{command[0]} ended"
                time.sleep(0.1)
            else:
                raise TimeoutError(f"{command[0]} never said {pattern}")
            yield match[1]
        finally:
            process.terminate()
            process.wait(30)


def _post(url: str, body: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        return json.load(response)
