"""Who may ask, and what happens to clients that misbehave."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
import torch
from fontTools.ttLib import TTFont

import flowgression.web.server as server_module
from flowgression.web.arrays import encode
from flowgression.web.server import MOST_BODY, MOST_CONNECTIONS, PageServer
from tests.web.conftest import Answer

Ask = Callable[..., Answer]
PICTURE = {"model": "a", "class_label": 1, "seed": 3, "num_inference_steps": 4, "guidance_scale": 2.0}


def test_the_page_and_its_files(ask: Ask, server: PageServer) -> None:
    page = ask("GET", f"/?token={server.token}", Authorization=None)
    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert b"<script" in page.body
    for path, file in server.files.items():
        answer = ask("GET", path, Authorization=None)
        assert (answer.status, answer.body) == (200, file.content)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert ask("HEAD", "/").body == b""


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:{port}", "", None])
def test_another_host(ask: Ask, server: PageServer, host: str | None) -> None:
    for path in ("/", "/api/models"):
        assert ask("GET", path, Host=host and host.format(port=server.server_port)).status == 403


def test_localhost_is_this_host(ask: Ask, server: PageServer) -> None:
    assert ask("GET", "/api/models", Host=f"localhost:{server.server_port}").status == 200


def test_another_origin(ask: Ask, server: PageServer) -> None:
    assert ask("POST", "/api/sample", PICTURE, Origin="http://evil.example").status == 403
    assert ask("POST", "/api/sample", PICTURE, Origin="null").status == 403
    assert ask("POST", "/api/sample", PICTURE, Origin=server.url).status == 200


@pytest.mark.parametrize("token", [None, "", "Bearer ", "Bearer wrong", "Bearer ä", "Basic abc"])
def test_a_wrong_token(ask: Ask, token: str | None) -> None:
    for method, path in (("GET", "/api/models"), ("POST", "/api/sample"), ("GET", "/api/nothing")):
        answer = ask(method, path, Authorization=token)
        assert answer.status == 401
        assert "token" in answer.json()["error"]


def test_a_token_in_the_query_is_none(ask: Ask, server: PageServer) -> None:
    assert ask("GET", f"/api/models?token={server.token}", Authorization=None).status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml", "/..%2f..%2fsetup.py", "/%2e%2e/server.py", "/js/../../server.py", "//etc/passwd",
        "/js/..\\..\\server.py", "/etc/passwd", "/server.py", "/index.html%00.js", "/js", "/js/", "/nothing",
    ],
)  # fmt: skip
def test_other_paths_do_not_exist(ask: Ask, path: str) -> None:
    assert ask("GET", path).status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/", "GET, HEAD"), ("GET", "/api/sample", "POST"), ("POST", "/api/models", "GET, HEAD")],
)
def test_another_method(ask: Ask, method: str, path: str, allowed: str) -> None:
    answer = ask(method, path, PICTURE if method == "POST" else None)
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "BREW"])
def test_an_unknown_method(ask: Ask, method: str) -> None:
    assert ask(method, "/").status == 501


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"model": "a", "class_label": NaN}', {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"{}", {"Content_Type": "text/plain"}, 415),
        (b"{}", {"Content_Length": str(MOST_BODY + 1)}, 413),
        (b"{}", {"Content_Length": "-1"}, 411),
        (b"{}", {"Content_Length": "x"}, 411),
        (b"{}", {"Transfer_Encoding": "chunked"}, 411),
    ],
)
def test_bodies_that_are_no_request(ask: Ask, body: bytes, headers: dict[str, str], status: int) -> None:
    assert ask("POST", "/api/sample", body=body, **headers).status == status


def test_200_requests_at_once(ask: Ask, server: PageServer) -> None:
    """Each is answered, few are drawn, the rest is told to come again; afterwards everything is as before."""
    found: Counter[int] = Counter()

    def one() -> None:
        try:
            found[ask("POST", "/api/sample", PICTURE).status] += 1
        except OSError:
            found[0] += 1  # refused before its request was read

    threads = [threading.Thread(target=one) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(found.values()) == 200
    assert set(found) <= {200, 503, 0}
    assert found[200] >= 1
    wait_until(lambda: server.turns.length == 0)
    assert ask("POST", "/api/sample", PICTURE).status == 200


def test_two_tabs_get_what_they_asked_for(ask: Ask) -> None:
    alone = {label: ask("POST", "/api/sample", {**PICTURE, "class_label": label}).body for label in (0, 1)}
    together: dict[int, bytes] = {}

    def tab(label: int) -> None:
        together[label] = ask("POST", "/api/sample", {**PICTURE, "class_label": label}).body

    threads = [threading.Thread(target=tab, args=(label,)) for label in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert together == alone


def test_a_client_that_vanishes_stops_its_drawing(
    server: PageServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames: list[int] = []
    real = server_module.draw

    def slowly(request: Any, emit: Any) -> None:
        def see(frame: dict[str, Any]) -> None:
            frames.append(frame["index"])
            time.sleep(0.05)
            emit(frame)

        real(request, see)

    monkeypatch.setattr(server_module, "draw", slowly)
    connection = send_raw(server, PICTURE | {"num_inference_steps": 200})
    assert connection.recv(1)
    connection.close()
    wait_until(lambda: server.turns.length == 0)
    assert len(frames) < 150


def test_a_client_that_vanishes_while_it_waits(server: PageServer, ask: Ask) -> None:
    with server.turns.turn(lambda: True):
        connection = send_raw(server, PICTURE)
        wait_until(lambda: server.turns.length == 2)
        connection.close()
        wait_until(lambda: server.turns.length == 1)
    assert ask("POST", "/api/sample", PICTURE).status == 200


def test_bytes_that_drip_in(server: PageServer, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such clients are hung up on, and nobody waits for them."""
    monkeypatch.setattr(server_module, "HEADER_TIME", 0.3)
    slow = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(MOST_CONNECTIONS // 2)]
    for connection in slow:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
    assert ask("GET", "/api/models").status == 200
    for connection in slow:
        connection.settimeout(30)
        while connection.recv(1000):
            pass  # the end comes
        connection.close()


def test_an_error_of_the_network_is_told(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(request: Any, emit: Any) -> None:
        raise FloatingPointError("values that are not finite")

    monkeypatch.setattr(server_module, "draw", fail)
    answer = ask("POST", "/api/sample", PICTURE)
    assert (answer.status, answer.json()) == (400, {"error": "values that are not finite"})


def send_raw(server: PageServer, content: dict[str, Any]) -> socket.socket:
    import json

    body = json.dumps(content).encode()
    connection = socket.create_connection(("127.0.0.1", server.server_port))
    head = (
        f"POST /api/sample HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {server.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def glyph(character: str, value: float = 1.0, side: int = 12) -> dict[str, Any]:
    """A picture with a bar of ink as a client sends it."""
    picture = torch.full((side, side), -1.0)
    picture[2:10, 5:8] = value
    return {"character": character, "x": encode(picture)}


def test_a_font_of_pictures(ask: Ask) -> None:
    answer = ask("POST", "/api/font", {"name": "My Hand", "size": 12, "glyphs": [glyph("A"), glyph("&")]})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "font/ttf")
    font = TTFont(BytesIO(answer.body))
    assert font["name"].getDebugName(1) == "My Hand"
    assert set(font.getBestCmap()) == {32, ord("A"), ord("&")}
    assert ask("GET", "/api/font").status == 405


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": ""}, "name"),
        ({"name": "ä\n"}, "name"),
        ({"name": "???"}, "letters or digits"),
        ({"size": 4000}, "size"),
        ({"size": True}, "size"),
        ({"glyphs": []}, "glyphs"),
        ({"glyphs": [glyph("A")] * 2}, "twice"),
        ({"glyphs": [glyph("AB")]}, "one visible character"),
        ({"glyphs": [glyph(" ")]}, "one visible character"),
        ({"glyphs": [glyph("A", side=11)]}, "144"),
        ({"glyphs": [glyph("A", value=-1.0)]}, "shows ink"),
        ({"glyphs": [{"character": "A"}]}, "a glyph must be"),
        ({"more": 1}, "the request must be"),
    ],
)
def test_what_is_no_font(ask: Ask, change: dict[str, Any], reason: str) -> None:
    answer = ask("POST", "/api/font", {"name": "My Hand", "size": 12, "glyphs": [glyph("A")]} | change)
    assert answer.status == 400
    assert reason in answer.json()["error"]
