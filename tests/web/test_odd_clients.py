"""Clients that send what is no request, hold connections open, or do not read."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

import flowgression.web.server as server_module
from flowgression.web.connections import Connections
from flowgression.web.outgoing import Gone, Outgoing
from flowgression.web.server import HEADERS, MOST_CONNECTIONS, PageServer
from flowgression.web.static import File
from tests.web.conftest import Answer
from tests.web.test_server import PICTURE, send_raw

Ask = Callable[..., Answer]
QUICK = 8.0  # seconds; what is tested here took 15 and more before


def exchange(server: PageServer, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to these bytes."""
    with closing(connected(server)) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        content = b""
        while part := connection.recv(65536):
            content += part
    head, _, body = content.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def connected(server: PageServer, buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    if buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", server.server_port))
    return connection


def head(server: PageServer, first: str, **headers: str) -> bytes:
    """The head of a request with the right Host and token."""
    lines = {"Host": f"127.0.0.1:{server.server_port}", "Authorization": f"Bearer {server.token}"} | headers
    return "".join(f"{line}\r\n" for line in [first, *(f"{a}: {b}" for a, b in lines.items()), ""]).encode()


def odd_heads(server: PageServer) -> Iterator[tuple[int, bytes]]:
    """(status, request) of requests that are none."""
    host, length = f"Host: 127.0.0.1:{server.server_port}\r\n".encode(), b"Content-Length: 2\r\n"
    json = {"Content-Type": "application/json"}
    get, post = head(server, "GET / HTTP/1.1"), head(server, "POST /api/sample HTTP/1.1", **json)
    yield 400, head(server, "GET http://[ HTTP/1.1")
    yield 404, head(server, "GET //[ HTTP/1.1")  # "/[" to the standard library
    yield 400, head(server, "POST http://[::1/api/sample HTTP/1.1")
    for origin in ("http://[", "http://[::1", "//["):
        yield 400, head(server, "GET / HTTP/1.1", Origin=origin)
    yield 400, head(server, "POST /api/sample HTTP/1.1", **json, **{"Content-Length": "9" * 5000}) + b"{}"
    yield 400, host.join([get[: get.index(b"\r\n") + 2], get[get.index(b"\r\n") + 2 :]])
    yield 400, post[:-2] + length * 2 + b"\r\n{}"
    yield 400, post[:-2] + length + b"Content-Length: 3\r\n\r\n{} "
    yield 400, get[:-2] + b"Authorization: Bearer x\r\n\r\n"
    yield 400, get[:-2] + b"no colon\r\n\r\n"
    yield 400, b"GET\r\n\r\n"
    yield 400, b"GET / HTTP/1.1 more\r\n\r\n"
    yield 400, b"\xff\xfe / HTTP/x\r\n\r\n"
    yield 505, b"GET / HTTP/9.9\r\n\r\n"
    yield 501, head(server, "BREW / HTTP/1.1")
    yield 414, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n"
    yield 431, get[:-2] + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n"
    yield 403, b"GET /\r\n\r\n"  # of HTTP/0.9


def test_heads_that_are_none_of_http(server: PageServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has a status and the security headers, and none a traceback."""
    for status, request in odd_heads(server):
        found, headers, body = exchange(server, request)
        assert found == status, request[:200]
        assert headers.items() >= HEADERS.items(), request[:200]
        assert headers["Content-Type"] == "application/json"
        assert b'"error"' in body
    assert capsys.readouterr().err == ""


NUMBERS = [
    "1e400",
    "-1e400",
    "9" * 400,
    "-" + "9" * 25,
    "9" * 5000,
    "NaN",
    "Infinity",
    "[" * 900 + "]" * 900,
    '"\\ud800"',
]


@pytest.mark.parametrize("field", ["class_label", "seed", "num_inference_steps", "guidance_scale", "solver", "model"])
def test_numbers_that_no_float_holds(ask: Ask, capsys: pytest.CaptureFixture[str], field: str) -> None:
    for number in NUMBERS:
        body = f'{{"model": "a", "class_label": 1, "{field}": {number}}}'.encode()
        answer = ask("POST", "/api/sample", body=body)
        assert answer.status == 400, number[:20]
        assert len(answer.body) < 1000
    assert ask("POST", "/api/classify", body=b'{"x": 1e400}').status == 400
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: "])
def test_connections_that_are_held_open_keep_nobody_out(server: PageServer, ask: Ask, sent: bytes) -> None:
    held = [connected(server) for _ in range(MOST_CONNECTIONS)]
    for connection in held:
        connection.sendall(sent)
    began = time.monotonic()
    for _ in range(3):
        assert ask("POST", "/api/sample", PICTURE).status == 200
    assert time.monotonic() - began < QUICK
    for connection in held:
        connection.close()


def test_strangers_who_do_not_read_keep_nobody_out(server: PageServer, ask: Ask) -> None:
    server.files["/large"] = File(bytes(2**24), "image/png")
    held = [connected(server, buffer=2048) for _ in range(MOST_CONNECTIONS)]
    for connection in held:
        connection.sendall(head(server, "GET /large HTTP/1.1"))
    began = time.monotonic()
    assert ask("GET", "/api/models").status == 200
    assert time.monotonic() - began < QUICK
    for connection in held:
        connection.close()


def test_the_crowd_gives_way_first() -> None:
    """Of full places the oldest of the address that holds the most is hung up on, and never a trusted one."""
    connections = Connections(4)
    pairs = [socket.socketpair() for _ in range(7)]
    mine, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    for one in theirs:
        one.settimeout(0.05)

    def ended(number: int) -> bool:
        try:
            return theirs[number].recv(1) == b""
        except TimeoutError:
            return False

    assert connections.admit(mine[0], "b", 10)
    for number in (1, 2, 3):
        assert connections.admit(mine[number], "a", 10)
    connections.expect(mine[1], None, trusted=True)
    assert connections.admit(mine[4], "b", 10)
    assert [ended(number) for number in range(5)] == [False, False, True, False, False]
    for number in (0, 3, 4):
        connections.expect(mine[number], None, trusted=True)
    assert not connections.admit(mine[5], "a", 10)
    connections.leave(mine[0])
    assert connections.admit(mine[5], "a", 0.01)
    time.sleep(0.05)
    connections.sweep()
    assert ended(5)
    assert len(connections) == 3
    for one in (*mine, *theirs):
        one.close()


def test_where_trusted_connections_hold_all_places(server: PageServer) -> None:
    server.connections = Connections(0)
    status, headers, _ = exchange(server, b"")
    assert status == 503
    assert headers.items() >= HEADERS.items()


def big_frames(count: int, size: int) -> Callable[..., None]:
    def draw(request: Any, emit: Callable[[dict[str, Any]], None]) -> None:
        for index in range(count if request.class_label else 1):
            emit({"index": index, "x": "x" * size})

    return draw


def test_a_slow_reader_blocks_nobody(server: PageServer, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """250 frames of a reader who reads none, and then all of them."""
    monkeypatch.setattr(server_module, "draw", big_frames(250, 150_000))
    with closing(send_raw(server, PICTURE)) as slow:
        assert slow.recv(1)
        began = time.monotonic()
        assert ask("POST", "/api/sample", PICTURE | {"class_label": 0}).status == 200
        assert time.monotonic() - began < QUICK
        slow.settimeout(30)
        read = 1
        while part := slow.recv(2**20):
            read += len(part)
        assert read > 250 * 150_000


def test_a_reader_who_never_reads_is_not_waited_for(
    server: PageServer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "draw", big_frames(10_000, 150_000))
    monkeypatch.setattr(server_module, "MOST_WAITING", 2**20)
    monkeypatch.setattr(server_module, "PATIENCE", 0.3)
    with closing(send_raw(server, PICTURE)) as slow:
        assert slow.recv(1)
        began = time.monotonic()
        assert ask("POST", "/api/sample", PICTURE | {"class_label": 0}).status == 200
        assert time.monotonic() - began < QUICK


def test_lines_leave_in_their_order() -> None:
    sent: list[bytes] = []
    outgoing = Outgoing(sent.append, most=10, patience=30)
    lines = [b"a" * 20, *(bytes([letter]) * 4 for letter in b"cdefgh")]  # one line may always wait
    for line in lines:
        outgoing.put(line)
    outgoing.finish()
    assert sent == lines


def test_a_reader_is_waited_for_so_long() -> None:
    go = threading.Event()
    outgoing = Outgoing(lambda line: go.wait(30), most=10, patience=0.1)
    outgoing.put(b"a" * 20)
    with pytest.raises(Gone):
        outgoing.put(b"b")
    go.set()
    outgoing.finish()


def test_a_client_that_is_gone_is_noticed() -> None:
    def send(line: bytes) -> None:
        raise BrokenPipeError

    outgoing = Outgoing(send, most=10, patience=30)
    outgoing.put(b"a")
    outgoing.finish()
    with pytest.raises(Gone):
        outgoing.put(b"b")
